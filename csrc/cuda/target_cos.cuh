// c_t: the cosine of each row with its own centre, by the main loop of the sweep on gathered centres, so that it has
// the bits that the sweep would give and a duplicate of the target ties with it exactly. Of each block's 128 x 128
// product only the diagonal is computed: warp i takes rows and classes 16 i .. 16 i + 15.
#pragma once

#include "mainloop.cuh"
#include "params.h"

namespace bbs::cuda {

// One tile: the centres of the labels of rows first .. first+127.
class TargetSource {
 public:
  __device__ TargetSource(const ForwardParams& p, int first) : p_(p), first_(first) {}
  __device__ bool done() const { return done_; }
  __device__ void advance() { done_ = true; }
  __device__ int64_t index(int r) const {
    if (first_ + r >= p_.rows) return -1;
    const int64_t label = p_.labels[first_ + r];
    return label != p_.ignore_index && label >= 0 && label < p_.classes ? label : -1;
  }

 private:
  const ForwardParams& p_;
  int first_;
  bool done_ = false;
};

// The cosine of an accumulator element; -0 becomes +0, so that equal cosines have equal bits.
__device__ inline float cosine(float dot, float inv_x, float inv_w) { return dot * inv_x * inv_w + 0.0f; }

template <class Product, template <class, int> class Rows>
__global__ void __launch_bounds__(kThreads) target_cos_kernel(const __grid_constant__ ForwardParams p) {
  extern __shared__ __align__(128) unsigned char memory[];
  using Loop = MainLoop<Product, Rows>;
  float* inv_w = reinterpret_cast<float*>(memory + Loop::kRingBytes);  // [128]
  const int first = blockIdx.x * kTileM;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  Loop loop(memory, p.x, p.w, p.depth);
  TargetSource source(p, first);
  loop.start([&](int r) -> int64_t { return first + r < p.rows ? first + r : -1; }, source);
  float acc[1][2][4] = {};
  float squares;
  loop.template tile<true>(acc, squares, 16 * warp, 16 * warp, source);
  if (threadIdx.x % 2 == 0) inv_w[threadIdx.x / 2] = inverse_norm(squares);
  __syncthreads();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = 16 * warp + 8 * h + lane / 4;
    if (lane % 4 != lane / 8 || first + r >= p.rows) continue;  // the owner of element (r, r)
    const float dot = lane / 4 % 2 == 0 ? acc[0][h][2 * h] : acc[0][h][2 * h + 1];
    const int64_t label = p.labels[first + r];
    float value = cosine(dot, p.inv_norm[first + r], inv_w[r]);
    if (label == p.ignore_index)
      value = 0.0f;
    else if (label < 0 || label >= p.classes)
      value = __int_as_float(0x7fffffff);
    p.cos_target[first + r] = value;
  }
}

}  // namespace bbs::cuda
