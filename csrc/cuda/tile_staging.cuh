// A 128 x 128 tile of fp32 in shared memory, between the fragments of a main loop and coalesced memory in either order.
// Chunks of four columns are permuted by XOR with bits of the row: the eight rows that a warp's fragments touch fall
// into different banks, and so do the chunks of a row.
#pragma once

#include "operand.cuh"
#include "tile_shape.h"

namespace bbs::cuda {

__device__ __forceinline__ int staged(int row, int column) {
  return row * kTileN + (column ^ (((row & 3) << 3) | (row & 4)));
}

// Writes products j and j + 1 of row i of a thread, j even.
template <class Loop>
__device__ __forceinline__ void stage_two(float* stage, const Loop& loop, int i, int j, float a, float b) {
  if constexpr (Loop::kAdjacent > 1) {  // the compiler would store them one by one
    store_shared2(shared_address(stage + staged(loop.row(i), loop.column(j))), __float_as_uint(a), __float_as_uint(b));
  } else {
    stage[staged(loop.row(i), loop.column(j))] = a;
    stage[staged(loop.row(i), loop.column(j + 1))] = b;
  }
}

__device__ __forceinline__ float4 staged_four(const float* stage, int row, int column) {
  return *reinterpret_cast<const float4*>(stage + staged(row, column));
}

// Calls put(row, column, v) with `per` (4 or 8) consecutive columns of a row; a warp covers whole rows.
template <int per, class Put>
__device__ __forceinline__ void each_row_chunk(const float* stage, Put put) {
  constexpr int kChunks = kTileN / per, kRows = kThreads / kChunks;
  const int column = threadIdx.x % kChunks * per;
#pragma unroll 2
  for (int row = threadIdx.x / kChunks; row < kTileM; row += kRows) {
    float v[per];
#pragma unroll
    for (int e = 0; e < per; e += 4) {
      const float4 four = staged_four(stage, row, column + e);
      v[e] = four.x, v[e + 1] = four.y, v[e + 2] = four.z, v[e + 3] = four.w;
    }
    put(row, column, v);
  }
}

// Calls put(row, column, v) with `per` consecutive rows of a column; a warp covers four chunks of rows.
template <int per, class Put>
__device__ __forceinline__ void each_column_chunk(const float* stage, Put put) {
  constexpr int kChunks = kTileM / per, kQuads = kTileN / 4;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll 1
  for (int n = warp; n < kChunks / 4 * (kQuads / 8); n += kThreads / 32) {
    const int row = (n % (kChunks / 4) * 4 + lane / 8) * per, column = (n / (kChunks / 4) * 8 + lane % 8) * 4;
    float v[4][per];
#pragma unroll
    for (int e = 0; e < per; ++e) {
      const float4 four = staged_four(stage, row + e, column);
      v[0][e] = four.x, v[1][e] = four.y, v[2][e] = four.z, v[3][e] = four.w;
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) put(row, column + c, v[c]);
  }
}

// 16 bytes of the operand type.
template <class Op>
__device__ __forceinline__ uint4 pack_chunk(const float (&v)[16 / Op::kBytes]) {
  if constexpr (Op::kBytes == 2)
    return make_uint4(Op::pack(v[0], v[1]), Op::pack(v[2], v[3]), Op::pack(v[4], v[5]), Op::pack(v[6], v[7]));
  else
    return make_uint4(__float_as_uint(round_operand<Op>(v[0])), __float_as_uint(round_operand<Op>(v[1])),
                      __float_as_uint(round_operand<Op>(v[2])), __float_as_uint(round_operand<Op>(v[3])));
}

}  // namespace bbs::cuda
