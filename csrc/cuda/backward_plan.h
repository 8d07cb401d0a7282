// The dense launches of one backward call as a pure function of the problem, the machine and a limit of workspace, like
// plan.h. Per call find_baskets, then per run coefficients, normalize_classes, gradient_rows, gradient_classes.
#pragma once

#include "dense_params.h"
#include "plan.h"

namespace bbs::cuda {

constexpr int64_t kDenseWorkspace = int64_t{64} << 20;  // default limit for what one run holds, also in schemas.cpp

// A run's tiles are the second dimension of a grid. Its columns are then few enough for ALoader, which steps over 32
// rows of p_rows in 32 bits of bytes.
constexpr int64_t kMaxRunTiles = 65535;
static_assert(kMaxRunTiles * kTileN * 4 * 32 < int64_t{1} << 32, "columns of a run");

struct BackwardNeeds {
  int32_t dx, dw;  // needs_input_grad
};

// Bytes from the start of the workspace.
struct DenseWorkspace {
  int64_t basket_begin, p_rows, p_classes, w_hat, class_inverse, class_dot, row_dot, dx_partials, dot_partials, total;
};

struct BackwardPlan {
  int32_t padded_rows, padded_dim;
  int32_t tiles;
  int32_t run_tiles, runs;  // tiles of every run but the last, which may be shorter
  int32_t row_blocks, column_blocks;
  int32_t splits;
  int32_t basket_blocks;
  int32_t hat_columns;  // the second dimension of normalize_classes
  int32_t coefficient_shared, rows_shared, classes_shared;
  DenseWorkspace at;
};

inline BackwardPlan plan_backward(const ForwardShape& s, const int64_t* offsets, const Machine& machine,
                                  const BackwardNeeds& needs, int64_t workspace_limit) {
  BackwardPlan plan{};
  const int32_t element = operand_bytes(s.operand), tile_k = kRowBytes / element;
  plan.tiles = plan_tiles(offsets, s.baskets, class_align(s.w_transposed, s.w_bytes), s.subcenters, nullptr);
  plan.row_blocks = (s.rows + kTileM - 1) / kTileM;
  plan.column_blocks = (s.dim + kTileN - 1) / kTileN;
  plan.padded_rows = plan.row_blocks * kTileM;
  plan.padded_dim = (s.dim + tile_k - 1) / tile_k * tile_k;
  plan.basket_blocks = (s.baskets + 1 + kPrepareThreads - 1) / kPrepareThreads;
  plan.hat_columns = needs.dx ? (plan.padded_dim + kHatColumns - 1) / kHatColumns : 0;
  plan.coefficient_shared = coefficient_buffer(element, s.w_bytes) + static_cast<int32_t>(sizeof(CoefficientState));
  plan.rows_shared = tile_bytes(element, element, false);
  plan.classes_shared = kStagingBytes + static_cast<int32_t>(sizeof(ClassState));

  const int64_t rows = plan.padded_rows, dx = needs.dx != 0, dw = needs.dw != 0;
  const int64_t class_bytes =
      (dx + dw) * rows * element + dx * plan.padded_dim * element + 4 + dw * plan.row_blocks * 4;
  const int64_t fit = workspace_limit / (class_bytes * kTileN + dx * rows * 4);
  const int64_t most = plan.tiles > 0 ? plan.tiles : 1;
  const int64_t bound = most < kMaxRunTiles ? most : kMaxRunTiles;
  int64_t run = fit < 1 ? 1 : fit > bound ? bound : fit;
  // Blocks of a tile in the grids of coefficients and gradient_classes, the smaller. A run that gives a last few of the
  // multiprocessors one block more than the others takes as long as if all had it: whole waves, or else equal runs.
  const int64_t blocks_of_tile = plan.row_blocks < plan.column_blocks ? plan.row_blocks : plan.column_blocks;
  const int64_t wave = machine.multiprocessors / (blocks_of_tile > 0 ? blocks_of_tile : 1);
  const auto share = [](int64_t all, int64_t of) { return (all + of - 1) / of; };
  if (run < most) run = wave > 0 && run >= wave ? run / wave * wave : share(most, share(most, run));
  // A call without a tile has one run: gradient_rows writes its zeros.
  plan.run_tiles = static_cast<int32_t>(run);
  plan.runs = static_cast<int32_t>(share(most, run));

  constexpr int32_t kBlocksByRegisters = 2;
  const int64_t blocks = int64_t{plan.row_blocks} * plan.column_blocks;
  const int64_t wanted = blocks ? machine.multiprocessors * kBlocksByRegisters / blocks : 1;
  plan.splits = static_cast<int32_t>(wanted < 1 ? 1 : wanted > plan.run_tiles ? plan.run_tiles : wanted);

  const auto take = [&](int64_t bytes) {
    const int64_t at = plan.at.total;
    plan.at.total += (bytes + 255) / 256 * 256;
    return at;
  };
  const int64_t columns = int64_t{plan.run_tiles} * kTileN;
  plan.at.basket_begin = take((int64_t{s.baskets} + 1) * 4);
  plan.at.p_rows = take(dx * rows * columns * element);
  plan.at.p_classes = take(dw * rows * columns * element);
  plan.at.w_hat = take(dx * columns * plan.padded_dim * element);
  plan.at.class_inverse = take(columns * 4);
  plan.at.class_dot = take(dw * plan.row_blocks * columns * 4);
  plan.at.row_dot = take(dx * plan.run_tiles * rows * 4);
  plan.at.dx_partials = take(dx * plan.splits * s.rows * plan.padded_dim * 4);
  plan.at.dot_partials = take(dx * plan.splits * s.rows * 4);
  return plan;
}

inline DenseRun plan_run(const BackwardPlan& plan, int32_t run) {
  const int32_t first = run * plan.run_tiles;
  const int32_t left = plan.tiles - first;
  return {first, left < plan.run_tiles ? left : plan.run_tiles, run == 0, plan.run_tiles * kTileN};
}

// Fills what the plan decides; the caller has set p.forward, p.rows, and of p.dense dw, its stride and dw_vectors.
inline void place_dense(DenseParams& p, const BackwardPlan& plan, const BackwardNeeds& needs, void* workspace) {
  char* base = static_cast<char*>(workspace);
  p.dense.basket_begin = reinterpret_cast<int32_t*>(base + plan.at.basket_begin);
  p.dense.p_rows = base + plan.at.p_rows;
  p.dense.p_classes = base + plan.at.p_classes;
  p.dense.w_hat = base + plan.at.w_hat;
  p.dense.class_inverse = reinterpret_cast<float*>(base + plan.at.class_inverse);
  p.dense.class_dot = reinterpret_cast<float*>(base + plan.at.class_dot);
  p.dense.row_dot = reinterpret_cast<float*>(base + plan.at.row_dot);
  p.dense.dx_partials = reinterpret_cast<float*>(base + plan.at.dx_partials);
  p.dense.dot_partials = reinterpret_cast<float*>(base + plan.at.dot_partials);
  p.dense.splits = plan.splits;
  p.dense.need_dx = needs.dx;
  p.dense.need_dw = needs.dw;
  p.rows.padded_rows = plan.padded_rows;
  p.rows.padded_dim = plan.padded_dim;
}

}  // namespace bbs::cuda
