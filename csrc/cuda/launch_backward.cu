// The backward's launches one by one; kernels of one type combination are compiled in backward_*.cu.
#include "backward_types.h"
#include "dense_tiles.cuh"
#include "launch.h"
#include "launch_kernel.h"
#include "order_rows.cuh"
#include "row_gradient.cuh"
#include "sort_pairs.cuh"

namespace bbs::cuda {

cudaError_t launch_backward(const std::vector<BackwardLaunch>& launches, const ForwardShape& shape,
                            cudaStream_t stream) {
  const auto one = [&](const BackwardLaunch& l) {
    switch (l.kernel) {
      case BackwardKernel::order_rows: return launch<ForwardParams>(order_rows, l, stream);
      case BackwardKernel::row_scale: return launch<BackwardRowParams>(row_scale, l, stream);
      case BackwardKernel::count_digits: return launch<SortPass>(count_digits, l, stream);
      case BackwardKernel::scan_digits: return launch<SortPass>(scan_digits, l, stream);
      case BackwardKernel::scatter_digits: return launch<SortPass>(scatter_digits, l, stream);
      case BackwardKernel::gather_pairs: return launch<GatherPairs>(gather_pairs, l, stream);
      case BackwardKernel::find_baskets: return launch<DenseParams>(find_baskets, l, stream);
      default: return with_types<BackwardTypes>(shape, [&](auto types) { return types.launch(l, shape, stream); });
    }
  };
  for (const BackwardLaunch& l : launches)
    if (const cudaError_t error = one(l); error != cudaSuccess) return error;
  return cudaSuccess;
}

}  // namespace bbs::cuda
