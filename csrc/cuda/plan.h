// The launches of one forward call as a pure function of the problem and the machine: grids, shared memory, splits and
// the layout of the workspace. Nothing here asks a driver, so a test launches exactly what production launches.
#pragma once

#include "../common/rule.h"
#include "sweep_shared.h"

namespace bbs::cuda {

struct Operand {
  enum : int32_t { bf16 = 0, fp16 = 1, tf32 = 2, fp32 = 3 };
};

struct Machine {
  int32_t multiprocessors;
  int32_t shared_per_block;  // bytes, the opt-in limit
  int32_t shared_per_multiprocessor;
  int32_t streaming = 0;  // 1: never keep x in shared memory, for tests and reports
};

// `arch` as in sm_80. A later one gets the smallest limits.
inline Machine machine_of(int arch, int multiprocessors) {
  if (arch == 80 || arch == 87) return {multiprocessors, 163 * 1024, 164 * 1024};
  if (arch == 90 || arch == 100 || arch == 103 || arch == 110) return {multiprocessors, 227 * 1024, 228 * 1024};
  return {multiprocessors, 99 * 1024, 100 * 1024};
}

struct ForwardShape {
  int32_t operand;  // Operand
  int32_t w_bytes;  // of an element: 4, or 2 with a 16-bit operand
  int32_t w_transposed;
  int32_t vectors;                      // rows of x and of w's memory start on 16 bytes
  int32_t rows, dim, centres, baskets;  // centres: rows of w
  int32_t rule, k, skip;
  int32_t aliases;  // given or not
  int32_t subcenters;
};

// Bytes from the start of the workspace.
struct ForwardWorkspace {
  int64_t inverse_norm, cos_target, guard, basket, order, target, pairs, lists, mates, pending, total;
};

struct ForwardPlan {
  int32_t resident;
  int32_t tiles;
  int32_t splits;
  int32_t list_length;
  int32_t row_blocks;  // the sweep's grid is row_blocks x splits
  int32_t threads;
  int32_t shared_bytes;
  int32_t prepare_blocks, order_blocks, merge_blocks;
  ForwardWorkspace at;
};

inline int32_t operand_bytes(int32_t operand) { return operand <= Operand::fp16 ? 2 : 4; }

// First tile of each basket; returns how many there are. `offsets` of centres; `tile_begin` [K + 1] may be null.
inline int32_t plan_tiles(const int64_t* offsets, int32_t baskets, int32_t align, int32_t subcenters,
                          int32_t* tile_begin) {
  const int64_t step = tile_step(subcenters, align);
  int64_t tiles = 0;
  for (int32_t b = 0; b < baskets; ++b) {
    if (tile_begin) tile_begin[b] = static_cast<int32_t>(tiles);
    const int64_t begin = subcenters > 1 ? offsets[b] : offsets[b] / align * align;
    if (offsets[b + 1] > offsets[b]) tiles += (offsets[b + 1] - begin + step - 1) / step;
  }
  if (tile_begin) tile_begin[baskets] = static_cast<int32_t>(tiles);
  return static_cast<int32_t>(tiles);
}

// `offsets` [K + 1] of centres, here and in what follows.
inline ForwardPlan plan_forward(const ForwardShape& s, const int64_t* offsets, const Machine& machine) {
  ForwardPlan plan{};
  const int32_t x_element = operand_bytes(s.operand);
  const int32_t state = static_cast<int32_t>(sizeof(SweepState));
  const int64_t resident =
      int64_t{k_tiles(s.dim, x_element)} * kXTileBytes + tile_bytes(x_element, s.w_bytes, true) + state;
  // The element-wise loads of odd shapes exist for streaming only, and so do classes of several centres.
  const bool several = s.subcenters > 1;
  plan.resident = !machine.streaming && s.vectors && !several && resident <= machine.shared_per_block;
  const int32_t streaming = tile_bytes(x_element, s.w_bytes, false) + state + (several ? kNearestBytes : 0);
  plan.shared_bytes = plan.resident ? static_cast<int32_t>(resident) : streaming;
  plan.threads = kThreads;
  plan.tiles = plan_tiles(offsets, s.baskets, class_align(s.w_transposed, s.w_bytes), s.subcenters, nullptr);
  plan.row_blocks = (s.rows + kTileM - 1) / kTileM;
  plan.list_length = mines_lists(Rule{s.rule}, s.k) ? s.k + s.skip : 0;

  constexpr int32_t kBlocksByRegisters = 2;  // 255 registers x 128 threads twice fill the register file
  constexpr int32_t kReserved = 1024;        // shared memory the system keeps per block
  const int32_t by_shared = machine.shared_per_multiprocessor / (plan.shared_bytes + kReserved);
  const int32_t blocks = by_shared < 1 ? 1 : by_shared < kBlocksByRegisters ? by_shared : kBlocksByRegisters;
  const int32_t wanted = plan.row_blocks ? machine.multiprocessors * blocks / plan.row_blocks : 1;
  plan.splits = wanted < 1 ? 1 : wanted;
  if (plan.splits > plan.tiles) plan.splits = plan.tiles > 0 ? plan.tiles : 1;

  plan.prepare_blocks = (s.rows + kPrepareRows - 1) / kPrepareRows;
  plan.order_blocks = (s.rows + kPrepareThreads - 1) / kPrepareThreads;
  plan.merge_blocks = s.rows;

  const auto take = [&](int64_t bytes) {
    const int64_t at = plan.at.total;
    plan.at.total += (bytes + 255) / 256 * 256;
    return at;
  };
  const int64_t rows = s.rows;
  plan.at.inverse_norm = take(rows * 4);
  plan.at.cos_target = take(rows * 4);
  plan.at.guard = take(rows * 4);
  plan.at.basket = take(rows * 4);
  plan.at.order = take(rows * 4);
  plan.at.target = take(several ? rows * 4 : 0);
  plan.at.pairs = take(rows * plan.splits * int64_t{sizeof(LsePair)});
  const int64_t slots = plan.list_length ? int64_t{plan.splits} + s.baskets - 1 : 0;
  plan.at.lists = take(slots * rows * plan.list_length * int64_t{sizeof(TopkKey)});
  plan.at.mates = take(s.aliases ? slots * rows * 4 : 0);
  plan.at.pending = take(plan.list_length ? int64_t{plan.row_blocks} * plan.splits * kTileM * kPendingCapacity * 8 : 0);
  return plan;
}

// Fills what the plan decides; the caller has set p.problem, p.out and the two pointers of the basket table.
inline void place_workspace(ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan, void* workspace) {
  char* base = static_cast<char*>(workspace);
  p.row.inverse_norm = reinterpret_cast<float*>(base + plan.at.inverse_norm);
  p.row.cos_target = reinterpret_cast<float*>(base + plan.at.cos_target);
  p.row.guard = reinterpret_cast<float*>(base + plan.at.guard);
  p.row.basket = reinterpret_cast<int32_t*>(base + plan.at.basket);
  p.row.order = reinterpret_cast<int32_t*>(base + plan.at.order);
  p.row.target = s.subcenters > 1 ? reinterpret_cast<int32_t*>(base + plan.at.target) : nullptr;
  p.sweep.pairs = reinterpret_cast<LsePair*>(base + plan.at.pairs);
  p.sweep.lists = reinterpret_cast<TopkKey*>(base + plan.at.lists);
  p.sweep.mates = s.aliases && plan.list_length ? reinterpret_cast<int32_t*>(base + plan.at.mates) : nullptr;
  p.sweep.pending = reinterpret_cast<TopkKey*>(base + plan.at.pending);
  p.sweep.tiles = plan.tiles;
  p.sweep.tile_step = tile_step(s.subcenters, class_align(s.w_transposed, s.w_bytes));
  p.sweep.splits = plan.splits;
  p.sweep.list_length = plan.list_length;
}

}  // namespace bbs::cuda
