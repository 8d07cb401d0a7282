// The launches that depend on the operand types: declared here, defined in launch_types.cuh, and compiled for one
// combination of types in each forward_*.cu.
#pragma once

#include "launch.h"

namespace bbs::cuda {

struct Bf16;
struct Fp16;
struct Tf32;
struct Fp32;

// `stored`: bytes of an element of w.
template <class Op, int stored>
struct LaunchTypes {
  static cudaError_t prepare(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan,
                             cudaStream_t stream);
  static cudaError_t sweep(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan, cudaStream_t stream);
};

#ifdef __CUDACC__
template <class Kernel>
cudaError_t launch(Kernel kernel, dim3 grid, int threads, int shared_bytes, const ForwardParams& params,
                   cudaStream_t stream) {
  if (grid.x == 0) return cudaSuccess;
  if (shared_bytes > 48 * 1024) {  // more than a kernel gets unasked
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, threads, shared_bytes, stream>>>(params);
  return cudaGetLastError();
}
#endif

}  // namespace bbs::cuda
