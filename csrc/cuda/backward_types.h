// The backward launches that depend on the operand types: declared here, defined in backward_types.inl, and compiled
// for one combination of types in each backward_*.cu.
#pragma once

#include "backward_call.h"
#include "operand_types.h"

namespace bbs::cuda {

// `stored`: bytes of an element of w.
template <class Op, int stored>
struct BackwardTypes {
  static cudaError_t launch(const BackwardLaunch& one, const ForwardShape& s, cudaStream_t stream);
};

}  // namespace bbs::cuda
