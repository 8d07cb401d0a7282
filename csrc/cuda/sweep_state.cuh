// Sets up the state of a block's rows and walks the tiles that they need.
#pragma once

#include "../common/rule.h"
#include "last_not_after.cuh"
#include "params.h"
#include "sweep_shared.h"

namespace bbs::cuda {

__device__ __forceinline__ int bloom_bit(int64_t alias) {
  return static_cast<int>((static_cast<uint64_t>(alias) * 0x9e3779b97f4a7c15ull) >> 52);
}

// Looks up tile `at` of the block's own count, on one thread, which asks for them in order. `align`: classes that start
// a 16-byte chunk of a transposed w, else 1.
template <int align, bool several>
__device__ __forceinline__ void look_up_tile(const ForwardParams& p, SweepState& s, int at) {
  int segment = s.walk_segment, basket = s.walk_basket;
  while (at >= s.segment_end[segment]) ++segment;
  const int begin = segment == 0 ? 0 : s.segment_end[segment - 1];
  const int tile = s.segment_first[segment] + at - begin;
  const int32_t* tile_begin = p.sweep.tile_begin;
  if (tile >= tile_begin[basket + 1]) basket = last_not_after(tile_begin, basket + 1, p.problem.baskets - 1, tile);
  const int begin_class = static_cast<int>(p.problem.offsets[basket]);
  const int end_class = static_cast<int>(p.problem.offsets[basket + 1]);
  s.tile[at % kTileSlots] = cut_tile(basket, begin_class, end_class, tile - tile_begin[basket], align,
                                     several ? p.sweep.tile_step : kTileN, several);
  s.walk_segment = segment;
  s.walk_basket = basket;
}

// Alias of the class of a row that takes part, -1 for none.
__device__ __forceinline__ int64_t alias_of(const Problem& q, int i) {
  if (!q.aliases) return -1;
  if (q.row_alias) return q.row_alias[i];
  return q.labels[i] < 0 ? -1 : q.aliases[q.labels[i]];
}

// Fills the state of the rows at sorted positions first_row..., each by one thread. A barrier inside; one must follow.
__device__ __forceinline__ void fill_rows(const ForwardParams& p, SweepState& s, int first_row) {
  const Problem& q = p.problem;
  for (int w = threadIdx.x; w < kBloomWords; w += blockDim.x) s.bloom[w] = 0;
  if (threadIdx.x == 0) s.hits = s.walk_segment = s.walk_basket = 0;
  __syncthreads();
  for (int r = threadIdx.x; r < kTileM; r += blockDim.x) {
    const int position = first_row + r;
    const int i = position < q.rows ? p.row.order[position] : kNoRow;
    const int basket = i < 0 ? NoBasket::ignored : p.row.basket[i];
    const bool active = basket < NoBasket::ignored;
    s.row[r] = {active ? p.row.inverse_norm[i] : 0.0f, active ? p.row.guard[i] : 0.0f, __int_as_float(0x7f800000),
                basket};
    s.source[r] = active ? i : kNoRow;
    s.label[r] = active && q.labels[i] >= 0 ? static_cast<int>(q.labels[i]) * q.subcenters : kNoRow;
    s.alias[r] = active ? alias_of(q, i) : -1;
    if (s.alias[r] >= 0) atomicOr(&s.bloom[bloom_bit(s.alias[r]) / 32], 1u << bloom_bit(s.alias[r]) % 32);
    s.pair[0][r] = s.pair[1][r] = {-__int_as_float(0x7f800000), 0.0f};
    s.nan[r] = 0;
  }
}

// Fills the state of the rows, by all threads; ends with a barrier. Returns how many tiles they need: all, or under
// `own` those of the baskets that have a row here.
__device__ __forceinline__ int begin_rows(const ForwardParams& p, SweepState& s, int first_row) {
  const Problem& q = p.problem;
  fill_rows(p, s, first_row);
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x;
    int segments = 0, tiles = 0;
    if (reads_other_baskets(q.rule, q.k)) {
      if (lane == 0) s.segment_first[0] = 0, s.segment_end[0] = p.sweep.tiles;
      segments = 1, tiles = p.sweep.tiles;
    } else {
      for (int base = 0; base < kTileM; base += 32) {
        const int r = base + lane, basket = s.row[r].basket;
        const bool head = basket < NoBasket::ignored && (r == 0 || s.row[r - 1].basket != basket);
        int count = head ? p.sweep.tile_begin[basket + 1] - p.sweep.tile_begin[basket] : 0;
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
          const int before = __shfl_up_sync(0xffffffffu, count, d);
          if (lane >= d) count += before;
        }
        const unsigned heads = __ballot_sync(0xffffffffu, head);
        if (head) {
          const int n = segments + __popc(heads & ((1u << lane) - 1));
          s.segment_first[n] = p.sweep.tile_begin[basket];
          s.segment_end[n] = tiles + count;
        }
        segments += __popc(heads);
        tiles += __shfl_sync(0xffffffffu, count, 31);
      }
    }
    if (lane == 0) s.segments = segments;
  }
  __syncthreads();
  return s.segments ? s.segment_end[s.segments - 1] : 0;
}

// A row meets a new basket: under topk it mines every basket but its own.
__device__ __forceinline__ void enter_basket(const ForwardParams& p, SweepState& s, int basket) {
  const bool mines = mines_lists(p.problem.rule, p.problem.k);
  for (int r = threadIdx.x; r < kTileM; r += blockDim.x) {
    const int own = s.row[r].basket;
    const float never = __int_as_float(0x7f800000);
    s.row[r].threshold = mines && own < NoBasket::ignored && own != basket ? -never : never;
    s.waiting[r] = s.listed[r] = s.mates[r] = 0;
  }
}

}  // namespace bbs::cuda
