// Backward, block (x, y): the dense coefficients p_ij = exp(scale c_ij - lse_i) of row block x and the y-th tile of the
// run, from cosines with the bits of the forward, since the same main loop makes them.
//   out: p_rows and p_classes, operands of the two products to come, and the sums that the Jacobians of the norms need,
//   all in units of kOne, and from the rounded p: what rounding adds to a gradient then stays orthogonal to the row or
//   centre.
#pragma once

#include "cos_lse_sweep.cuh"
#include "dense_tiles.cuh"
#include "tile_staging.cuh"

namespace bbs::cuda {

template <class S>
constexpr int kCoefficientBuffer = coefficient_buffer(S::Op::kBytes, S::Types::kStored);

// The dot products of one tile, as the sweep makes them; on return no copy is in flight.
template <class S>
__device__ __forceinline__ void multiply_one_tile(const DenseParams& p, SweepState& state, uint32_t buffer,
                                                  typename S::Loop& loop) {
  const Problem& q = p.forward.problem;
  SweepRing<S> ring;
  ring.begin = ring.fill = buffer;
  ring.stored = 0;
  ring.k_tiles = k_tiles(q.dim, S::Op::kBytes);
  ring.x.start(q, state.source);
  ring.w.start(q);
  ring.ahead = 0;
  ring.end = 1;
  ring.enter(q, state);
  for (int i = 0; i < S::kStages - 1; ++i) {
    ring.copy(q);
    ring.next_tile(q, state);
  }
  Reader<S> at;
  at.start(ring, buffer);
  at.arrive(ring);
  multiply_tile<S>(q, state, ring, loop, at);
  cp_async_wait<0>();
}

// Products to coefficients, which go to `stage`; sums over the tile's rows and columns go to `s`.
template <class S>
__device__ __forceinline__ void find_coefficients(const DenseParams& p, CoefficientState& s, typename S::Loop& loop,
                                                  const Tile& tile, bool masked, float* stage) {
  using Loop = typename S::Loop;
  const float infinity = __int_as_float(0x7f800000), nan = __int_as_float(0x7fc00000);
  const bool everywhere = dense_in_other_baskets(p.forward.problem.rule);
  const float scale = p.forward.problem.scale;
  float class_dot[Loop::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Loop::kThreadColumns; ++j) class_dot[j] = 0.0f;

#pragma unroll
  for (int i = 0; i < Loop::kThreadRows; ++i) {
    const int r = loop.row(i);
    const RowState row = s.sweep.row[r];
    const bool own = row.basket == tile.basket, dense = own || (everywhere && row.basket < NoBasket::ignored);
    const float lse = s.lse[r], factor = s.factor[r], limit = own ? infinity : row.limit;
    const bool broken = lse != lse;
    float row_dot = 0.0f;
#pragma unroll
    for (int j = 0; j < Loop::kThreadColumns; j += 2) {
      float two[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = loop.column(j + e);
        const float c = cosine(loop.product(i, j + e), row.inverse_norm, s.sweep.w_inverse[column]);
        bool negative = dense && c <= limit;
        if (masked) negative = negative && !(s.sweep.masked[r][column / 32] >> column % 32 & 1);
        float v = negative ? exp2_approx(__fmul_rn(__fmaf_rn(scale, c, -lse), kLog2E)) : 0.0f;
        // A NaN reaches every class that the row touches, negative or not, and no other.
        if constexpr (S::Op::kOne != 1.0f) v *= S::Op::kOne;
        if (broken && dense) v = column >= tile.first - tile.start && column < tile.last - tile.start ? nan : 0.0f;
        const float in_row = round_operand<typename S::Op>(v), in_class = round_operand<typename S::Op>(factor * v);
        row_dot += in_row == 0.0f ? 0.0f : in_row * c;
        class_dot[j + e] += in_class == 0.0f ? 0.0f : in_class * c;
        two[e] = v;
      }
      stage_two(stage, loop, i, j, two[0], two[1]);
    }
#pragma unroll
    for (int d = 1; d < Loop::kRowLanes; d *= 2) row_dot += __shfl_xor_sync(kAllLanes, row_dot, d);
    if (threadIdx.x % Loop::kRowLanes == 0) s.row_dot[loop.column_group()][r] = row_dot;
  }
#pragma unroll
  for (int j = 0; j < Loop::kThreadColumns; ++j) {
    float sum = class_dot[j];
#pragma unroll
    for (int d = Loop::kRowLanes; d < 32; d *= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
    if (threadIdx.x % 32 < Loop::kRowLanes) s.class_dot[threadIdx.x / 32 / Loop::kWarpColumns][loop.column(j)] = sum;
  }
}

template <class S>
__device__ __forceinline__ void store_coefficients(const DenseParams& p, const CoefficientState& s, const float* stage,
                                                   bool owner) {
  using Loop = typename S::Loop;
  constexpr int kPer = 16 / S::Op::kBytes;
  const DenseArrays& out = p.dense;
  const int first_row = blockIdx.x * kTileM, first_column = blockIdx.y * kTileN, t = threadIdx.x;
  const int64_t columns = p.run.columns, rows = p.rows.padded_rows;
  if (owner) {
    const float inverse = s.sweep.w_inverse[t];
    out.class_inverse[first_column + t] = inverse == inverse ? inverse : 0.0f;
  }
  if (out.need_dx) {
    float dot = s.row_dot[0][t];
    if (Loop::kWarpColumns == 2) dot += s.row_dot[1][t];
    out.row_dot[blockIdx.y * rows + first_row + t] = dot;
    each_row_chunk<kPer>(stage, [&](int row, int column, const float(&v)[kPer]) {
      char* to = static_cast<char*>(out.p_rows) + ((first_row + row) * columns + first_column + column) * S::Op::kBytes;
      *reinterpret_cast<uint4*>(to) = pack_chunk<typename S::Op>(v);
    });
  }
  if (out.need_dw) {
    float dot = s.class_dot[0][t];
#pragma unroll
    for (int g = 1; g < kThreads / 32 / Loop::kWarpColumns; ++g) dot += s.class_dot[g][t];
    out.class_dot[blockIdx.x * columns + first_column + t] = dot;
    each_column_chunk<kPer>(stage, [&](int row, int column, float(&v)[kPer]) {
#pragma unroll
      for (int e = 0; e < kPer; ++e) v[e] *= s.factor[row + e];
      char* to = static_cast<char*>(out.p_classes) + ((first_column + column) * rows + first_row + row) * S::Op::kBytes;
      *reinterpret_cast<uint4*>(to) = pack_chunk<typename S::Op>(v);
    });
  }
}

// Notes the block's tile. False where no row of the block needs it.
template <class S>
__device__ __forceinline__ bool enter_tile(const DenseParams& p, SweepState& s, int first_row) {
  const Tile tile = find_tile<S::kAlign>(p.forward, p.run.first_tile + blockIdx.y);
  if (threadIdx.x == 0) s.tile[0] = tile;
  return !intersect(dense_positions(p, tile.basket), {first_row, first_row + kTileM}).empty();
}

template <class S>
BBS_KERNEL void coefficients(const DenseParams& p) {
  extern __shared__ __align__(128) unsigned char shared[];
  CoefficientState& s = *reinterpret_cast<CoefficientState*>(shared + kCoefficientBuffer<S>);
  float* stage = reinterpret_cast<float*>(shared);
  const int first_row = blockIdx.x * kTileM;
  if (!enter_tile<S>(p, s.sweep, first_row)) return;
  fill_rows(p.forward, s.sweep, first_row);
  // Not in units of log2: so scale c - lse is rounded once, where it is small.
  s.lse[threadIdx.x] = p.rows.dense_lse[first_row + threadIdx.x];
  s.factor[threadIdx.x] = p.rows.row_factor[first_row + threadIdx.x];
  s.sweep.mates[threadIdx.x] = 0;
  __syncthreads();
  typename S::Loop loop;
  multiply_one_tile<S>(p, s.sweep, shared_address(shared), loop);
  const Tile tile = s.sweep.tile[0];  // not kept in registers through the products
  // No copy is in flight, so the ring's memory takes the cosines among which the nearest are found.
  const bool masked = prepare_epilogue<true, S::kSeveral>(p.forward, s.sweep, tile, loop, stage);
  find_coefficients<S>(p, s, loop, tile, masked, stage);
  __syncthreads();
  const bool owner = dense_positions(p, tile.basket).begin / kTileM == static_cast<int>(blockIdx.x);
  store_coefficients<S>(p, s, stage, owner);
}

}  // namespace bbs::cuda
