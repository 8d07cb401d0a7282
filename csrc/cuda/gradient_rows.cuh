// Backward, block (x, y, z): rows of block x, columns y of D, over the z-th share of the run's tiles:
//   dx_partials[z] (+)= p_rows . w-hat, dot_partials[z] (+)= sum of p c. Factors and the Jacobian wait for finish_rows.
// Each element belongs to one block, and the runs come one after another: no atomics, the same bits every time.
#pragma once

#include "dense_tiles.cuh"
#include "gemm_range.cuh"

namespace bbs::cuda {

// A thread's products of row i to `to`, or onto it, in accesses as wide as its columns lie side by side.
template <class Loop>
__device__ __forceinline__ void add_row(Loop& loop, int i, float* to, int first_column, int columns, bool first) {
  constexpr int kCount = Loop::kAdjacent;
  struct alignas(kCount * sizeof(float)) Floats {
    float v[kCount];
  };
#pragma unroll
  for (int j = 0; j < Loop::kThreadColumns; j += kCount) {
    const int d = first_column + loop.column(j);
    if (d >= columns) continue;
    Floats& at = *reinterpret_cast<Floats*>(to + d);
    Floats sum = {};
    if (!first) sum = at;
#pragma unroll
    for (int e = 0; e < kCount; ++e) sum.v[e] = first ? loop.product(i, j + e) : sum.v[e] + loop.product(i, j + e);
    at = sum;
  }
}

template <class G>
BBS_KERNEL void gradient_rows(const DenseParams& p) {
  using Loop = typename G::Loop;
  static_assert(G::kTileK % Loop::kAdjacent == 0, "padded rows hold whole vectors");
  constexpr int64_t kBytes = G::Op::kBytes;
  extern __shared__ __align__(128) unsigned char shared[];
  const int rows = p.forward.problem.rows;
  const int first_row = blockIdx.x * kTileM, first_column = blockIdx.y * kTileN;
  const Range run = {p.run.first_tile, p.run.first_tile + p.run.tiles};
  const TileWalk walk(p, first_row);
  Range share = intersect(walk.hull(p), run);
  const int length = share.empty() ? 0 : (share.end - share.begin + p.dense.splits - 1) / p.dense.splits;
  share.begin += length * static_cast<int>(blockIdx.z);
  if (share.begin + length < share.end) share.end = share.begin + length;
  if (share.empty() && !p.run.first) return;

  const char* a = static_cast<const char*>(p.dense.p_rows) + first_row * static_cast<int64_t>(p.run.columns) * kBytes;
  const char* b = static_cast<const char*>(p.dense.w_hat) + first_column * kBytes;
  const int64_t a_stride = p.run.columns * kBytes, b_stride = p.rows.padded_dim * kBytes;
  Loop loop;
  loop.clear();
  Range tiles;
  for (TileWalk at = walk; !share.empty() && at.next(p, tiles);) {
    tiles = intersect(tiles, share);
    if (tiles.empty()) continue;
    const int64_t k = static_cast<int64_t>(tiles.begin - run.begin) * kTileN;
    multiply_range<G>(loop, ALoader(a + k * kBytes, a_stride),
                      BLoader<G>(b + k * b_stride, b_stride, p.rows.padded_dim - first_column), shared_address(shared),
                      (tiles.end - tiles.begin) * (kTileN / G::kTileK));
  }

  float* dx = p.dense.dx_partials + static_cast<int64_t>(blockIdx.z) * rows * p.rows.padded_dim;
#pragma unroll
  for (int i = 0; i < Loop::kThreadRows; ++i) {
    const int position = first_row + loop.row(i);
    if (position < rows)
      add_row(loop, i, dx + static_cast<int64_t>(position) * p.rows.padded_dim, first_column, p.rows.padded_dim,
              p.run.first);
  }
  const int position = first_row + threadIdx.x;
  if (blockIdx.y != 0 || position >= rows) return;
  float* to = p.dense.dot_partials + static_cast<int64_t>(blockIdx.z) * rows + position;
  float dot = p.run.first ? 0.0f : *to;
  for (TileWalk at = walk; !share.empty() && at.next(p, tiles);) {
    tiles = intersect(tiles, share);
    for (int n = tiles.begin; n < tiles.end; ++n)
      dot += p.dense.row_dot[static_cast<int64_t>(n - run.begin) * p.rows.padded_rows + position];
  }
  *to = dot;
}

}  // namespace bbs::cuda
