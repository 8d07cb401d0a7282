// Backward, block (x, y): w-hat of 32 run columns and 64 columns of D in the operand type, always with rows of classes.
// Done once here and not on the way into each tile of gradient_rows: every row block reads it again, and so that kernel
// knows nothing of strides, odd sizes and the type that w is stored in.
#pragma once

#include "dense_tiles.cuh"
#include "elements.cuh"
#include "tile_staging.cuh"

namespace bbs::cuda {

template <class Types>
BBS_KERNEL void normalize_classes(const DenseParams& p) {
  using Op = typename Types::Op;
  __shared__ float tile_of_w[kHatColumns][kHatClasses + 1];
  const Problem& q = p.forward.problem;
  const int first = blockIdx.x * kHatClasses, d0 = blockIdx.y * kHatColumns;
  const Tile tile =
      find_tile<class_align(Types::kTransposed, Types::kStored)>(p.forward, p.run.first_tile + first / kTileN);
  if (dense_positions(p, tile.basket).empty()) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t c0 = tile.start + first % kTileN;
  // Infinite elements of a NaN class must not meet its inverse of 0.
  const auto element = [&](int64_t c, int d, float inverse) {
    return inverse != 0.0f && d < q.dim ? multiplied_w<Types>(q, c, d) * inverse : 0.0f;
  };
  if constexpr (Types::kTransposed) {
    const float inverse = p.dense.class_inverse[first + lane];
    for (int d = warp; d < kHatColumns; d += kThreads / 32) tile_of_w[d][lane] = element(c0 + lane, d0 + d, inverse);
    __syncthreads();
  }
  const int d = lane * 2;
  if (d0 + d >= p.rows.padded_dim) return;
  for (int c = warp; c < kHatClasses; c += kThreads / 32) {
    const float inverse = p.dense.class_inverse[first + c];
    const float low = Types::kTransposed ? tile_of_w[d][c] : element(c0 + c, d0 + d, inverse);
    const float high = Types::kTransposed ? tile_of_w[d + 1][c] : element(c0 + c, d0 + d + 1, inverse);
    char* to =
        static_cast<char*>(p.dense.w_hat) + (static_cast<int64_t>(first + c) * p.rows.padded_dim + d0 + d) * Op::kBytes;
    if constexpr (Op::kBytes == 2)
      *reinterpret_cast<uint32_t*>(to) = Op::pack(low, high);
    else
      *reinterpret_cast<float2*>(to) = make_float2(round_operand<Op>(low), round_operand<Op>(high));
  }
}

}  // namespace bbs::cuda
