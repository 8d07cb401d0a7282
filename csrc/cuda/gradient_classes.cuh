// Backward, block (x, y): dw of the classes of tile x of the run and columns y of D, each element written once.
//   v = grad_scale p_classes . x-hat + sum over the class's sparse pairs of coefficient x-hat
//   b = the same sums with c in place of x-hat;  dw = (v - b w-hat) / norm
// A class that nothing touches gets zeros, so does one without a norm; NaN arrives by p and coefficients only.
#pragma once

#include "gemm_range.cuh"
#include "normalize_classes.cuh"

namespace bbs::cuda {

struct PairRange {
  uint32_t begin, end;
};

// The pairs of class `first` + lane, found by a warp together. Half a warp each first narrows the places where the 32
// classes begin and end, seventeen parts a load; then every lane halves what is left, a few pairs as a rule.
__device__ __forceinline__ PairRange find_pairs(const BackwardRows& rows, int first) {
  constexpr int kHalf = 16;
  constexpr unsigned kAll = 0xffffffffu;
  const int lane = threadIdx.x % 32, bound = first + (lane < kHalf ? 0 : 32);
  uint32_t low = 0, high = static_cast<uint32_t>(rows.pair_count);  // `bound` begins in between; fewer than 2^31
  while (__any_sync(kAll, low < high)) {
    const uint32_t step = (high - low) / (kHalf + 1) + 1, probe = low + step * (lane % kHalf + 1) - 1;
    const bool before = probe < high && rows.sorted[probe].label < bound;
    const uint32_t parts = __popc(__ballot_sync(kAll, before) >> lane / kHalf * kHalf & 0xffffu);
    low += step * parts;
    high = min(high, low + step - 1);
  }
  const uint32_t end = __shfl_sync(kAll, low, kHalf);
  low = __shfl_sync(kAll, low, 0);
  high = end;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (rows.sorted[middle].label < first + lane)
      low = middle + 1;
    else
      high = middle;
  }
  const uint32_t after = __shfl_down_sync(kAll, low, 1);
  return {low, lane < 31 ? after : end};
}

// On the thread of a column: its pairs, 1 / norm and the dense part of b.
__device__ __forceinline__ void begin_class(const DenseParams& p, ClassState& s, const Tile& tile, Range positions,
                                            float grad_scale) {
  const int column = threadIdx.x, c = tile.start + column;
  const bool real = c >= tile.first && c < tile.last;
  const PairRange pairs = find_pairs(p.rows, tile.start + column / 32 * 32);
  const uint32_t begin = real ? pairs.begin : 0, end = real ? pairs.end : 0;
  float inverse = 0.0f, dot = 0.0f;
  if (!positions.empty()) {
    constexpr int kLoads = 8;  // in flight
    const int at = blockIdx.x * kTileN + column;
    inverse = p.dense.class_inverse[at];
    const int first_block = positions.begin / kTileM;
    const int64_t step = p.run.columns;
    const float* from = p.dense.class_dot + first_block * step + at;
#pragma unroll 1
    for (int left = (positions.end + kTileM - 1) / kTileM - first_block; left > 0; left -= kLoads) {
      float parts[kLoads];
#pragma unroll
      for (int n = 0; n < kLoads; ++n, from += step) parts[n] = n < left ? *from : 0.0f;
#pragma unroll
      for (int n = 0; n < kLoads; ++n) dot += parts[n];
    }
  } else if (begin < end) {
    inverse = p.rows.sorted[begin].class_inverse;
    if (inverse != inverse) inverse = 0.0f;
  }
  s.pair_begin[column] = begin;
  s.pair_end[column] = end;
  s.inverse[column] = inverse;
  s.dot[column] = grad_scale * dot;
}

// Four elements of x-hat.
template <class Op>
__device__ __forceinline__ float4 x_hat_four(const BackwardRows& rows, int position, int d) {
  const int64_t at = static_cast<int64_t>(position) * rows.padded_dim + d;
  if constexpr (Op::kBytes == 2) {
    const uint2 v = *reinterpret_cast<const uint2*>(static_cast<const uint16_t*>(rows.x_hat) + at);
    return make_float4(Op::low(v.x), Op::high(v.x), Op::low(v.y), Op::high(v.y));
  } else {
    return *reinterpret_cast<const float4*>(static_cast<const float*>(rows.x_hat) + at);
  }
}

// Adds the sparse pairs, a warp per class: 32 pairs are fetched at once, then taken in order.
template <class Op>
__device__ __forceinline__ void add_pairs(const DenseParams& p, ClassState& s, float* stage, int first_column) {
  const int lane = threadIdx.x % 32;
  const bool real = first_column + lane * 4 < p.rows.padded_dim;
#pragma unroll 1
  for (int column = threadIdx.x / 32; column < kTileN; column += kThreads / 32) {
    const int64_t begin = s.pair_begin[column], end = s.pair_end[column];
    if (begin == end) continue;
    float4& cell = *reinterpret_cast<float4*>(stage + staged(column, lane * 4));
    float4 v = cell;
    float dot = 0.0f;
    for (int64_t base = begin; base < end; base += 32) {
      const bool exists = base + lane < end;
      const SparsePair* pair = p.rows.sorted + base + lane;
      const float coefficient = exists ? pair->coefficient : 0.0f;
      const int position = exists ? pair->position : 0;
      if (exists) dot += coefficient * pair->cos;
      const int count = end - base < 32 ? static_cast<int>(end - base) : 32;
#pragma unroll 4
      for (int n = 0; n < count; ++n) {
        const float u = __shfl_sync(0xffffffffu, coefficient, n);
        const int row = __shfl_sync(0xffffffffu, position, n);
        const float4 x =
            real ? x_hat_four<Op>(p.rows, row, first_column + lane * 4) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        v.x = __fmaf_rn(u, x.x, v.x);
        v.y = __fmaf_rn(u, x.y, v.y);
        v.z = __fmaf_rn(u, x.z, v.z);
        v.w = __fmaf_rn(u, x.w, v.w);
      }
    }
#pragma unroll
    for (int d = 16; d > 0; d /= 2) dot += __shfl_xor_sync(0xffffffffu, dot, d);
    cell = v;
    if (lane == 0) s.dot[column] += dot;
  }
}

