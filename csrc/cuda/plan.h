// Launch plans: pure functions of the problem, so that a test can ask for exactly what the launcher does.
// The classes are cut into splits of whole tiles, a tile never straddles a basket, and what a split sweeps of one
// basket is a segment. Row blocks share the W of a split through L2: they are the fast grid dimension.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "params.h"
#include "shape.h"

namespace bbs::cuda {

struct LaunchShape {
  int64_t grid_x, grid_y;
  int64_t block;
  int64_t shared_bytes;
};

struct ForwardPlan {
  LaunchShape norms, order, target, sweep, merge;
  int64_t splits;
  int64_t list_length;
  int64_t queue_length;
  std::vector<Segment> segments;
  std::vector<int32_t> split_begin;
  std::vector<int32_t> basket_begin;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The operand ring. A row of a tile_k step is 64 bytes: 32 16-bit or 16 fp32 elements. fp32 centres beside 16-bit rows
// have 128, and one stage less, so that a block still fits where shared memory ends at 99 KiB.
inline bool is_mixed(DType x, DType w) { return x != DType::f32 && w == DType::f32; }
inline int64_t ring_bytes(DType x, DType w) {
  return is_mixed(x, w) ? 3 * (kTileM * 64 + kTileN * 128) : 4 * (kTileM * 64 + kTileN * 64);
}
constexpr int64_t kSweepState = 12 * 1024;  // upper bound of SweepState in sweep_state.cuh, checked there
constexpr int64_t kTargetState = 1024;      // inverse norms of the gathered centres

inline void cut_segments(ForwardPlan& plan, const int64_t* offsets, int64_t baskets, int64_t listed) {
  int64_t tiles = 0;
  for (int64_t b = 0; b < baskets; ++b) tiles += ceil_div(offsets[b + 1] - offsets[b], kTileN);
  plan.split_begin.assign(plan.splits + 1, 0);
  plan.basket_begin.assign(baskets + 1, 0);
  int64_t tile = 0;
  int64_t split = 0;
  const auto last_tile = [&](int64_t s) { return tiles * (s + 1) / plan.splits; };
  for (int64_t b = 0; b < baskets; ++b) {
    plan.basket_begin[b] = static_cast<int32_t>(plan.segments.size());
    for (int64_t first = offsets[b]; first < offsets[b + 1];) {
      while (tile >= last_tile(split)) plan.split_begin[++split] = static_cast<int32_t>(plan.segments.size());
      const int64_t last = std::min(offsets[b + 1], first + (last_tile(split) - tile) * kTileN);
      const int64_t capacity = std::min(listed, last - first);
      plan.segments.push_back({static_cast<int32_t>(b), static_cast<int32_t>(first), static_cast<int32_t>(last),
                               static_cast<int32_t>(plan.list_length), static_cast<int32_t>(capacity)});
      plan.list_length += capacity;
      tile += ceil_div(last - first, kTileN);
      first = last;
    }
  }
  plan.basket_begin[baskets] = static_cast<int32_t>(plan.segments.size());
  while (split < plan.splits) plan.split_begin[++split] = static_cast<int32_t>(plan.segments.size());
}

// `blocks`: how many blocks the machine runs at once (multiprocessors x blocks on each).
inline ForwardPlan plan_forward(int64_t rows, DType x, DType w, const int64_t* offsets, int64_t baskets, int64_t k,
                                int64_t skip, int64_t blocks) {
  ForwardPlan plan{};
  int64_t tiles = 0;
  for (int64_t b = 0; b < baskets; ++b) tiles += ceil_div(offsets[b + 1] - offsets[b], kTileN);
  const int64_t row_blocks = std::max<int64_t>(1, ceil_div(rows, kTileM));
  const int64_t wanted = std::max<int64_t>(1, blocks / row_blocks);
  plan.splits = std::clamp<int64_t>(std::min(wanted, tiles), 1, 65535);
  cut_segments(plan, offsets, baskets, k > 0 ? k + skip : 0);
  plan.queue_length = k > 0 ? kQueueLength : 0;
  plan.norms = {ceil_div(std::max<int64_t>(rows, 1), kWarps), 1, kThreads, 0};
  plan.order = {ceil_div(std::max<int64_t>(rows, 1), kThreads), 1, kThreads, 0};
  plan.target = {row_blocks, 1, kThreads, ring_bytes(x, w) + kTargetState};
  plan.sweep = {row_blocks, plan.splits, kThreads, ring_bytes(x, w) + kSweepState};
  plan.merge = {std::max<int64_t>(rows, 1), 1, 128, 0};
  return plan;
}

}  // namespace bbs::cuda
