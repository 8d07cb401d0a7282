// What happens to a tile of dot products while it is still in registers: cosines, NaN marks, exclusions, the online
// log-sum-exp of the dense classes, and candidates for the lists. The common tile (full, of a basket that no row here
// belongs to, without an exclusion and below every threshold) costs two multiplications and a maximum per product.
#pragma once

#include "nearest_centres.cuh"
#include "sweep_state.cuh"
#include "topk_list.cuh"

namespace bbs::cuda {

struct PlainExp2 {
  __device__ __forceinline__ float operator()(float v) const { return exp2_approx(v); }
};

constexpr float kLog2E = 1.4426950408889634f;

// Stands in for the inverse norm of a column outside the tile. A tile of a transposed w begins at a 16-byte chunk, so
// such a column may be a class of the basket beside, whose NaN must not reach rows that do not touch it.
constexpr float kNoClass = -0.0f;
__device__ __forceinline__ bool is_class(float w_inverse) { return __float_as_uint(w_inverse) != 0x80000000u; }

// Classes of the tile whose alias some row here may have: found by the thread of its first column, compared by every
// row. `several`, here and below: classes have several centres.
template <bool several>
__device__ __forceinline__ void find_alias_hits(const ForwardParams& p, SweepState& s, const Tile& tile) {
  const int c = tile.start + static_cast<int>(threadIdx.x);
  if (c < tile.first || c >= tile.last) return;
  if (several && c % p.problem.subcenters != 0) return;
  const int64_t alias = p.problem.aliases[several ? c / p.problem.subcenters : c];
  if (alias < 0 || !(s.bloom[bloom_bit(alias) / 32] >> bloom_bit(alias) % 32 & 1)) return;
  s.hit[atomicAdd(&s.hits, 1)] = {alias, static_cast<int32_t>(threadIdx.x)};
}

// The bits of a class among 32 columns, of which its first centre is `at`, or would be.
template <bool several>
__device__ __forceinline__ uint32_t class_bits(const Problem& q, int at) {
  if constexpr (!several) return at >= 0 && at < 32 ? 1u << at : 0u;
  const int low = at > 0 ? at : 0, high = at + q.subcenters < 32 ? at + q.subcenters : 32;
  return low < high ? ((1u << (high - low)) - 1) << low : 0u;
}

// Marks, for row `threadIdx.x`, the columns that are never a negative of it: outside the basket, its target, its
// alias-mates. Returns whether there are any.
template <bool several>
__device__ __forceinline__ bool mask_row(const ForwardParams& p, SweepState& s, const Tile& tile) {
  const int r = threadIdx.x;
  const int below = tile.first - tile.start, above = tile.last - tile.start;
  uint32_t any = 0;
#pragma unroll
  for (int w = 0; w < kMaskWords; ++w) {
    const int low = below - 32 * w, high = above - 32 * w;
    uint32_t mask = low >= 32 ? ~0u : low > 0 ? (1u << low) - 1 : 0u;
    mask |= high <= 0 ? ~0u : high < 32 ? ~0u << high : 0u;
    if (!several || s.label[r] >= 0) mask |= class_bits<several>(p.problem, s.label[r] - tile.start - 32 * w);
    s.masked[r][w] = mask;
    any |= mask;
  }
  if (p.problem.aliases && s.alias[r] >= 0) {
    for (int h = 0; h < s.hits; ++h) {
      if (s.hit[h].alias != s.alias[r]) continue;
      const int column = s.hit[h].column;
      if constexpr (several) {
        for (int w = 0; w < kMaskWords; ++w) s.masked[r][w] |= class_bits<true>(p.problem, column - 32 * w);
      } else {
        s.masked[r][column / 32] |= 1u << column % 32;
      }
      ++s.mates[r];
      any = 1;
    }
  }
  return any != 0;
}

// The inverse norms of the tile's classes and the masks. True if any product of the tile is masked. Barriers inside.
// `nearest`: kNearestBytes of shared memory, of classes with several centres only.
template <bool with_norms, bool several, class Loop>
__device__ __forceinline__ bool prepare_epilogue(const ForwardParams& p, SweepState& s, const Tile& tile, Loop& loop,
                                                 float* nearest) {
  const auto put = [&](int column, float squares) {
    const int c = tile.start + column;
    s.w_inverse[column] = c >= tile.first && c < tile.last ? inverse_norm(squares) : kNoClass;
  };
  if constexpr (with_norms)
    loop.norms(put);
  else
    put(threadIdx.x, 1.0f);
  if (p.problem.aliases) {
    find_alias_hits<several>(p, s, tile);
    __syncthreads();
  }
  const bool masked = __syncthreads_or(mask_row<several>(p, s, tile));
  if constexpr (!several) return masked;
  mask_farther_centres(p.problem, s, loop, tile, nearest);
  // Always true, and yet a question: without branches on it ptxas would defer the sums over rows, and spill.
  return masked || p.problem.subcenters > 1;
}

// Adds a thread's share of one row to the row's pair. All lanes of the warp come here together; `dense` and the row
// are the same for the kRowLanes lanes of a row.
template <class Loop>
__device__ __forceinline__ void add_dense(SweepState& s, Loop& loop, int i, bool dense, float limit,
                                          float scale_log2e) {
  const int r = loop.row(i);
  LsePair& pair = s.pair[loop.column_group()][r];
  float top = -__int_as_float(0x7f800000);
#pragma unroll
  for (int j = 0; j < Loop::kThreadColumns; ++j) {
    const float c = loop.product(i, j);
    if (c <= limit) top = fmaxf(top, c);
  }
#pragma unroll
  for (int d = 1; d < Loop::kRowLanes; d *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, d));
  const LsePair old = pair;
  const float lowest = -__int_as_float(0x7f800000);
  const float reference = fmaxf(top, old.max);
  float sum = 0.0f;
  if (dense && top > lowest) {
#pragma unroll
    for (int j = 0; j < Loop::kThreadColumns; ++j) {
      const float c = loop.product(i, j);
      if (c <= limit) sum += exp2_approx((c - reference) * scale_log2e);
    }
  }
#pragma unroll
  for (int d = 1; d < Loop::kRowLanes; d *= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
  if (dense && top > lowest && threadIdx.x % Loop::kRowLanes == 0) {
    if (old.sum != 0.0f) sum += old.sum * exp2_approx((old.max - reference) * scale_log2e);
    pair = {reference, sum};
  }
}

// A thread's share of one row goes to the row's pending buffer where it beats the threshold.
template <class Loop>
__device__ __forceinline__ void offer(SweepState& s, Loop& loop, int i, const RowState& row, const Tile& tile,
                                      TopkKey* pending) {
  const int r = loop.row(i);
#pragma unroll
  for (int j = 0; j < Loop::kThreadColumns; ++j) {
    const float c = loop.product(i, j);
    if (!(c > row.threshold) || !(c <= row.limit)) continue;
    const int slot = atomicAdd(&s.waiting[r], 1);
    pending[r * kPendingCapacity + slot] = make_key(__float_as_uint(c), tile.start + loop.column(j));
  }
}

// `neighbours`: columns outside the tile may be classes.
template <bool with_norms, bool several, bool neighbours, class Loop>
__device__ __forceinline__ void finish_products(const ForwardParams& p, SweepState& s, Loop& loop, const Tile& tile,
                                                TopkKey* pending, float* nearest) {
  loop.find_thread();
  const bool masked = prepare_epilogue<with_norms, several>(p, s, tile, loop, nearest);
  const bool dense_everywhere = dense_in_other_baskets(p.problem.rule);
  const bool touches_everything = reads_other_baskets(p.problem.rule, p.problem.k);
  const float scale_log2e = p.problem.scale * kLog2E;
  const float infinity = __int_as_float(0x7f800000);
  float w_inverse[Loop::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Loop::kThreadColumns; ++j) w_inverse[j] = s.w_inverse[loop.column(j)];

#pragma unroll
  for (int i = 0; i < Loop::kThreadRows; ++i) {
    const int r = loop.row(i);
    const RowState row = s.row[r];
    float top = -infinity;
#pragma unroll
    for (int j = 0; j < Loop::kThreadColumns; ++j) {
      const float c = cosine(loop.product(i, j), row.inverse_norm, w_inverse[j]);
      loop.product(i, j) = c;
      top = max_nan(top, neighbours && !is_class(w_inverse[j]) ? -infinity : c);
    }
    const bool active = row.basket < NoBasket::ignored, own = row.basket == tile.basket;
    if (top != top && active && (own || touches_everything)) s.nan[r] = 1;  // before exclusions: they are touched too
    if (masked) {
#pragma unroll
      for (int j = 0; j < Loop::kThreadColumns; ++j) {
        const int column = loop.column(j);
        if (s.masked[r][column / 32] >> column % 32 & 1) loop.product(i, j) = -infinity;
      }
    }
    const bool dense = own || (active && dense_everywhere);
    if (__any_sync(kAllLanes, dense)) add_dense(s, loop, i, dense, own ? infinity : row.limit, scale_log2e);
    if (!(top <= row.threshold)) offer(s, loop, i, row, tile, pending);
  }
}

// Lists of the tile's rows, a warp per row in turn, by all threads after a barrier. `flush`: the basket ends here, so
// every mined row writes its list, however short.
__device__ __forceinline__ void update_lists(const ForwardParams& p, SweepState& s, const Tile& tile, int first_row,
                                             bool flush, TopkKey* pending) {
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int length = p.sweep.list_length;
  const float infinity = __int_as_float(0x7f800000);
  const int64_t slot = static_cast<int64_t>(blockIdx.y) + tile.basket;
  for (int base = threadIdx.x / 32 * 32; base < kTileM; base += warps * 32) {
    const int mine = base + lane;
    const bool mined = s.row[mine].threshold < infinity;
    const bool filling = s.row[mine].threshold == -infinity && s.waiting[mine] >= length;
    unsigned rows = __ballot_sync(kAllLanes, mined && (flush || filling || s.waiting[mine] > kPendingLimit));
    for (; rows; rows &= rows - 1) {
      const int r = base + __ffs(rows) - 1;
      const int waiting = s.waiting[r], listed = s.listed[r];
      TopkKey* list = p.sweep.lists + (slot * p.problem.rows + first_row + r) * length;
      const TopkKey last = absorb(list, listed, length, pending + r * kPendingCapacity, waiting, lane);
      if (lane == 0) {
        s.waiting[r] = 0;
        s.listed[r] = listed + waiting < length ? listed + waiting : length;
        if (last != kNoKey) s.row[r].threshold = __uint_as_float(key_cos_bits(last));
        if (flush && p.sweep.mates) p.sweep.mates[slot * p.problem.rows + first_row + r] = s.mates[r];
      }
      __syncwarp();
    }
  }
}

}  // namespace bbs::cuda
