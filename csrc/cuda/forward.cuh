// cos_lse forward: grid (row blocks, splits), one pass over W. Each tile's cosines stay in the accumulators: own-basket
// columns go into an online log-sum-exp, others through the row's threshold into its queue (mine), up to the guard into
// the same sum (dense), or nowhere (own). What leaves a block is a (max, sum) pair per row and sorted key lists.
#pragma once

#include "mainloop.cuh"
#include "queues.cuh"
#include "sweep_state.cuh"
#include "target_cos.cuh"
#include "tile_cursor.cuh"

namespace bbs::cuda {

constexpr int kI = kWarpM / 16;
constexpr int kJ = kWarpN / 8;
constexpr float kRounding = 1e-6f;  // above what another order of the two factors changes in a cosine

// Adds the finite ones of eight cosines; -inf marks those left out.
__device__ inline void add_cosines(LsePair& pair, const float (&cos)[2 * kJ], float scale_log2) {
  float top = cos[0];
#pragma unroll
  for (int i = 1; i < 2 * kJ; ++i) top = fmaxf(top, cos[i]);
  if (top == -INFINITY) return;
  float sum = pair.sum;
  if (top > pair.max) {
    sum = sum == 0.0f ? 0.0f : sum * exp2f(scale_log2 * (pair.max - top));
    pair.max = top;
  }
  float more = 0.0f;
#pragma unroll
  for (int i = 0; i < 2 * kJ; ++i) more += exp2f(scale_log2 * (cos[i] - pair.max));
  pair.sum = sum + more;
}

// The tile's accumulators into pairs and queues.
template <Sweep kSweep>
__device__ inline void take_tile(SweepState& s, const ForwardParams& p, const TileCursor& here, Queues& queues,
                                 const float (&acc)[kI][kJ][4], LsePair (&pairs)[kI][2], int row0, int col0) {
  const int t = threadIdx.x % 4, g = threadIdx.x % 32 / 4;
  const bool aliases = p.aliases != nullptr;
  const float scale_log2 = p.scale * 1.44269504088896341f;
  const int count = here.count();
  float inv_w[2 * kJ];
#pragma unroll
  for (int n = 0; n < 2 * kJ; ++n) inv_w[n] = s.inv_w[col0 + n / 2 * 8 + 2 * t + n % 2];
#pragma unroll
  for (int i = 0; i < kI; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = row0 + 16 * i + 8 * h + g;
      const bool own = s.basket[r] == here.basket();
      const float inv_x = s.inv_x[r];
      const float floor = kSweep == Sweep::mine ? s.threshold[r] : INFINITY;
      if (own || (kSweep == Sweep::dense && s.basket[r] >= 0)) {
        const float limit = own ? INFINITY : s.guard[r];
        float cos[2 * kJ];
#pragma unroll
        for (int n = 0; n < 2 * kJ; ++n) {
          const int col = col0 + n / 2 * 8 + 2 * t + n % 2;
          const float c = cosine(acc[i][n / 2][2 * h + n % 2], inv_x, inv_w[n]);
          const bool in = col < count && c <= limit && !excluded(s, r, here.first() + col, col, aliases);
          cos[n] = in ? c : -INFINITY;
        }
        add_cosines(pairs[i][h], cos, scale_log2);
      } else if (kSweep == Sweep::mine) {
        // The common case is that none of the eight comes near: two operations each, and one compare.
        float top = acc[i][0][2 * h] * inv_w[0];
#pragma unroll
        for (int n = 1; n < 2 * kJ; ++n) top = fmaxf(top, acc[i][n / 2][2 * h + n % 2] * inv_w[n]);
        if (!(top * inv_x >= floor - kRounding)) continue;
#pragma unroll
        for (int n = 0; n < 2 * kJ; ++n) {
          const int col = col0 + n / 2 * 8 + 2 * t + n % 2;
          const float c = cosine(acc[i][n / 2][2 * h + n % 2], inv_x, inv_w[n]);
          if (c >= floor && col < count && c <= s.guard[r] && !excluded(s, r, here.first() + col, col, aliases))
            queues.offer(r, c, here.first() + col);
        }
      }
    }
}

// Pairs of the 16 threads that share a row, merged in a fixed order.
__device__ inline void write_pairs(SweepState& s, const ForwardParams& p, const LsePair (&pairs)[kI][2], int row0,
                                   int first, int positions, bool nan) {
  const float scale_log2 = p.scale * 1.44269504088896341f;
#pragma unroll
  for (int i = 0; i < kI; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      LsePair pair = pairs[i][h];
#pragma unroll
      for (int step = 1; step < 4; step *= 2)
        pair = merge(pair, {__shfl_xor_sync(kFullWarp, pair.max, step), __shfl_xor_sync(kFullWarp, pair.sum, step)},
                     scale_log2);
      if (threadIdx.x % 4 == 0) s.pair[threadIdx.x / 32 % kWarpsN][row0 + 16 * i + 8 * h + threadIdx.x % 32 / 4] = pair;
    }
  __syncthreads();
  const int r = threadIdx.x;
  if (r >= kTileM || first + r >= positions) return;
  LsePair pair = s.pair[0][r];
#pragma unroll
  for (int n = 1; n < kWarpsN; ++n) pair = merge(pair, s.pair[n][r], scale_log2);
  if (nan) pair.max = __int_as_float(0x7fffffff);
  reinterpret_cast<LsePair*>(p.pairs)[static_cast<int64_t>(blockIdx.y) * p.rows + first + r] = pair;
}

template <class Product, template <class, int> class Rows, Sweep kSweep>
__global__ void __launch_bounds__(kThreads, 1) forward_kernel(const __grid_constant__ ForwardParams p) {
  extern __shared__ __align__(128) unsigned char memory[];
  using Loop = MainLoop<Product, Rows>;
  SweepState& s = *reinterpret_cast<SweepState*>(memory + Loop::kRingBytes);
  const int positions = p.counts[0];
  const int first = blockIdx.x * kTileM;
  if (first >= positions) return;
  load_rows(s, p, first, positions);

  const int warp = threadIdx.x / 32;
  const int row0 = warp / kWarpsN * kWarpM, col0 = warp % kWarpsN * kWarpN;
  const uint32_t* wanted = kSweep == Sweep::own ? s.own_baskets : nullptr;
  TileCursor here(p, blockIdx.y, wanted);
  TileCursor ahead = here;
  Queues queues(s, p, first, positions);
  LsePair pairs[kI][2];
#pragma unroll
  for (int i = 0; i < kI; ++i) pairs[i][0] = pairs[i][1] = empty_pair();
  bool nan = false;  // of row threadIdx.x

  Loop loop(memory, p.x, p.w, p.depth);
  loop.start([&](int r) -> int64_t { return s.basket[r] < 0 ? -1 : s.row[r]; }, ahead);
  if (kSweep == Sweep::mine && !here.done()) queues.open(here.basket());
  while (!here.done()) {
    float acc[kI][kJ][4] = {};
    float squares;
    loop.template tile<true>(acc, squares, row0, col0, ahead);

    const float inv_w = inverse_norm(squares);
    const int col = threadIdx.x / 2;
    if (threadIdx.x % 2 == 0) {
      s.inv_w[col] = inv_w;
      if (p.aliases != nullptr) s.class_alias[col] = col < here.count() ? p.aliases[here.first() + col] : -1;
    }
    const bool broken = __syncthreads_or(inv_w != inv_w);
    const int r = threadIdx.x;
    if (broken && r < kTileM && (kSweep != Sweep::own || s.basket[r] == here.basket())) nan = true;
    if (kSweep == Sweep::mine && p.aliases != nullptr && r < kTileM && s.alias[r] >= 0) {
      int mates = 0;
      for (int c = 0; c < here.count(); ++c) mates += s.class_alias[c] == s.alias[r];
      s.mates[r] += mates;
    }
    take_tile<kSweep>(s, p, here, queues, acc, pairs, row0, col0);

    const int segment = here.segment();
    here.advance();
    if (kSweep == Sweep::mine) {
      __syncthreads();  // the tile's candidates are in the queues
      if (!here.done() && here.segment() == segment) {
        queues.compact();
      } else {
        queues.close(p.segments[segment], segment);
        if (!here.done()) queues.open(here.basket());
      }
    }
  }
  write_pairs(s, p, pairs, row0, first, positions, nan);
}

}  // namespace bbs::cuda
