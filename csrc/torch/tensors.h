// What the op bodies of every device do with their arguments.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "../common/layout.h"
#include "checks.h"

namespace bbs::ops {

// The rule and its companions, as every op takes them.
struct RuleArguments {
  double scale;
  int64_t rule, k, skip, guard_kind;
  double guard_value;
  int64_t ignore_index;
  int64_t subcenters = 1;
};

inline Tensor packed(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

inline std::optional<Tensor> packed(const std::optional<Tensor>& t) {
  return t.has_value() ? std::optional<Tensor>(packed(*t)) : std::nullopt;
}

// k of a call, from what its forward returned.
inline int64_t listed(const Tensor& mined_idx) {
  check(mined_idx.dim() == 3, "mined_idx: expected shape [B, K, k], got ", shape_of(mined_idx));
  return mined_idx.size(2);
}

inline Tensor new_matrix(const Tensor& like, int64_t outer, int64_t inner) {
  return torch::stable::new_empty(like, {outer, inner});
}

// A gradient in the layout of its tensor: [C, D] that is a transposed [D, C] gets one that is transposed as well.
// `make` allocates a contiguous matrix.
inline Tensor gradient_for(const Tensor& t, int64_t rows, bool wanted,
                           Tensor (*make)(const Tensor&, int64_t, int64_t) = new_matrix) {
  if (!wanted) return torch::stable::new_empty(t, {0});
  return is_transposed(t.stride(0), t.stride(1)) ? torch::stable::transpose(make(t, t.size(1), rows), 0, 1)
                                                 : make(t, rows, t.size(1));
}

// The rows of a batch as one shard of the classes sees them, both on the device of x; see schemas.cpp.
struct RowPlaces {
  std::optional<Tensor> basket, alias;

  RowPlaces() = default;
  RowPlaces(const std::optional<Tensor>& basket_, const std::optional<Tensor>& alias_, int64_t rows)
      : basket(packed(basket_)), alias(packed(alias_)) {
    if (basket.has_value()) check_vector("row_basket", *basket, ScalarType::Long, rows);
    if (alias.has_value()) check_vector("row_alias", *alias, ScalarType::Long, rows);
  }
};

// The gradient of x; with `partial` one of several that are added up, and rounded to x's dtype only then.
inline Tensor row_gradient(const Tensor& x, bool partial, bool wanted) {
  if (!partial || !wanted) return gradient_for(x, x.size(0), wanted);
  return torch::stable::new_empty(x, {x.size(0), x.size(1)}, result_dtype(x));
}

}  // namespace bbs::ops
