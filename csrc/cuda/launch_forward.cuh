// Launches of one main loop; included by one small .cu per pair of operand types, which keeps each compilation short.
#pragma once

#include <cuda_runtime.h>

#include "forward.cuh"
#include "launch.h"

namespace bbs::cuda {

// More than 48 KiB of dynamic shared memory has to be asked for; asking again costs next to nothing.
inline cudaError_t launch(void (*kernel)(ForwardParams), const LaunchShape& shape, const ForwardParams& p,
                          cudaStream_t stream) {
  if (shape.shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  const dim3 grid(static_cast<unsigned>(shape.grid_x), static_cast<unsigned>(shape.grid_y));
  kernel<<<grid, static_cast<unsigned>(shape.block), static_cast<size_t>(shape.shared_bytes), stream>>>(p);
  return cudaGetLastError();
}

// The kernels that depend on the main loop, behind plain functions; defined by BBS_FORWARD_UNIT.
struct LoopKernels {
  cudaError_t (*target)(const LaunchShape&, const ForwardParams&, cudaStream_t, bool aligned);
  cudaError_t (*sweep)(const LaunchShape&, const ForwardParams&, cudaStream_t, bool aligned);
};

template <class Product>
cudaError_t launch_target(const LaunchShape& shape, const ForwardParams& p, cudaStream_t stream, bool aligned) {
  return launch(aligned ? target_cos_kernel<Product, AsyncRows> : target_cos_kernel<Product, AnyRows>, shape, p,
                stream);
}

template <class Product, template <class, int> class Rows>
cudaError_t launch_sweep_with(const LaunchShape& shape, const ForwardParams& p, cudaStream_t stream) {
  if (mines(p)) return launch(forward_kernel<Product, Rows, Sweep::mine>, shape, p, stream);
  if (reads_other_baskets(p)) return launch(forward_kernel<Product, Rows, Sweep::dense>, shape, p, stream);
  return launch(forward_kernel<Product, Rows, Sweep::own>, shape, p, stream);
}

template <class Product>
cudaError_t launch_sweep(const LaunchShape& shape, const ForwardParams& p, cudaStream_t stream, bool aligned) {
  return aligned ? launch_sweep_with<Product, AsyncRows>(shape, p, stream)
                 : launch_sweep_with<Product, AnyRows>(shape, p, stream);
}

}  // namespace bbs::cuda
