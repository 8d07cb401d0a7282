// Before the sweep: the rows in the order of their baskets, so that a block meets few baskets and, under `own`, few
// tiles. For batches of a few thousand rows; the plan sorts larger ones (sort_pairs.cuh), as this takes B^2 steps.
#pragma once

#include "params.h"
#include "tile_shape.h"

namespace bbs::cuda {

// order[position of row i] = i, rows by (basket, i): the position is the number of rows before it, counted.
BBS_KERNEL void order_rows(const ForwardParams& p) {
  __shared__ int32_t other[kPrepareThreads];
  const int rows = p.problem.rows;
  const int i = blockIdx.x * kPrepareThreads + threadIdx.x;
  const int mine = i < rows ? p.row.basket[i] : 0;
  int position = 0;
  for (int base = 0; base < rows; base += kPrepareThreads) {
    const int j = base + threadIdx.x;
    __syncthreads();
    if (j < rows) other[threadIdx.x] = p.row.basket[j];
    __syncthreads();
    const int count = rows - base < kPrepareThreads ? rows - base : kPrepareThreads;
    for (int n = 0; n < count; ++n) position += other[n] < mine || (other[n] == mine && base + n < i);
  }
  if (i < rows) p.row.order[position] = i;
}

}  // namespace bbs::cuda
