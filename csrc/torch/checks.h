// Checks of tensors shared by the CPU and CUDA op bodies; those of numbers are in common/check_values.h. Each message
// names the argument, what was expected and what came.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>

#include "../common/check_values.h"

namespace bbs::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_of(const Tensor& t) {
  std::string text = "[";
  for (int64_t d = 0; d < t.dim(); ++d) text += (d ? ", " : "") + std::to_string(t.size(d));
  return text + "]";
}

inline const char* dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Double: return "float64";
    case ScalarType::Float: return "float32";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Long: return "int64";
    case ScalarType::Int: return "int32";
    default: return "another dtype";
  }
}

inline bool is_half(ScalarType type) { return type == ScalarType::Half || type == ScalarType::BFloat16; }

// lse and cosines are fp64 for fp64 inputs and fp32 for all others.
inline ScalarType result_dtype(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_vector(const char* name, const Tensor& t, ScalarType type, int64_t size) {
  check(t.dim() == 1 && t.size(0) == size, name, ": expected shape [", size, "], got ", shape_of(t));
  check(t.scalar_type() == type, name, ": expected ", dtype_name(type), ", got ", dtype_name(t.scalar_type()));
}

inline void check_inputs(const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets) {
  check(x.dim() == 2 && x.size(1) > 0, "x: expected shape [B, D] with D > 0, got ", shape_of(x));
  check(w.dim() == 2 && w.size(1) == x.size(1), "w: expected shape [C, ", x.size(1), "] with x ", shape_of(x), ", got ",
        shape_of(w));
  const ScalarType xt = x.scalar_type();
  const ScalarType wt = w.scalar_type();
  check(xt == ScalarType::Double || xt == ScalarType::Float || is_half(xt),
        "x: expected float64, float32, float16 or bfloat16, got ", dtype_name(xt));
  check(wt == xt || (wt == ScalarType::Float && is_half(xt)), "w: expected the dtype of x, ", dtype_name(xt),
        ", or float32 with a 16-bit x, got ", dtype_name(wt));
  check(w.size(0) < int64_t{1} << 31, "w: expected fewer than 2^31 rows, got ", w.size(0));
  check_vector("labels", labels, ScalarType::Long, x.size(0));
  check(offsets.dim() == 1 && offsets.size(0) >= 2, "offsets: expected shape [K + 1] with K > 0, got ",
        shape_of(offsets));
  check(offsets.scalar_type() == ScalarType::Long && offsets.is_cpu(), "offsets: expected int64 on the CPU, got ",
        dtype_name(offsets.scalar_type()), offsets.is_cpu() ? "" : " on another device");
}

inline void check_guard(const std::optional<Tensor>& guard, const Tensor& x, GuardKind kind) {
  check(guard.has_value() == (kind == GuardKind::rows), "guard: expected a tensor exactly with guard_kind 3, got ",
        guard.has_value() ? "one" : "none", " with guard_kind ", static_cast<int64_t>(kind));
  if (guard.has_value()) check_vector("guard", *guard, result_dtype(x), x.size(0));
}

// Returns the number of classes.
inline int64_t check_subcenters(int64_t subcenters, const Tensor& w) {
  return bbs::check_subcenters(subcenters, w.size(0));
}

}  // namespace bbs::ops
