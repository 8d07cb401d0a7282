// Which kernel a backward launch asks for, for one combination of operand types.
#pragma once

#include "backward_pairs.cuh"
#include "backward_types.h"
#include "coefficients.cuh"
#include "finish_rows.cuh"
#include "gradient_classes.cuh"
#include "gradient_rows.cuh"
#include "launch_kernel.h"
#include "normalize_classes.cuh"
#include "prepare_rows.cuh"

namespace bbs::cuda {

template <class Types>
cudaError_t launch_typed(const BackwardLaunch& one, const ForwardShape& s, cudaStream_t stream) {
  using Op = typename Types::Op;
  constexpr int kMany = many_values(Types::kTransposed);
  switch (one.kernel) {
    case BackwardKernel::prepare_rows: return launch<ForwardParams>(prepare_rows<Types>, one, stream);
    case BackwardKernel::backward_pairs:
      return lane_values(s.dim, Types::kTransposed) == kFewValues
                 ? launch<BackwardRowParams>(backward_pairs<Types, kFewValues>, one, stream)
                 : launch<BackwardRowParams>(backward_pairs<Types, kMany>, one, stream);
    case BackwardKernel::coefficients:
      if (s.subcenters > 1)
        return s.vectors ? launch<DenseParams>(coefficients<SubcenterTypes<Types, true>>, one, stream)
                         : launch<DenseParams>(coefficients<SubcenterTypes<Types, false>>, one, stream);
      return s.vectors ? launch<DenseParams>(coefficients<SweepTypes<Types, false, true>>, one, stream)
                       : launch<DenseParams>(coefficients<SweepTypes<Types, false, false>>, one, stream);
    case BackwardKernel::normalize_classes: return launch<DenseParams>(normalize_classes<Types>, one, stream);
    case BackwardKernel::gradient_rows: return launch<DenseParams>(gradient_rows<GemmTypes<Op>>, one, stream);
    case BackwardKernel::gradient_classes: return launch<DenseParams>(gradient_classes<Types>, one, stream);
    case BackwardKernel::finish_rows: return launch<BackwardRowParams>(finish_rows<Op>, one, stream);
    default: return cudaErrorInvalidValue;  // not a kernel of these types
  }
}

template <class Op, int stored>
cudaError_t BackwardTypes<Op, stored>::launch(const BackwardLaunch& one, const ForwardShape& s, cudaStream_t stream) {
  return s.w_transposed ? launch_typed<TileTypes<Op, stored, true>>(one, s, stream)
                        : launch_typed<TileTypes<Op, stored, false>>(one, s, stream);
}

}  // namespace bbs::cuda
