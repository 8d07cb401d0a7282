// Argument checks shared by the CPU and CUDA op bodies. Each message names the argument, what came and what is allowed.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

#include "../common/combined_margin.h"
#include "../common/rule.h"

namespace bbs::ops {

// STD_TORCH_CHECK without the path of the source file in front of the message.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (ok) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

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
  check(t.dim() == 1 && t.size(0) == size, name, " has shape ", shape_of(t), ", allowed is [", size, "]");
  check(t.scalar_type() == type, name, " is ", dtype_name(t.scalar_type()), ", allowed is ", dtype_name(type));
}

inline void check_inputs(const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets) {
  check(x.dim() == 2 && x.size(1) > 0, "x has shape ", shape_of(x), ", allowed is [B, D] with D > 0");
  check(w.dim() == 2 && w.size(1) == x.size(1), "w has shape ", shape_of(w), ", allowed is [C, ", x.size(1),
        "] for x of shape ", shape_of(x));
  const ScalarType xt = x.scalar_type();
  const ScalarType wt = w.scalar_type();
  check(xt == ScalarType::Double || xt == ScalarType::Float || is_half(xt), "x is ", dtype_name(xt),
        ", allowed are float64, float32, float16 and bfloat16");
  check(wt == xt || (wt == ScalarType::Float && is_half(xt)), "w is ", dtype_name(wt), " with x ", dtype_name(xt),
        ", allowed is the dtype of x, or float32 with a 16-bit x");
  check(w.size(0) < int64_t{1} << 31, "w has ", w.size(0), " rows, allowed are fewer than 2^31");
  check_vector("labels", labels, ScalarType::Long, x.size(0));
  check(offsets.dim() == 1 && offsets.size(0) >= 2, "offsets has shape ", shape_of(offsets),
        ", allowed is [K + 1] with K > 0");
  check(offsets.scalar_type() == ScalarType::Long && offsets.is_cpu(), "offsets must be an int64 tensor on the CPU");
}

// `begin` points at offsets' K + 1 values.
inline void check_offsets(const int64_t* begin, int64_t baskets, int64_t classes) {
  check(begin[0] == 0 && begin[baskets] == classes, "offsets run from ", begin[0], " to ", begin[baskets],
        ", allowed is from 0 to the number of classes, ", classes);
  for (int64_t b = 0; b < baskets; ++b)
    check(begin[b] <= begin[b + 1], "offsets[", b, "] = ", begin[b], " is above offsets[", b + 1, "] = ", begin[b + 1],
          ", allowed are ascending values");
}

inline void check_guard(const std::optional<Tensor>& guard, const Tensor& x, GuardKind kind) {
  check(guard.has_value() == (kind == GuardKind::rows), "guard is ", guard.has_value() ? "given" : "missing",
        " with guard_kind ", static_cast<int64_t>(kind), ", allowed is a tensor exactly with guard_kind 3");
  if (guard.has_value()) check_vector("guard", *guard, result_dtype(x), x.size(0));
}

inline RuleParams check_rule(int64_t rule, int64_t k, int64_t skip, int64_t guard_kind, double guard_value,
                             const int64_t* offsets, int64_t baskets) {
  check(rule >= 0 && rule <= 3, "rule is ", rule, ", allowed are 0 (all), 1 (own), 2 (below), 3 (topk)");
  check(guard_kind >= 0 && guard_kind <= 3, "guard_kind is ", guard_kind, ", allowed are 0 to 3");
  RuleParams params;
  params.rule = static_cast<Rule>(rule);
  params.guard = static_cast<GuardKind>(guard_kind);
  params.guard_value = guard_value;
  check(params.rule != Rule::below || params.guard != GuardKind::none,
        "rule 2 (below) came without a guard: guard_kind 1, 2 or 3 is required");
  if (params.rule != Rule::topk) {
    check(k == 0 && skip == 0, "k = ", k, ", skip = ", skip, " came with rule ", rule,
          ", allowed is 0 with rules other than 3 (topk)");
    return params;
  }
  check(k >= 0 && skip >= 0 && k + skip <= kMaxListed, "k = ", k, ", skip = ", skip,
        ", allowed are values from 0 with k + skip <= ", kMaxListed);
  int64_t mined = 0;
  for (int64_t b = 0; b < baskets; ++b) mined += std::min(k, offsets[b + 1] - offsets[b]);
  check(mined <= kMaxMinedPerRow, "k = ", k, " over ", baskets, " baskets lists up to ", mined,
        " classes a row, allowed are ", kMaxMinedPerRow, ": use a smaller k");
  params.k = k;
  params.skip = k > 0 ? skip : 0;
  return params;
}

inline void check_scale(double scale) {
  // Beyond, one ulp of an fp32 logit nears what exp can take, and gradients became NaN.
  check(scale > 0 && scale <= 1e6, "scale is ", scale, ", allowed are values above 0, up to 1e+06");
}

// Returns the number of classes.
inline int64_t check_subcenters(int64_t subcenters, const Tensor& w) {
  check(subcenters >= 1 && subcenters <= kMaxSubcenters, "subcenters is ", subcenters, ", allowed are 1 to ",
        kMaxSubcenters);
  check(w.size(0) % subcenters == 0, "w has ", w.size(0), " rows, allowed are multiples of subcenters = ", subcenters);
  return w.size(0) / subcenters;
}

inline void check_workspace(int64_t bytes) {
  check(bytes >= 0, "workspace_bytes is ", bytes, ", allowed are values from 0");
}

inline CombinedMargin<double> check_margin(double m1, double m2, double m3, int64_t boundary, int64_t target_grad) {
  constexpr double kPi = 3.14159265358979323846;
  check(std::isfinite(m1) && m1 > 0, "m1 is ", m1, ", allowed are finite values above 0");
  check(m2 >= 0 && m2 < kPi, "m2 is ", m2, ", allowed are radians in [0, pi)");
  check(std::isfinite(m3), "m3 is ", m3, ", allowed are finite values");
  check(boundary >= 0 && boundary <= 2, "boundary is ", boundary, ", allowed are 0 (hard), 1 (easy), 2 (none)");
  check(target_grad == 0 || target_grad == 1, "target_grad is ", target_grad,
        ", allowed are 0 (exact), 1 (straight_through)");
  return combined_margin(m1, m2, m3, static_cast<Boundary>(boundary), static_cast<TargetGrad>(target_grad));
}

}  // namespace bbs::ops
