// What the CUDA kernels take of a call, beyond what every backend checks: the bounds of their 32-bit arithmetic.
#pragma once

#include "../common/check_values.h"
#include "forward_call.h"

namespace bbs::cuda {

constexpr int64_t kMaxBaskets = 4096;
constexpr int64_t kMaxDim = int64_t{1} << 20;
// A block of gradient_classes steps over 32 rows of p_classes, which are as long as the batch, in 32 bits of bytes.
constexpr int64_t kMaxRows = int64_t{1} << 24;
static_assert(kMaxRows * 4 * 32 < int64_t{1} << 32, "rows of a batch");

// Elements between lines of w, exclusive: a thread steps over the lines between its copies in 32 bits of bytes.
inline int64_t w_stride_bound(int32_t operand, int32_t w_bytes, bool transposed) {
  return (int64_t{1} << 32) / (w_bytes * w_pass_rows(operand_bytes(operand), w_bytes, transposed));
}

// x is what wants_copy() has left of it.
inline void check_call(const ForwardCall& c) {
  const Matrix &x = c.x, &w = c.w;
  check(x.rows <= kMaxRows && x.columns <= kMaxDim, "x: expected up to 2^24 rows and 2^20 columns on CUDA, got shape [",
        x.rows, ", ", x.columns, "]");
  check(x.columns == 1 || x.column_stride == 1, "x: expected a stride of 1 along D on CUDA, got strides [",
        x.row_stride, ", ", x.column_stride, "]");
  check(x_span(x) <= x_reach(x, w), "x: expected to span up to ", x_reach(x, w), " elements on CUDA, got ", x_span(x),
        ": use a smaller batch");
  check(w.column_stride == 1 || w.row_stride == 1 || w.columns == 1,
        "w: expected a stride of 1 along the classes or along D on CUDA, got strides [", w.row_stride, ", ",
        w.column_stride, "]: pass w.contiguous()");
  const bool transposed = is_transposed(w);
  const int64_t stride = line_stride(w, transposed), bound = w_stride_bound(c.operand, w.bytes, transposed);
  check(stride < bound, "w: expected fewer than ", bound, " elements between its ", transposed ? "columns" : "rows",
        " on CUDA in this layout and dtype, got ", stride, ": pass w.contiguous()");
  check(c.baskets <= kMaxBaskets, "offsets: expected up to ", kMaxBaskets, " baskets on CUDA, got ", c.baskets);
}

// Of a backward: the targets and the mined classes of a batch are sorted with 32-bit indices.
inline void check_pairs(const ForwardCall& c) {
  const int64_t listed = mines_lists(c.rule, c.k) ? c.baskets * c.k : 0;
  check(c.x.rows * (1 + listed) < int64_t{1} << 31,
        "k: expected fewer than 2^31 listed classes of other baskets in a batch on CUDA, less one for each row, got ",
        c.x.rows * listed);
}

}  // namespace bbs::cuda