// The Jacobian and the one downcast, in the order of w's memory. `per`: elements of 16 bytes of it.
template <class Types>
__device__ __forceinline__ void store_classes(const DenseParams& p, const ClassState& s, const float* stage,
                                              const Tile& tile, int first_column) {
  using Op = typename Types::Op;
  constexpr int kPer = 16 / Types::kStored;
  const Problem& q = p.forward.problem;
  const auto gradient = [&](int column, int d, float v) {
    const float inverse = s.inverse[column];  // 0: w may hold anything, and must not be looked at
    const float w_hat = inverse != 0.0f ? multiplied_w<Types>(q, tile.start + column, d) * inverse : 0.0f;
    return inverse * __fmaf_rn(-s.dot[column], w_hat, v);
  };
  const auto real = [&](int column, int d) {
    return tile.start + column >= tile.first && tile.start + column < tile.last && d < q.dim;
  };
  const auto store = [&](int column, int d, float(&v)[kPer]) {
    constexpr int kDown = Types::kTransposed ? 1 : 0, kAlong = 1 - kDown;  // what the elements of a chunk step
    const int64_t c = tile.start + column;
    const int64_t at = Types::kTransposed ? d * p.dense.dw_stride + c : c * p.dense.dw_stride + d;
    char* to = static_cast<char*>(p.dense.dw) + at * Types::kStored;
    if (p.dense.dw_vectors && real(column, d) && real(column + kDown * (kPer - 1), d + kAlong * (kPer - 1))) {
#pragma unroll
      for (int e = 0; e < kPer; ++e) v[e] = gradient(column + kDown * e, d + kAlong * e, v[e]);
      if constexpr (Types::kStored == 2)
        *reinterpret_cast<uint4*>(to) = pack_chunk<Op>(v);
      else
        *reinterpret_cast<uint4*>(to) = pack_chunk<Fp32>(v);
    } else {
#pragma unroll
      for (int e = 0; e < kPer; ++e) {
        if (!real(column + kDown * e, d + kAlong * e)) continue;
        const float g = gradient(column + kDown * e, d + kAlong * e, v[e]);
        if constexpr (Types::kStored == 2)
          reinterpret_cast<uint16_t*>(to)[e] = static_cast<uint16_t>(Op::pack(g, 0.0f));
        else
          reinterpret_cast<float*>(to)[e] = g;
      }
    }
  };
  if constexpr (Types::kTransposed)
    each_column_chunk<kPer>(stage, [&](int column, int d, float(&v)[kPer]) { store(column, first_column + d, v); });
  else
    each_row_chunk<kPer>(stage, [&](int column, int d, float(&v)[kPer]) { store(column, first_column + d, v); });
}

template <class Types>
BBS_KERNEL void gradient_classes(const DenseParams& p) {
  using Op = typename Types::Op;
  using G = GemmTypes<Op>;
  using Loop = typename G::Loop;
  constexpr int64_t kBytes = Op::kBytes;
  extern __shared__ __align__(128) unsigned char shared[];
  float* stage = reinterpret_cast<float*>(shared);
  ClassState& s = *reinterpret_cast<ClassState*>(shared + kStagingBytes);
  const int first_column = blockIdx.y * kTileN;
  const Tile tile =
      find_tile<class_align(Types::kTransposed, Types::kStored)>(p.forward, p.run.first_tile + blockIdx.x);
  const Range positions = dense_positions(p, tile.basket);
  begin_class(p, s, tile, positions, *p.rows.grad_scale / Op::kOne);

  Loop loop;
  loop.clear();
  if (!positions.empty()) {
    const int64_t k = positions.begin / G::kTileK * G::kTileK;
    const int64_t a_stride = p.rows.padded_rows * kBytes, b_stride = p.rows.padded_dim * kBytes;
    const char* a = static_cast<const char*>(p.dense.p_classes) + blockIdx.x * kTileN * a_stride + k * kBytes;
    const char* b = static_cast<const char*>(p.rows.x_hat) + k * b_stride + first_column * kBytes;
    multiply_range<G>(loop, ALoader(a, a_stride), BLoader<G>(b, b_stride, p.rows.padded_dim - first_column),
                      shared_address(shared), (positions.end - static_cast<int>(k) + G::kTileK - 1) / G::kTileK);
  }
  const float grad_scale = *p.rows.grad_scale / Op::kOne;
#pragma unroll
  for (int i = 0; i < Loop::kThreadRows; ++i)
#pragma unroll
    for (int j = 0; j < Loop::kThreadColumns; j += 2)
      stage_two(stage, loop, i, j, grad_scale * loop.product(i, j), grad_scale * loop.product(i, j + 1));
  __syncthreads();
  add_pairs<Op>(p, s, stage, first_column);
  __syncthreads();
  store_classes<Types>(p, s, stage, tile, first_column);
}

}  // namespace bbs::cuda
