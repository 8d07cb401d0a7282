// Before the sweep, per row: basket of the label, inverse norm, target cosine, guard. The target cosine has the bits
// that the sweep gives the pair: the same instructions in the same order of k, on fragments read straight from memory.
#pragma once

#include "../common/rule.h"
#include "elements.cuh"
#include "last_not_after.cuh"
#include "params.h"
#include "simt_loop.cuh"

namespace bbs::cuda {

struct RowProducts {
  float dot, x_squares, w_squares;
};

// Element k of centre c as stored, fp32; 0 beyond D, and where `c` < 0: no such centre.
template <class Types>
__device__ __forceinline__ float w_element(const Problem& q, int64_t c, int k) {
  return c >= 0 && k < q.dim ? static_cast<const float*>(q.w)[centre_offset<Types>(q, c, k)] : 0.0f;
}

// Elements k, k + 1 of a row as one register of a 16-bit fragment; zeros beyond D. `c` < 0: no such row.
template <class Op>
__device__ __forceinline__ uint32_t x_pair(const Problem& q, int i, int k) {
  const uint16_t* x = static_cast<const uint16_t*>(q.x) + static_cast<int64_t>(i) * q.x_stride;
  uint32_t low = 0, high = 0;
  if (i >= 0 && k < q.dim) low = x[k];
  if (i >= 0 && k + 1 < q.dim) high = x[k + 1];
  return low | high << 16;
}

template <class Types>
__device__ __forceinline__ uint32_t w_pair(const Problem& q, int64_t c, int k) {
  if constexpr (Types::kConverts) {
    return Types::Op::pack(w_element<Types>(q, c, k), w_element<Types>(q, c, k + 1));
  } else {
    const uint16_t* w = static_cast<const uint16_t*>(q.w);
    uint32_t low = 0, high = 0;
    if (c >= 0 && k < q.dim) low = w[centre_offset<Types>(q, c, k)];
    if (c >= 0 && k + 1 < q.dim) high = w[centre_offset<Types>(q, c, k + 1)];
    return low | high << 16;
  }
}

// Products of 8 rows with one class each, on one warp: the diagonal of an mma. Lane 4 n returns those of row n.
template <class Types>
__device__ __forceinline__ RowProducts mma_products(const Problem& q, int i, int c, int lane) {
  using Op = typename Types::Op;
  constexpr int kStep = 32 / Op::kBytes, kAhead = 4;
  const int t = lane & 3;
  float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f}, x_squares = 0.0f, w_squares = 0.0f;
  // Several steps are loaded before the first is multiplied: no other warp is here to wait beside. Zeros beyond D add
  // nothing.
  for (int first = 0; first < q.dim; first += kAhead * kStep) {
    uint32_t x[kAhead][2], w[kAhead][2];
#pragma unroll
    for (int n = 0; n < kAhead; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int k = first + n * kStep + half * kStep / 2;
        if constexpr (Op::kBytes == 2) {
          x[n][half] = x_pair<Op>(q, i, k + t * 2);
          w[n][half] = w_pair<Types>(q, c, k + t * 2);
        } else {
          const float v = i >= 0 && k + t < q.dim ? static_cast<const float*>(q.x)[i * q.x_stride + k + t] : 0.0f;
          x[n][half] = Tf32::round_upper(__float_as_uint(v));
          w[n][half] = Tf32::round_upper(__float_as_uint(w_element<Types>(q, c, k + t)));
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kAhead; ++n) {
      const uint32_t a[4] = {x[n][0], 0, x[n][1], 0};  // rows 8 to 15 of the mma are empty
      Op::mma(acc, a, w[n]);
      add_squares<Op>(x_squares, x[n]);
      add_squares<Op>(w_squares, w[n]);
    }
  }
  const int row = lane / 4;  // its diagonal element is in lane 4 row + row / 2, register row % 2
  const float even = __shfl_sync(0xffffffffu, acc[0], row * 4 + row / 2);
  const float odd = __shfl_sync(0xffffffffu, acc[1], row * 4 + row / 2);
#pragma unroll
  for (int d = 1; d < 4; d *= 2) {
    x_squares += __shfl_xor_sync(0xffffffffu, x_squares, d);
    w_squares += __shfl_xor_sync(0xffffffffu, w_squares, d);
  }
  return {row % 2 ? odd : even, x_squares, w_squares};
}

template <class Types>
__device__ __forceinline__ RowProducts simt_products(const Problem& q, int i, int c) {
  using Loop = SimtLoop<Types, true>;
  float dot = 0.0f, x_squares[4] = {}, w_squares[4] = {};
  const float* x = static_cast<const float*>(q.x) + (i < 0 ? 0 : i) * q.x_stride;
#pragma unroll 4
  for (int k = 0; i >= 0 && k < q.dim; k += 4) {
    float xv[4], wv[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      xv[e] = k + e < q.dim ? x[k + e] : 0.0f;
      wv[e] = w_element<Types>(q, c, k + e);
    }
    const float4 a = make_float4(xv[0], xv[1], xv[2], xv[3]), b = make_float4(wv[0], wv[1], wv[2], wv[3]);
    dot = Loop::dot4(a, b, dot);
    Loop::add_squares4(x_squares, a);
    Loop::add_squares4(w_squares, b);
  }
  return {dot, Loop::squared_norm(x_squares), Loop::squared_norm(w_squares)};
}

// What the label says of a row. basket: index, or NoBasket; label: class that is the target, -1 where there is none.
struct RowPlace {
  int basket, label;
};

__device__ __forceinline__ RowPlace row_place(const Problem& q, int i) {
  if (i < 0) return {NoBasket::ignored, -1};
  const int64_t label = q.labels[i];
  if (q.row_basket) {
    const int64_t basket = q.row_basket[i];
    if (basket == -1) return {NoBasket::ignored, -1};
    if (basket < 0 || basket >= q.baskets) return {NoBasket::bad_label, -1};
    if (label < 0) return {static_cast<int>(basket), -1};  // the class is on another shard
    if (label * q.subcenters < q.offsets[basket] || label * q.subcenters >= q.offsets[basket + 1])
      return {NoBasket::bad_label, -1};
    return {static_cast<int>(basket), static_cast<int>(label)};
  }
  if (label == q.ignore_index) return {NoBasket::ignored, -1};
  if (label < 0 || label >= q.classes) return {NoBasket::bad_label, -1};
  return {last_not_after(q.offsets, 0, q.baskets - 1, label * q.subcenters), static_cast<int>(label)};
}

template <class Types>
BBS_KERNEL void prepare_rows(const ForwardParams& p) {
  constexpr bool kMma = Types::Op::kTensorCore;
  const Problem& q = p.problem;
  const int lane = threadIdx.x % 32;
  const int within = kMma ? threadIdx.x / 4 : threadIdx.x;
  if (!kMma && within >= kPrepareRows) return;
  int i = blockIdx.x * kPrepareRows + within;
  if (i >= q.rows) i = -1;
  const RowPlace place = row_place(q, i);
  const bool bad = place.basket == NoBasket::bad_label;
  const float nan = __int_as_float(0x7fc00000), infinity = __int_as_float(0x7f800000);
  const int first_centre = place.label * q.subcenters;
  int target = first_centre;
  float x_inverse = 0.0f, c_t = bad ? nan : 0.0f;
#pragma unroll 1
  for (int n = 0; n < q.subcenters; ++n) {
    const int centre = place.label < 0 ? -1 : first_centre + n;
    RowProducts sum;
    if constexpr (kMma)
      sum = mma_products<Types>(q, i, centre, lane);
    else
      sum = simt_products<Types>(q, i, centre);
    x_inverse = inverse_norm(sum.x_squares);
    if (place.label < 0) continue;
    const float c = cosine(sum.dot, x_inverse, inverse_norm(sum.w_squares));
    if (n > 0 && !(c > c_t || c != c)) continue;  // the first of the largest; a NaN stays
    c_t = c;
    target = centre;
  }
  if (i < 0 || (kMma && lane % 4 != 0)) return;
  p.row.inverse_norm[i] = x_inverse;
  p.row.cos_target[i] = c_t;
  if (p.row.target) p.row.target[i] = place.label < 0 ? -1 : target;
  p.row.basket[i] = place.basket;
  p.row.guard[i] = q.guard_kind == GuardKind::absolute   ? q.guard_value
                   : q.guard_kind == GuardKind::relative ? __fadd_rn(c_t, -q.guard_value)
                   : q.guard_kind == GuardKind::rows     ? q.guard_rows[i]
                                                         : infinity;
  if (bad && p.row.bad_label)
    *static_cast<volatile int64_t*>(&p.row.bad_label->word) = BadLabel::pack(q.labels[i], q.classes);
}

}  // namespace bbs::cuda
