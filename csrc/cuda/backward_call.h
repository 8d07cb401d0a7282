// One backward call as its launches: a pure function of what the host knows.
#pragma once

#include "backward_plan.h"
#include "forward_call.h"
#include "plan/kernel_list.h"
#include "sort_plan.h"

namespace bbs::cuda {

// Where a call's inputs and results are, on the device, beside those of the forward.
struct BackwardMemory {
  const int64_t* offsets;     // [K + 1]
  const int32_t* tile_begin;  // [K + 1], plan_tiles
  const float* grad_lse;      // [B]
  const float* grad_cos_t;    // [B]
  const float* lse;           // [B]
  const int64_t* mined_idx;   // [B, K, k]
  const float* mined_cos;     // [B, K, k]
  Matrix dx;                  // data null: not wanted; bytes 4 with a 16-bit x: partial sums
  Matrix dw;                  // strides of w's order
  void* workspace;            // BackwardLayout::total bytes
};

// Plans of the parts, and bytes from the start of the workspace.
struct BackwardLayout {
  ForwardPlan forward;
  BackwardPlan dense;
  SortPlan sort;
  int64_t pair_count;
  int64_t dense_at, sort_at, x_hat, dense_lse, row_factor, grad_scale, sparse_dx, sparse_dot, pairs, sorted, total;
};

inline BackwardLayout lay_out_backward(const ForwardCall& c, const ForwardShape& s, const int64_t* offsets,
                                       const Machine& machine, const BackwardNeeds& needs, int64_t limit) {
  BackwardLayout l{};
  l.forward = plan_forward(s, offsets, machine);
  l.dense = plan_backward(s, offsets, machine, needs, limit);
  l.pair_count = int64_t{s.rows} * (1 + (mines_lists(c.rule, c.k) ? int64_t{s.baskets} * s.k : 0));
  l.sort = plan_sort(l.pair_count, s.centres);
  l.total = l.forward.at.pairs;  // of the forward's workspace: the rows' arrays, which come first
  const auto take = [&](int64_t bytes) {
    const int64_t at = l.total;
    l.total += (bytes + 255) / 256 * 256;
    return at;
  };
  const int64_t padded = l.dense.padded_rows, rows = s.rows;
  l.dense_at = take(l.dense.at.total);
  l.sort_at = take(needs.dw ? l.sort.workspace : 0);
  l.x_hat = take(padded * l.dense.padded_dim * operand_bytes(s.operand));
  l.dense_lse = take(padded * 4);
  l.row_factor = take(padded * 4);
  l.grad_scale = take(4);
  l.sparse_dx = take(needs.dx ? rows * s.dim * 4 : 0);
  l.sparse_dot = take(needs.dx ? rows * 4 : 0);
  l.pairs = take(l.pair_count * int64_t{sizeof(SparsePair)});
  l.sorted = take(needs.dw ? l.pair_count * int64_t{sizeof(SparsePair)} : 0);
  return l;
}

inline BackwardRows place_rows(const BackwardLayout& l, const BackwardNeeds& needs, const BackwardMemory& memory) {
  char* base = static_cast<char*>(memory.workspace);
  BackwardRows r{};
  r.grad_lse = memory.grad_lse;
  r.grad_cos_t = memory.grad_cos_t;
  r.lse = memory.lse;
  r.mined_idx = memory.mined_idx;
  r.mined_cos = memory.mined_cos;
  r.x_hat = base + l.x_hat;
  r.dense_lse = reinterpret_cast<float*>(base + l.dense_lse);
  r.row_factor = reinterpret_cast<float*>(base + l.row_factor);
  r.grad_scale = reinterpret_cast<float*>(base + l.grad_scale);
  r.sparse_dx = reinterpret_cast<float*>(base + l.sparse_dx);
  r.sparse_dot = reinterpret_cast<float*>(base + l.sparse_dot);
  r.pairs = reinterpret_cast<SparsePair*>(base + l.pairs);
  r.sorted = reinterpret_cast<SparsePair*>(base + l.sorted);
  r.pair_count = l.pair_count;
  r.padded_rows = l.dense.padded_rows;
  r.padded_dim = l.dense.padded_dim;
  r.need_dx = needs.dx;
  return r;
}

// Calls launch(kernel, grid, threads, shared bytes, parameters) for each launch, in order. A grid of zero blocks is
// left out.
template <class Launch>
void backward_launches(const ForwardCall& c, const ForwardShape& s, const BackwardLayout& l, const BackwardNeeds& needs,
                       const BackwardMemory& memory, Launch&& launch) {
  const auto add = [&](KernelName name, const Grid& grid, int32_t threads, int32_t shared, const auto& params) {
    if (grid.x > 0 && grid.y > 0 && grid.z > 0) launch(kernel_of(name, s), grid, threads, shared, params);
  };
  char* base = static_cast<char*>(memory.workspace);
  ForwardParams forward = pack_forward(c, s, l.forward, {memory.offsets, memory.tile_begin, nullptr, {}, base, false});
  // What the sweep keeps has no room in this workspace: its addresses are of other arrays.
  forward.sweep.pairs = nullptr;
  forward.sweep.lists = forward.sweep.pending = nullptr;
  forward.sweep.mates = nullptr;
  BackwardRowParams rows{};
  rows.problem = forward.problem;
  rows.row = forward.row;
  rows.rows = place_rows(l, needs, memory);
  add(KernelName::prepare_rows, {l.forward.prepare_blocks}, kPrepareThreads, 0, forward);
  order_launches(forward, s, l.forward, launch);
  add(KernelName::row_scale, {1}, kRowScaleThreads, 0, rows);
  add(KernelName::backward_pairs, {l.dense.padded_rows}, kPairsThreads, 0, rows);
  if (needs.dw) {
    for (int32_t n = 0; n < l.sort.passes; ++n) {
      const SortPass pass = sort_pass(l.sort, n, rows.rows.pairs, nullptr, l.pair_count, base + l.sort_at);
      add(KernelName::count_digits, {l.sort.blocks}, kSortThreads, 0, pass);
      add(KernelName::scan_digits, {l.sort.digits}, kSortThreads, 0, pass);
      add(KernelName::scatter_digits, {l.sort.blocks}, kSortThreads, 0, pass);
    }
    add(KernelName::gather_pairs, {l.sort.gather_blocks}, kSortThreads, 0,
        gather_after(l.sort, rows.rows, base + l.sort_at));
  }

  DenseParams dense{};
  dense.forward = forward;
  dense.rows = rows.rows;
  dense.dense.dw = const_cast<void*>(memory.dw.data);
  dense.dense.dw_stride = line_stride(memory.dw, s.w_transposed);
  dense.dense.dw_vectors = has_vectors(c.w, s.w_transposed) && has_vectors(memory.dw, s.w_transposed);
  place_dense(dense, l.dense, needs, base + l.dense_at);
  add(KernelName::find_baskets, {l.dense.basket_blocks}, kPrepareThreads, 0, dense);
  for (int32_t n = 0; n < l.dense.runs; ++n) {
    dense.run = plan_run(l.dense, n);
    const int64_t tiles = dense.run.tiles;
    add(KernelName::coefficients, {l.dense.row_blocks, tiles}, kThreads, l.dense.coefficient_shared, dense);
    if (needs.dx) {
      add(KernelName::normalize_classes, {tiles * (kTileN / kHatClasses), l.dense.hat_columns}, kThreads, 0, dense);
      add(KernelName::gradient_rows, {l.dense.row_blocks, l.dense.column_blocks, l.dense.splits}, kThreads,
          l.dense.rows_shared, dense);
    }
    if (needs.dw)
      add(KernelName::gradient_classes, {tiles, l.dense.column_blocks}, kThreads, l.dense.classes_shared, dense);
  }
  if (needs.dx) {
    rows.finish = {dense.dense.dx_partials, dense.dense.dot_partials, const_cast<void*>(memory.dx.data),
                   memory.dx.row_stride,    l.dense.splits,           memory.dx.bytes == 4};
    add(KernelName::finish_rows, {s.rows}, kFinishThreads, 0, rows);
  }
}

}  // namespace bbs::cuda
