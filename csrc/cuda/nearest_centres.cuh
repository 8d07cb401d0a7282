// Classes of several centres: of a row's cosines with the centres of a class the largest counts, the first where they
// tie. The others are masked as an excluded class is, so that whatever follows sees one column per class and knows
// nothing of centres: the log-sum-exp, the lists, and the coefficients, whose gradient then goes to that column alone.
// The centres of a class lie in different lanes and warps: rows pass through shared memory, a few at a time.
#pragma once

#include "sweep_shared.h"
#include "tile_layout.cuh"

namespace bbs::cuda {

// The rows that the threads of a block hold as their i-th have slots: 0 to 7 are rows 8 i ..., and the warps of the
// lower half of a tensor-core tile hold 8 to 15, 64 rows on.
template <class Loop>
constexpr int kNearestSlots = kTileM / Loop::kThreadRows;
__device__ __forceinline__ int row_of_slot(int i, int slot) { return slot / 8 * 64 + 8 * i + slot % 8; }

// Thread by thread, a column: the masks of the rows of one step.
__device__ __forceinline__ void mask_farther(const Problem& q, SweepState& s, const Tile& tile, int i, int slots,
                                             const float* cosines) {
  const int column = thread_again(), from_first = column - (tile.first - tile.start);
  const bool real = from_first >= 0 && column < tile.last - tile.start;
  const int place = real ? from_first % q.subcenters : 0;  // among the centres of its class
  const float* row = cosines + column;
#pragma unroll 1
  for (int n = 0; n < slots; ++n, row += kNearestRow) {
    bool farther = false;
#pragma unroll 1
    for (int k = -place; real && k < q.subcenters - place; ++k)
      if (k < 0 ? row[k] >= row[0] : row[k] > row[0]) farther = true;
    const uint32_t bits = __ballot_sync(0xffffffffu, farther);
    if (column % 32 == 0) s.masked[row_of_slot(i, n)][column / 32] |= bits;
  }
}

// Adds to the masks the columns that are not the nearest of their class. By all threads, after the barrier that follows
// the masks and inverse norms; ends with a barrier. `cosines`: kNearestBytes of shared memory.
template <class Loop>
__device__ __forceinline__ void mask_farther_centres(const Problem& q, SweepState& s, Loop& loop, const Tile& tile,
                                                     float* cosines) {
  static_assert(kNearestSlots<Loop> * kNearestRow * sizeof(float) <= kNearestBytes, "the rows of a step fit");
  static_assert(kThreads == kTileN && kTileN == 32 * kMaskWords, "a thread per column, a warp per word of the masks");
#pragma unroll
  for (int i = 0; i < Loop::kThreadRows; ++i) {
    const float x_inverse = s.row[loop.row(i)].inverse_norm;
    float* const to = cosines + (loop.row(0) / 64 * 8 + loop.row(0) % 8) * kNearestRow;
#pragma unroll
    for (int j = 0; j < Loop::kThreadColumns; ++j) {
      const int at = loop.column(j);
      to[at] = cosine(loop.product(i, j), x_inverse, s.w_inverse[at]);
    }
    __syncthreads();
    mask_farther(q, s, tile, i, kNearestSlots<Loop>, cosines);
    __syncthreads();
  }
}

}  // namespace bbs::cuda
