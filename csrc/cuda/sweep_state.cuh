// What the blocks of the sweep know of their rows, in shared memory behind the operand ring.
#pragma once

#include "../common/lse_pair.h"
#include "params.h"
#include "plan.h"
#include "shape.h"

namespace bbs::cuda {

// Which classes of other baskets a kernel looks at: none, all up to the guard in the dense sum, or the best few.
enum class Sweep : int { own, dense, mine };

struct SweepState {
  float inv_x[kTileM];
  float guard[kTileM];      // +inf without a guard
  float threshold[kTileM];  // below it a candidate of the current basket cannot be among the best; +inf: none is wanted
  int32_t basket[kTileM];   // -1: no row
  int32_t label[kTileM];
  int32_t row[kTileM];     // in the batch
  int32_t queued[kTileM];  // keys in the row's queue
  int32_t mates[kTileM];   // classes of the row's alias seen in the current segment
  float inv_w[kTileN];
  int64_t alias[kTileM];
  int64_t class_alias[kTileN];
  LsePair pair[kWarpsN][kTileM];
  uint32_t own_baskets[kMaxBaskets / 32];
};
static_assert(sizeof(SweepState) <= kSweepState, "plan.h reserves too little");

__device__ inline void load_rows(SweepState& s, const ForwardParams& p, int first, int count) {
  const int r = threadIdx.x;
  if (r < kMaxBaskets / 32) s.own_baskets[r] = 0;
  __syncthreads();
  if (r < kTileM) {
    const bool there = first + r < count;
    const int row = there ? p.order[first + r] : 0;
    s.row[r] = row;
    s.inv_x[r] = there ? p.inv_norm[row] : 0.0f;
    s.basket[r] = there ? p.row_basket[row] : -1;
    s.label[r] = there ? static_cast<int32_t>(p.labels[row]) : -1;
    s.alias[r] = there && p.aliases != nullptr ? p.aliases[p.labels[row]] : -1;
    s.queued[r] = 0;
    s.mates[r] = 0;
    s.threshold[r] = INFINITY;
    float guard = INFINITY;
    if (there && p.guard_kind == static_cast<int32_t>(GuardKind::absolute)) guard = p.guard_value;
    if (there && p.guard_kind == static_cast<int32_t>(GuardKind::relative)) guard = p.cos_target[row] - p.guard_value;
    if (there && p.guard_kind == static_cast<int32_t>(GuardKind::rows)) guard = p.guard_rows[row];
    s.guard[r] = guard;
    if (there) atomicOr(&s.own_baskets[s.basket[r] / 32], 1u << s.basket[r] % 32);
  }
  __syncthreads();
}

// A class that can never be a negative of a row: its target, or of its alias.
__device__ inline bool excluded(const SweepState& s, int r, int cls, int col, bool aliases) {
  return cls == s.label[r] || (aliases && s.alias[r] >= 0 && s.class_alias[col] == s.alias[r]);
}

}  // namespace bbs::cuda
