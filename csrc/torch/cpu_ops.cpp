// CPU bodies of the ops: check, allocate, call. Everything the kernels see is plain C++ from here on.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "../cpu/micro/kernels.h"
#include "../cpu/types.h"
#include "checks.h"
#include "kept_tensor.h"
#include "sampled.h"
#include "tensors.h"

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

template <class T>
const T* values(const Tensor& t) {
  return static_cast<const T*>(t.data_ptr());
}
template <class T>
T* output(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

// Null only where there is no tensor: one without elements has no address of its own, and null means none to the
// kernels.
const int64_t* indices(const std::optional<Tensor>& t) {
  static const int64_t nothing = 0;
  if (!t.has_value()) return nullptr;
  return t->numel() ? values<int64_t>(*t) : &nothing;
}

// The tensors that a Problem points into, kept alive and contiguous for as long as it is used.
struct Inputs {
  Tensor x, w, labels, offsets;
  std::optional<Tensor> guard, aliases, class_index;
  RowPlaces places;
  SampledClasses classes;
  std::vector<int64_t> local_labels, local_offsets, local_aliases;  // only with class_index
  cpu::Problem problem;

  Inputs(const Tensor& x_, const Tensor& w_, const Tensor& labels_, const Tensor& offsets_,
         const std::optional<Tensor>& guard_, const std::optional<Tensor>& aliases_,
         const std::optional<Tensor>& class_index_, const RuleArguments& rule, const RowPlaces& places_ = {})
      : x(x_),
        w(w_),
        labels(labels_),
        offsets(offsets_),
        guard(packed(guard_)),
        aliases(packed(aliases_)),
        class_index(checked_index(class_index_)),
        places(places_),
        classes(indices(class_index), class_index.has_value() ? class_index->size(0) : 0,
                (check_inputs(x_, w_, labels_, offsets_), check_subcenters(rule.subcenters, w_)), rule.subcenters) {
    check_scale(rule.scale);
    problem.subcenters = rule.subcenters;
    const int64_t all_classes = w.size(0) / rule.subcenters;
    if (aliases.has_value()) check_vector("aliases", *aliases, ScalarType::Long, all_classes);
    labels = packed(labels);
    offsets = packed(offsets);
    problem.x = const_matrix(x);
    problem.w = const_matrix(w);
    problem.labels = values<int64_t>(labels);
    problem.offsets = values<int64_t>(offsets);
    problem.baskets = offsets.size(0) - 1;
    problem.aliases = indices(aliases);
    problem.class_index = classes.index();
    problem.row_basket = indices(places.basket);
    problem.row_alias = indices(places.alias);
    problem.guard_rows = guard.has_value() ? guard->data_ptr() : nullptr;
    problem.ignore_index = rule.ignore_index;
    // The scale that backward, and torch's own product with an fp32 tensor, will use.
    problem.scale = result_dtype(x) == ScalarType::Double ? rule.scale : static_cast<float>(rule.scale);
    check_offsets(problem.offsets, problem.baskets, all_classes);
    problem.rule =
        check_rule(rule.rule, rule.k, rule.skip, rule.guard_kind, rule.guard_value, problem.offsets, problem.baskets);
    check_guard(guard, x, problem.rule.guard);
    places.basket.has_value() ? check_places() : check_labels();
    if (!classes.all()) localise();
  }
  Inputs(const Inputs&) = delete;  // problem points into this object
  Inputs& operator=(const Inputs&) = delete;

  // Elements of the stash: what the budget allows, and never more than all rows against all classes.
  int64_t stash_size(int64_t bytes) const {
    check(bytes >= 0, "stash_bytes: expected a value from 0, got ", bytes);
    const int64_t item = result_dtype(x) == ScalarType::Double ? 8 : 4;
    return std::min(bytes / item, problem.w.rows * ((x.size(0) + cpu::kLanes - 1) / cpu::kLanes * cpu::kLanes));
  }

 private:
  static std::optional<Tensor> checked_index(const std::optional<Tensor>& index) {
    if (index.has_value())
      check_vector("class_index", *index, ScalarType::Long, index->dim() == 1 ? index->size(0) : 0);
    return packed(index);
  }

  void check_labels() const {
    const int64_t classes_in_w = problem.classes();
    for (int64_t i = 0; i < x.size(0); ++i) {
      const int64_t label = problem.labels[i];
      if (label == problem.ignore_index || (label >= 0 && label < classes_in_w)) continue;
      check(false, "labels[", i, "]: expected 0 to ", classes_in_w - 1, " or ignore_index = ", problem.ignore_index,
            ", got ", label);
    }
  }

  void check_places() const {
    for (int64_t i = 0; i < x.size(0); ++i) {
      const int64_t basket = problem.row_basket[i], label = problem.labels[i];
      check(basket >= -1 && basket < problem.baskets, "row_basket[", i, "]: expected 0 to ", problem.baskets - 1,
            " or -1 for an ignored row, got ", basket);
      if (basket < 0 || label < 0) continue;
      check(label >= problem.offsets[basket] && label < problem.offsets[basket + 1], "labels[", i, "]: expected ",
            problem.offsets[basket], " to ", problem.offsets[basket + 1] - 1, " or a negative value in basket ", basket,
            " of this shard, got ", label);
    }
  }

  void localise() {
    local_labels = classes.local_labels(problem.labels, x.size(0), problem.ignore_index, problem.row_basket);
    local_offsets = classes.local_offsets(problem.offsets, problem.baskets + 1);
    if (problem.aliases) {
      local_aliases.resize(classes.size());
      for (int64_t c = 0; c < classes.size(); ++c) local_aliases[c] = problem.aliases[classes.to_global(c)];
      problem.aliases = local_aliases.data();
    }
    problem.labels = local_labels.data();
    problem.offsets = local_offsets.data();
    problem.ignore_index = SampledClasses::kIgnored;
    problem.w.rows = classes.size() * problem.subcenters;
  }
};

// Calls f with a float or a double, the compute type of x.
template <class F>
void with_compute_type(const Tensor& x, F&& f) {
  result_dtype(x) == ScalarType::Double ? f(double{}) : f(float{});
}

using ForwardResults = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

ForwardResults run_forward(const Inputs& in, int64_t stash_bytes) {
  const int64_t rows = in.x.size(0);
  const ScalarType type = result_dtype(in.x);
  Tensor lse = torch::stable::new_empty(in.x, {rows}, type);
  Tensor cos_t = torch::stable::new_empty(in.x, {rows}, type);
  Tensor mined_idx = torch::stable::new_empty(in.x, {rows, in.problem.baskets, in.problem.rule.k}, ScalarType::Long);
  Tensor mined_cos = torch::stable::new_empty(in.x, {rows, in.problem.baskets, in.problem.rule.k}, type);
  Tensor stash = new_kept(Kept::stash, in.x, {in.stash_size(stash_bytes)}, type);
  with_compute_type(in.x, [&](auto zero) {
    using T = decltype(zero);
    cpu::cos_lse_forward<T>(in.problem, threads(),
                            {output<T>(lse), output<T>(cos_t), output<int64_t>(mined_idx), output<T>(mined_cos),
                             output<T>(stash), stash.numel()});
  });
  if (!in.classes.all())
    for (int64_t n = 0; n < mined_idx.numel(); ++n)
      output<int64_t>(mined_idx)[n] = in.classes.row_to_global(output<int64_t>(mined_idx)[n]);
  return {lse, cos_t, mined_idx, mined_cos, stash};
}

ForwardResults cos_lse(const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets,
                       const std::optional<Tensor>& guard, const std::optional<Tensor>& aliases, double scale,
                       int64_t rule, int64_t k, int64_t skip, int64_t guard_kind, double guard_value,
                       int64_t ignore_index, const std::optional<Tensor>& class_index, int64_t stash_bytes,
                       bool /*allow_tf32*/, const std::optional<Tensor>& row_basket,
                       const std::optional<Tensor>& row_alias, bool mined_in_lse, int64_t workspace_bytes,
                       int64_t subcenters) {
  check_workspace(workspace_bytes);
  Inputs in(x, w, labels, offsets, guard, aliases, class_index,
            {scale, rule, k, skip, guard_kind, guard_value, ignore_index, subcenters},
            {row_basket, row_alias, x.size(0)});
  in.problem.mined_in_lse = mined_in_lse;
  return run_forward(in, stash_bytes);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> margin_softmax(
    const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets, const std::optional<Tensor>& guard,
    const std::optional<Tensor>& aliases, double scale, int64_t rule, int64_t k, int64_t skip, int64_t guard_kind,
    double guard_value, int64_t ignore_index, double m1, double m2, double m3, int64_t boundary, int64_t target_grad,
    const std::optional<Tensor>& class_index, int64_t stash_bytes, bool /*allow_tf32*/, int64_t workspace_bytes,
    int64_t subcenters) {
  check_workspace(workspace_bytes);
  const Inputs in(x, w, labels, offsets, guard, aliases, class_index,
                  {scale, rule, k, skip, guard_kind, guard_value, ignore_index, subcenters});
  const CombinedMargin<double> margin = check_margin(m1, m2, m3, boundary, target_grad);
  const auto [lse, cos_t, mined_idx, mined_cos, stash] = run_forward(in, stash_bytes);
  const int64_t rows = x.size(0);
  Tensor loss = torch::stable::new_empty(lse, {rows});
  Tensor grad_lse = torch::stable::new_empty(lse, {rows});
  Tensor grad_cos_t = torch::stable::new_empty(lse, {rows});
  with_compute_type(x, [&, &lse = lse, &cos_t = cos_t](auto zero) {
    using T = decltype(zero);
    const CombinedMargin<T> family = rounded<T>(margin);
    for (int64_t i = 0; i < rows; ++i) {
      const RowLoss<T> row = row_loss(family, static_cast<T>(scale), values<T>(lse)[i], values<T>(cos_t)[i]);
      output<T>(loss)[i] = row.loss;
      output<T>(grad_lse)[i] = row.grad_lse;
      output<T>(grad_cos_t)[i] = row.grad_cos_t;
    }
  });
  return {loss, grad_lse, grad_cos_t, lse, cos_t, mined_idx, mined_cos, stash};
}

// What backward takes beside the inputs: upstream gradients and what forward returned, contiguous.
struct Saved {
  Tensor grad_lse, grad_cos_t, lse, cos_t, mined_idx, mined_cos, stash;
  std::vector<int64_t> local_mined;

  Saved(const Inputs& in, const Tensor& grad_lse_, const Tensor& grad_cos_t_, const Tensor& lse_, const Tensor& cos_t_,
        const Tensor& mined_idx_, const Tensor& mined_cos_, const Tensor& stash_)
      : grad_lse(packed(grad_lse_)),
        grad_cos_t(packed(grad_cos_t_)),
        lse(packed(lse_)),
        cos_t(packed(cos_t_)),
        mined_idx(packed(mined_idx_)),
        mined_cos(packed(mined_cos_)),
        stash(packed(stash_)) {
    const ScalarType type = result_dtype(in.x);
    const int64_t rows = in.x.size(0);
    check_vector("grad_lse", grad_lse, type, rows);
    check_vector("grad_cos_t", grad_cos_t, type, rows);
    check_vector("lse", lse, type, rows);
    check_vector("cos_t", cos_t, type, rows);
    check_vector("stash", stash, type, stash.dim() == 1 ? stash.size(0) : 0);
    const int64_t slots = rows * in.problem.baskets * in.problem.rule.k;
    check(mined_idx.scalar_type() == ScalarType::Long && mined_idx.numel() == slots &&
              mined_cos.scalar_type() == type && mined_cos.numel() == slots,
          "mined_idx, mined_cos: expected the [B, K, k] tensors that cos_lse returned, got others");
    if (in.classes.all()) return;
    local_mined.assign(values<int64_t>(mined_idx), values<int64_t>(mined_idx) + slots);
    for (int64_t& row : local_mined)
      if (row >= 0) row = in.classes.row_to_local(row);
  }

  template <class T>
  cpu::BackwardIn<T> arguments() const {
    return {values<T>(grad_lse),
            values<T>(grad_cos_t),
            values<T>(lse),
            values<T>(cos_t),
            local_mined.empty() ? values<int64_t>(mined_idx) : local_mined.data(),
            values<T>(mined_cos),
            output<T>(stash),
            stash.numel()};
  }
};

// Memory of a large gradient of w, which the next step will want again.
Tensor kept_gradient(const Tensor& w, int64_t outer, int64_t inner) {
  return new_kept(Kept::gradient, w, {outer, inner}, w.scalar_type());
}

std::tuple<Tensor, Tensor> cos_lse_backward(
    const Tensor& grad_lse, const Tensor& grad_cos_t, const Tensor& x, const Tensor& w, const Tensor& labels,
    const Tensor& offsets, const Tensor& lse, const Tensor& cos_t, const Tensor& mined_idx, const Tensor& mined_cos,
    const Tensor& stash, const std::optional<Tensor>& guard, const std::optional<Tensor>& aliases, double scale,
    int64_t rule, int64_t guard_kind, double guard_value, int64_t ignore_index,
    const std::optional<Tensor>& class_index, bool need_dx, bool need_dw, bool /*allow_tf32*/,
    const std::optional<Tensor>& row_basket, const std::optional<Tensor>& row_alias, int64_t workspace_bytes,
    int64_t subcenters) {
  check_workspace(workspace_bytes);
  const Inputs in(x, w, labels, offsets, guard, aliases, class_index,
                  {scale, rule, listed(mined_idx), 0, guard_kind, guard_value, ignore_index, subcenters},
                  {row_basket, row_alias, x.size(0)});
  const Saved saved(in, grad_lse, grad_cos_t, lse, cos_t, mined_idx, mined_cos, stash);
  Tensor dx = row_gradient(x, row_basket.has_value(), need_dx);
  Tensor dw = gradient_for(w, in.problem.w.rows, need_dw, kept_gradient);
  if (need_dx || need_dw)
    with_compute_type(x, [&](auto zero) {
      using T = decltype(zero);
      cpu::cos_lse_backward<T>(in.problem, threads(), saved.arguments<T>(), out_matrix(dx, need_dx),
                               out_matrix(dw, need_dw), nullptr);
    });
  return {dx, dw};
}

Tensor cos_lse_backward_sgd(const Tensor& grad_lse, const Tensor& grad_cos_t, const Tensor& x, Tensor w,
                            const Tensor& labels, const Tensor& offsets, const Tensor& lse, const Tensor& cos_t,
                            const Tensor& mined_idx, const Tensor& mined_cos, const Tensor& stash,
                            const std::optional<Tensor>& guard, const std::optional<Tensor>& aliases, double scale,
                            int64_t rule, int64_t guard_kind, double guard_value, int64_t ignore_index,
                            const std::optional<Tensor>& class_index, bool need_dx,
                            std::optional<Tensor> momentum_buffer, bool first_step, double lr, double momentum,
                            double dampening, double weight_decay, bool nesterov,
                            const std::optional<Tensor>& row_basket, const std::optional<Tensor>& row_alias,
                            int64_t subcenters) {
  const Inputs in(x, w, labels, offsets, guard, aliases, class_index,
                  {scale, rule, listed(mined_idx), 0, guard_kind, guard_value, ignore_index, subcenters},
                  {row_basket, row_alias, x.size(0)});
  const Saved saved(in, grad_lse, grad_cos_t, lse, cos_t, mined_idx, mined_cos, stash);
  check(!is_half(w.scalar_type()), "w: expected float32 or float64, got ", dtype_name(w.scalar_type()),
        ": a 16-bit master copy would lose small updates");
  check((momentum != 0.0) == momentum_buffer.has_value(),
        "momentum_buffer: expected a tensor exactly when momentum is not 0, got ",
        momentum_buffer.has_value() ? "one" : "none", " with momentum = ", momentum);
  if (momentum_buffer.has_value())
    check(momentum_buffer->scalar_type() == w.scalar_type(), "momentum_buffer: expected the dtype of w, ",
          dtype_name(w.scalar_type()), ", got ", dtype_name(momentum_buffer->scalar_type()));
  if (momentum_buffer.has_value())
    check(momentum_buffer->dim() == 2 && momentum_buffer->size(0) == w.size(0) && momentum_buffer->size(1) == w.size(1),
          "momentum_buffer: expected the shape of w, ", shape_of(w), ", got ", shape_of(*momentum_buffer));
  Tensor dx = row_gradient(x, row_basket.has_value(), need_dx);
  const cpu::SgdStep sgd{out_matrix(w, true),
                         momentum_buffer.has_value() ? out_matrix(*momentum_buffer, true) : cpu::OutMatrix{},
                         first_step,
                         nesterov,
                         lr,
                         momentum,
                         dampening,
                         weight_decay};
  with_compute_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::cos_lse_backward<T>(in.problem, threads(), saved.arguments<T>(), out_matrix(dx, need_dx), {}, &sgd);
  });
  return dx;
}

Tensor target_cos(const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets, int64_t ignore_index,
                  const std::optional<Tensor>& class_index, bool /*allow_tf32*/, int64_t subcenters) {
  const Inputs in(x, w, labels, offsets, std::nullopt, std::nullopt, class_index,
                  {1.0, static_cast<int64_t>(Rule::own), 0, 0, 0, 0.0, ignore_index, subcenters});
  Tensor cos_t = torch::stable::new_empty(x, {x.size(0)}, result_dtype(x));
  with_compute_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::target_cosines<T>(in.problem, threads(), output<T>(cos_t));
  });
  return cos_t;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(bbs_kernels, CPU, m) {
  m.impl("cos_lse", TORCH_BOX(&cos_lse));
  m.impl("margin_softmax", TORCH_BOX(&margin_softmax));
  m.impl("cos_lse_backward", TORCH_BOX(&cos_lse_backward));
  m.impl("cos_lse_backward_sgd", TORCH_BOX(&cos_lse_backward_sgd));
  m.impl("target_cos", TORCH_BOX(&target_cos));
}

}  // namespace bbs::ops
