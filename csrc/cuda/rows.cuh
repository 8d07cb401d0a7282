// Before the sweep: inverse norms of the rows of x, the basket of each label, and the rows in basket order, so that a
// row block mostly holds one basket. Rows that take no part come last; their basket tells why.
#pragma once

#include "element.cuh"
#include "params.h"
#include "shape.h"

namespace bbs::cuda {

// The basket that owns class `label`: the last one that begins at or before it (empty baskets own nothing).
__device__ inline int basket_of(const int64_t* offsets, int baskets, int64_t label) {
  int low = 0, high = baskets;  // offsets[low] <= label < offsets[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (offsets[middle] <= label)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// One warp per row.
template <class T>
__global__ void __launch_bounds__(kThreads) row_norm_kernel(const __grid_constant__ ForwardParams p) {
  const int row = blockIdx.x * kWarps + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (row >= p.rows) return;
  const T* at = static_cast<const T*>(p.x.data) + row * p.x.row_stride;
  float squares = 0.0f;
  for (int d = lane; d < p.depth; d += 32) {
    const float v = Element<T>::load(at + d * p.x.col_stride);
    squares = fmaf(v, v, squares);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, step);
  if (lane != 0) return;
  p.inv_norm[row] = inverse_norm(squares);
  const int64_t label = p.labels[row];
  int basket = p.baskets;
  if (label != p.ignore_index) {
    const bool inside = label >= 0 && label < p.classes;
    basket = inside ? basket_of(p.offsets, p.baskets, label) : p.baskets + 1;
    if (!inside && p.bad_label != nullptr) {
      p.bad_label[1] = label;
      __threadfence_system();
      p.bad_label[0] = 1;
    }
  }
  p.row_basket[row] = basket;
}

// A stable sort by counting how many rows come before: B^2 comparisons of integers are nothing beside B C D products.
__global__ void __launch_bounds__(kThreads) row_order_kernel(const __grid_constant__ ForwardParams p) {
  __shared__ int32_t others[kThreads];
  const int row = blockIdx.x * kThreads + threadIdx.x;
  const int mine = row < p.rows ? p.row_basket[row] : 0;
  int before = 0, taking_part = 0;
  for (int first = 0; first < p.rows; first += kThreads) {
    const int other = first + static_cast<int>(threadIdx.x);
    others[threadIdx.x] = other < p.rows ? p.row_basket[other] : p.baskets + 2;
    __syncthreads();
    const int count = min(kThreads, p.rows - first);
    for (int i = 0; i < count; ++i) {
      before += others[i] < mine || (others[i] == mine && first + i < row);
      taking_part += others[i] < p.baskets;
    }
    __syncthreads();
  }
  if (row < p.rows) p.order[before] = row;
  if (row == 0) p.counts[0] = taking_part;
}

}  // namespace bbs::cuda
