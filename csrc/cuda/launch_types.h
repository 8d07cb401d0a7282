// The launches that depend on the operand types: declared here, defined in launch_types.inl, and compiled for one
// combination of types in each forward_*.cu.
#pragma once

#include "operand_types.h"

namespace bbs::cuda {

// `stored`: bytes of an element of w.
template <class Op, int stored>
struct LaunchTypes {
  static cudaError_t prepare(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan,
                             cudaStream_t stream);
  static cudaError_t sweep(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan, cudaStream_t stream);
};

}  // namespace bbs::cuda
