// Sweeps without the norms of W, which nothing launches: what they cost beside CUTLASS is what the loop itself costs.
#include "cos_lse_sweep.cuh"

using namespace bbs::cuda;

extern "C" __global__ void __launch_bounds__(kThreads) no_norms_bf16_rows_resident(const __grid_constant__ ForwardParams p) {
  cos_lse_sweep<SweepTypes<TileTypes<Bf16, 2, false>, true, true, false>>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) no_norms_bf16_rows_streaming(const __grid_constant__ ForwardParams p) {
  cos_lse_sweep<SweepTypes<TileTypes<Bf16, 2, false>, false, true, false>>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) no_norms_bf16_columns_resident(const __grid_constant__ ForwardParams p) {
  cos_lse_sweep<SweepTypes<TileTypes<Bf16, 2, true>, true, true, false>>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) no_norms_bf16_columns_streaming(const __grid_constant__ ForwardParams p) {
  cos_lse_sweep<SweepTypes<TileTypes<Bf16, 2, true>, false, true, false>>(p);
}
