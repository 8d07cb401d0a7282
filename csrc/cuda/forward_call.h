// One forward call as the host knows it: what the tensors are, how that becomes the shape that is planned, and the
// launches with their parameters. The op bodies and the tests go through here.
#pragma once

#include "../common/layout.h"
#include "margin_params.h"
#include "plan.h"
#include "plan/kernel_list.h"

namespace bbs::cuda {

struct Matrix {
  const void* data;
  int64_t rows, columns;
  int64_t row_stride, column_stride;  // elements
  int32_t bytes;                      // of an element: 2 or 4
};

struct ForwardCall {
  Matrix x, w;
  int32_t operand;  // Operand
  const int64_t* labels;
  const int64_t* aliases;     // or null
  const float* guard_rows;    // or null
  const int64_t* row_basket;  // or null
  const int64_t* row_alias;   // or null
  int64_t baskets;
  int64_t ignore_index;
  Rule rule;
  GuardKind guard_kind;
  int32_t k, skip;
  float scale, guard_value;
  bool mined_in_lse;
  int32_t subcenters;
};

// Where a call's tables and results are, on the device.
struct ForwardMemory {
  const int64_t* offsets;     // [K + 1] of centres
  const int32_t* tile_begin;  // [K + 1], plan_tiles
  BadLabel* bad_label;
  Outputs out;
  void* workspace;   // ForwardPlan::at.total bytes
  bool target_only;  // prepare_rows alone is launched: its cosines are the result
};

inline bool is_transposed(const Matrix& w) { return bbs::is_transposed(w.row_stride, w.column_stride); }

// Elements between the lines of memory, which are its columns when transposed.
inline int64_t line_stride(const Matrix& m, bool transposed) { return transposed ? m.column_stride : m.row_stride; }

// 16-byte copies: whole lines of memory are made of 16-byte chunks.
inline bool has_vectors(const Matrix& m, bool transposed) {
  return (transposed ? m.rows : m.columns) * m.bytes % 16 == 0 && line_stride(m, transposed) * m.bytes % 16 == 0 &&
         reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
}
inline bool has_vectors(const Matrix& x, const Matrix& w) {
  return has_vectors(x, false) && has_vectors(w, is_transposed(w));
}

// Elements that the rows of x may span: XLoader keeps the place of a row in 32 bits, of 16 bytes or of elements.
inline int64_t x_reach(const Matrix& x, const Matrix& w) {
  return (int64_t{1} << 32) * (has_vectors(x, w) ? 16 / x.bytes : 1);
}
inline int64_t x_span(const Matrix& x) { return x.rows > 0 ? (x.rows - 1) * x.row_stride + x.columns : 0; }

// Whether a contiguous copy of x is needed, or pays because w alone would allow 16-byte copies. Beside a sweep, copying
// a batch costs nothing.
inline bool wants_copy(const Matrix& x, const Matrix& w) {
  if (x.columns > 1 && x.column_stride != 1) return true;
  const bool gains = x.columns * x.bytes % 16 == 0 && has_vectors(w, is_transposed(w)) && !has_vectors(x, false);
  return gains || (x.row_stride > x.columns && x_span(x) > x_reach(x, w));
}

inline ForwardShape shape_of(const ForwardCall& c) {
  ForwardShape s{};
  s.operand = c.operand;
  s.w_bytes = c.w.bytes;
  s.w_transposed = is_transposed(c.w);
  s.vectors = has_vectors(c.x, c.w);
  s.rows = static_cast<int32_t>(c.x.rows);
  s.dim = static_cast<int32_t>(c.x.columns);
  s.centres = static_cast<int32_t>(c.w.rows);
  s.baskets = static_cast<int32_t>(c.baskets);
  s.rule = static_cast<int32_t>(c.rule);
  s.k = c.k;
  s.skip = c.skip;
  s.aliases = c.aliases != nullptr;
  s.subcenters = c.subcenters;
  return s;
}

inline ForwardParams pack_forward(const ForwardCall& c, const ForwardShape& s, const ForwardPlan& plan,
                                  const ForwardMemory& memory) {
  ForwardParams p{};
  Problem& q = p.problem;
  q.x = c.x.data;
  q.w = c.w.data;
  q.labels = c.labels;
  q.offsets = memory.offsets;
  q.aliases = c.aliases;
  q.guard_rows = c.guard_rows;
  q.row_basket = c.row_basket;
  q.row_alias = c.row_alias;
  q.x_stride = c.x.row_stride;
  q.w_stride = line_stride(c.w, s.w_transposed);
  q.ignore_index = c.ignore_index;
  q.rows = s.rows;
  q.dim = s.dim;
  q.classes = s.centres / s.subcenters;
  q.baskets = s.baskets;
  q.rule = c.rule;
  q.guard_kind = c.guard_kind;
  q.k = c.k;
  q.skip = c.skip;
  q.scale = c.scale;
  q.guard_value = c.guard_value;
  q.mined_in_lse = c.mined_in_lse;
  q.subcenters = c.subcenters;
  p.sweep.tile_begin = memory.tile_begin;
  p.row.bad_label = memory.bad_label;
  p.out = memory.out;
  place_workspace(p, s, plan, memory.workspace);
  if (memory.target_only) p.row.cos_target = memory.out.cos_target;
  return p;
}

// Blocks of a launch.
struct Grid {
  int64_t x, y = 1, z = 1;
};

// Only the target cosines; see ForwardMemory::target_only.
template <class Launch>
void target_launches(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan, Launch&& launch) {
  launch(kernel_of(KernelName::prepare_rows, s), Grid{plan.prepare_blocks}, kPrepareThreads, 0, p);
}

// Rows in the order of (basket, row), into p.row.order.
template <class Launch>
void order_launches(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan, Launch&& launch) {
  const SortPlan& sort = plan.order_sort;
  if (sort.passes == 0) {
    launch(kernel_of(KernelName::order_rows, s), Grid{plan.order_blocks}, kPrepareThreads, 0, p);
    return;
  }
  char* workspace = reinterpret_cast<char*>(p.row.inverse_norm) - plan.at.inverse_norm + plan.at.order_sort;
  for (int32_t n = 0; n < sort.passes; ++n) {
    SortPass pass = sort_pass(sort, n, nullptr, p.row.basket, s.rows, workspace);
    if (n + 1 == sort.passes) pass.indices_out = p.row.order;
    launch(kernel_of(KernelName::count_digits, s), Grid{sort.blocks}, kSortThreads, 0, pass);
    launch(kernel_of(KernelName::scan_digits, s), Grid{sort.digits}, kSortThreads, 0, pass);
    launch(kernel_of(KernelName::scatter_digits, s), Grid{sort.blocks}, kSortThreads, 0, pass);
  }
}

// What comes before the merge.
template <class Launch>
void sweep_launches(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan, Launch&& launch) {
  target_launches(p, s, plan, launch);
  order_launches(p, s, plan, launch);
  launch(kernel_of(KernelName::cos_lse_sweep, s, plan.resident), Grid{plan.row_blocks, plan.splits}, plan.threads,
         plan.shared_bytes, p);
}

// Calls launch(kernel, grid, threads, shared bytes, parameters) for each launch of a forward with rows, in order.
template <class Launch>
void forward_launches(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan, Launch&& launch) {
  sweep_launches(p, s, plan, launch);
  launch(kernel_of(KernelName::merge_splits, s), Grid{plan.merge_blocks}, kMergeThreads, 0, p);
}

// The same with the merge that makes losses.
template <class Launch>
void margin_launches(const MarginParams& p, const ForwardShape& s, const ForwardPlan& plan, Launch&& launch) {
  sweep_launches(p.forward, s, plan, launch);
  launch(kernel_of(KernelName::merge_margin, s), Grid{plan.merge_blocks}, kMergeThreads, 0, p);
}

}  // namespace bbs::cuda
