// CPU bodies of the ops: check, allocate, call. Everything the kernels see is plain C++ from here on.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <tuple>

#include "../cpu/types.h"
#include "checks.h"

namespace bbs::ops {
namespace {

using cpu::DType;

DType kernel_dtype(ScalarType type) {
  switch (type) {
    case ScalarType::Double: return DType::f64;
    case ScalarType::Half: return DType::f16;
    case ScalarType::BFloat16: return DType::bf16;
    default: return DType::f32;
  }
}

cpu::ConstMatrix const_matrix(const Tensor& t) {
  return {t.data_ptr(), kernel_dtype(t.scalar_type()), t.size(0), t.size(1), t.stride(0), t.stride(1)};
}

cpu::OutMatrix out_matrix(const Tensor& t, bool wanted) {
  if (!wanted) return {};
  return {t.data_ptr(), kernel_dtype(t.scalar_type()), t.size(0), t.size(1), t.stride(0), t.stride(1)};
}

// at::parallel_for behind a plain function pointer.
void run_tasks(int64_t tasks, void (*body)(void*, int64_t), void* context) {
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(context, i);
  });
}

cpu::Parallel threads() { return {static_cast<int64_t>(torch::stable::get_num_threads()), &run_tasks}; }

Tensor packed(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

std::optional<Tensor> packed(const std::optional<Tensor>& t) {
  return t.has_value() ? std::optional<Tensor>(packed(*t)) : std::nullopt;
}

template <class T>
const T* values(const Tensor& t) {
  return static_cast<const T*>(t.data_ptr());
}
template <class T>
T* output(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

// The tensors that a Problem points into, kept alive and contiguous for as long as it is used.
struct Inputs {
  Tensor x, w, labels, offsets;
  std::optional<Tensor> guard, aliases;
  cpu::Problem problem;

  Inputs(const Tensor& x_, const Tensor& w_, const Tensor& labels_, const Tensor& offsets_,
         const std::optional<Tensor>& guard_, const std::optional<Tensor>& aliases_, double scale, int64_t rule,
         int64_t k, int64_t skip, int64_t guard_kind, double guard_value, int64_t ignore_index)
      : x(x_), w(w_), labels(labels_), offsets(offsets_) {
    check_inputs(x, w, labels, offsets);
    check_scale(scale);
    if (aliases_.has_value()) check_vector("aliases", *aliases_, ScalarType::Long, w.size(0));
    labels = packed(labels);
    offsets = packed(offsets);
    guard = packed(guard_);
    aliases = packed(aliases_);
    problem.x = const_matrix(x);
    problem.w = const_matrix(w);
    problem.labels = values<int64_t>(labels);
    problem.offsets = values<int64_t>(offsets);
    problem.baskets = offsets.size(0) - 1;
    problem.aliases = aliases.has_value() ? values<int64_t>(*aliases) : nullptr;
    problem.guard_rows = guard.has_value() ? guard->data_ptr() : nullptr;
    problem.ignore_index = ignore_index;
    problem.scale = scale;
    check_offsets(problem.offsets, problem.baskets, w.size(0));
    problem.rule = check_rule(rule, k, skip, guard_kind, guard_value, problem.offsets, problem.baskets);
    check_guard(guard, x, problem.rule.guard);
    for (int64_t i = 0; i < x.size(0); ++i) {
      const int64_t label = problem.labels[i];
      STD_TORCH_CHECK(label == ignore_index || (label >= 0 && label < w.size(0)), "labels[", i, "] = ", label,
                      " is out of range: allowed are 0 to ", w.size(0) - 1, " and ignore_index = ", ignore_index);
    }
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> cos_lse(const Tensor& x, const Tensor& w, const Tensor& labels,
                                                   const Tensor& offsets, const std::optional<Tensor>& guard,
                                                   const std::optional<Tensor>& aliases, double scale, int64_t rule,
                                                   int64_t k, int64_t skip, int64_t guard_kind, double guard_value,
                                                   int64_t ignore_index) {
  const Inputs in(x, w, labels, offsets, guard, aliases, scale, rule, k, skip, guard_kind, guard_value, ignore_index);
  const int64_t rows = x.size(0);
  const ScalarType type = result_dtype(x);
  Tensor lse = torch::stable::new_empty(x, {rows}, type);
  Tensor cos_t = torch::stable::new_empty(x, {rows}, type);
  Tensor mined_idx = torch::stable::new_empty(x, {rows, in.problem.baskets, in.problem.rule.k}, ScalarType::Long);
  Tensor mined_cos = torch::stable::new_empty(x, {rows, in.problem.baskets, in.problem.rule.k}, type);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    cpu::cos_lse_forward<T>(in.problem, threads(),
                            {output<T>(lse), output<T>(cos_t), output<int64_t>(mined_idx), output<T>(mined_cos)});
  };
  type == ScalarType::Double ? run(double{}) : run(float{});
  return {lse, cos_t, mined_idx, mined_cos};
}

// A gradient in the layout of its tensor: [C, D] that is a transposed [D, C] gets one that is transposed as well.
Tensor gradient_for(const Tensor& t, bool wanted) {
  if (!wanted) return torch::stable::new_empty(t, {0});
  const bool transposed = t.stride(0) == 1 && t.stride(1) >= t.size(0) && t.size(1) > 1;
  if (!transposed) return torch::stable::new_empty(t, {t.size(0), t.size(1)});
  return torch::stable::transpose(torch::stable::new_empty(t, {t.size(1), t.size(0)}), 0, 1);
}

std::tuple<Tensor, Tensor> cos_lse_backward(const Tensor& grad_lse, const Tensor& grad_cos_t, const Tensor& x,
                                            const Tensor& w, const Tensor& labels, const Tensor& offsets,
                                            const Tensor& lse, const Tensor& cos_t, const Tensor& mined_idx,
                                            const Tensor& mined_cos, const std::optional<Tensor>& guard,
                                            const std::optional<Tensor>& aliases, double scale, int64_t rule,
                                            int64_t guard_kind, double guard_value, int64_t ignore_index, bool need_dx,
                                            bool need_dw) {
  STD_TORCH_CHECK(mined_idx.dim() == 3, "mined_idx has shape ", shape_of(mined_idx), ", allowed is [B, K, k]");
  const Inputs in(x, w, labels, offsets, guard, aliases, scale, rule, mined_idx.size(2), 0, guard_kind, guard_value,
                  ignore_index);
  const ScalarType type = result_dtype(x);
  const Tensor* vectors[] = {&grad_lse, &grad_cos_t, &lse, &cos_t};
  const char* names[] = {"grad_lse", "grad_cos_t", "lse", "cos_t"};
  for (int i = 0; i < 4; ++i) check_vector(names[i], *vectors[i], type, x.size(0));
  const int64_t slots = x.size(0) * in.problem.baskets * in.problem.rule.k;
  STD_TORCH_CHECK(mined_idx.scalar_type() == ScalarType::Long && mined_idx.numel() == slots &&
                      mined_cos.scalar_type() == type && mined_cos.numel() == slots,
                  "mined_idx and mined_cos must be the [B, K, k] tensors that cos_lse returned");
  Tensor dx = gradient_for(x, need_dx);
  Tensor dw = gradient_for(w, need_dw);
  if (!need_dx && !need_dw) return {dx, dw};
  const Tensor u = packed(grad_lse), t = packed(grad_cos_t), l = packed(lse), c = packed(cos_t),
               idx = packed(mined_idx), cos = packed(mined_cos);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    cpu::cos_lse_backward<T>(in.problem, threads(),
                             {values<T>(u), values<T>(t), values<T>(l), values<T>(c), values<int64_t>(idx),
                              values<T>(cos)},
                             out_matrix(dx, need_dx), out_matrix(dw, need_dw));
  };
  type == ScalarType::Double ? run(double{}) : run(float{});
  return {dx, dw};
}

Tensor target_cos(const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets,
                  int64_t ignore_index) {
  const Inputs in(x, w, labels, offsets, std::nullopt, std::nullopt, 1.0, static_cast<int64_t>(Rule::own), 0, 0, 0,
                  0.0, ignore_index);
  Tensor cos_t = torch::stable::new_empty(x, {x.size(0)}, result_dtype(x));
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    cpu::target_cosines<T>(in.problem, threads(), output<T>(cos_t));
  };
  result_dtype(x) == ScalarType::Double ? run(double{}) : run(float{});
  return cos_t;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(bbs_kernels, CPU, m) {
  m.impl("cos_lse", TORCH_BOX(&cos_lse));
  m.impl("cos_lse_backward", TORCH_BOX(&cos_lse_backward));
  m.impl("target_cos", TORCH_BOX(&target_cos));
}

}  // namespace bbs::ops
