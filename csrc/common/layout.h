// The order in which a matrix lies in memory, which the ops, their gradients and the kernels agree on.
#pragma once

#include <cstdint>

namespace bbs {

// Columns are the adjacent elements: a [D, C] parameter seen as [C, D]. All else is read by rows, also where both
// strides are 1; rows that overlap or repeat (`expand`) are on either side by the same rule.
constexpr bool is_transposed(int64_t row_stride, int64_t column_stride) {
  return column_stride != 1 && row_stride == 1;
}

}  // namespace bbs
