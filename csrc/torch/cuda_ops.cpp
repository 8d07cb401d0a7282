// CUDA bodies of the ops: check, allocate, launch on the current stream. No host synchronisation; a label out of range
// makes its row NaN and is reported by the next call or by check_labels.
#include "cuda_ops.h"

#include <tuple>

#include "../cuda/backward_call.h"
#include "cuda_call.h"

namespace bbs::ops {
namespace {

// What backward takes beside the inputs: upstream gradients and what forward returned, contiguous.
struct Saved {
  Tensor grad_lse, grad_cos_t, lse, mined_idx, mined_cos;

  Saved(const CudaCall& in, const Tensor& grad_lse_, const Tensor& grad_cos_t_, const Tensor& lse_, const Tensor& cos_t,
        const Tensor& mined_idx_, const Tensor& mined_cos_)
      : grad_lse(packed(grad_lse_)),
        grad_cos_t(packed(grad_cos_t_)),
        lse(packed(lse_)),
        mined_idx(packed(mined_idx_)),
        mined_cos(packed(mined_cos_)) {
    const int64_t rows = in.x.size(0), slots = rows * in.call.baskets * in.call.k;
    check_vector("grad_lse", grad_lse, ScalarType::Float, rows);
    check_vector("grad_cos_t", grad_cos_t, ScalarType::Float, rows);
    check_vector("lse", lse, ScalarType::Float, rows);
    check_vector("cos_t", cos_t, ScalarType::Float, rows);
    check(mined_idx.scalar_type() == ScalarType::Long && mined_idx.numel() == slots &&
              mined_cos.scalar_type() == ScalarType::Float && mined_cos.numel() == slots,
          "mined_idx, mined_cos: expected the [B, K, k] tensors that cos_lse returned, got others");
    in.check_here("grad_lse", grad_lse);
    in.check_here("grad_cos_t", grad_cos_t);
    in.check_here("lse", lse);
    in.check_here("mined_idx", mined_idx);
    in.check_here("mined_cos", mined_cos);
    cuda::check_pairs(in.call);
  }
};

// Outputs of cos_lse and, where there are rows, the plan and the parameters that give them.
struct Forward {
  Tensor lse, cos_t, mined_idx, mined_cos, stash, workspace;
  cuda::ForwardPlan plan{};
  cuda::ForwardParams params{};

  explicit Forward(const CudaCall& in) {
    const int64_t rows = in.x.size(0), baskets = in.call.baskets, listed = in.call.k;
    lse = torch::stable::new_empty(in.x, {rows}, ScalarType::Float);
    cos_t = torch::stable::new_empty(in.x, {rows}, ScalarType::Float);
    mined_idx = torch::stable::new_empty(in.x, {rows, baskets, listed}, ScalarType::Long);
    mined_cos = torch::stable::new_empty(in.x, {rows, baskets, listed}, ScalarType::Float);
    stash = torch::stable::new_empty(in.x, {0}, ScalarType::Float);
    if (rows == 0) return;
    plan = cuda::plan_forward(in.shape, in.offsets.data(), in.machine);
    const Tables tables = in.tables();
    workspace = device_bytes(in.x, plan.at.total);
    params =
        cuda::pack_forward(in.call, in.shape, plan,
                           {data<int64_t>(tables.offsets),
                            data<int32_t>(tables.tile_begin),
                            cuda::known_bad_label(),
                            {data<float>(lse), data<float>(cos_t), data<int64_t>(mined_idx), data<float>(mined_cos)},
                            workspace.data_ptr(),
                            false});
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> cos_lse(
    const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets, const std::optional<Tensor>& guard,
    const std::optional<Tensor>& aliases, double scale, int64_t rule, int64_t k, int64_t skip, int64_t guard_kind,
    double guard_value, int64_t ignore_index, const std::optional<Tensor>& class_index, int64_t /*stash_bytes*/,
    bool allow_tf32, const std::optional<Tensor>& row_basket, const std::optional<Tensor>& row_alias, bool mined_in_lse,
    int64_t workspace_bytes, int64_t subcenters) {
  check_workspace(workspace_bytes);
  CudaCall in(x, w, labels, offsets, guard, aliases, class_index, allow_tf32,
              {scale, rule, k, skip, guard_kind, guard_value, ignore_index, subcenters},
              {row_basket, row_alias, x.size(0)});
  in.call.mined_in_lse = mined_in_lse;
  const Forward f(in);
  if (x.size(0) > 0) cuda::forward_launches(f.params, in.shape, f.plan, in.launcher());
  return {f.lse, f.cos_t, f.mined_idx, f.mined_cos, f.stash};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> margin_softmax(
    const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets, const std::optional<Tensor>& guard,
    const std::optional<Tensor>& aliases, double scale, int64_t rule, int64_t k, int64_t skip, int64_t guard_kind,
    double guard_value, int64_t ignore_index, double m1, double m2, double m3, int64_t boundary, int64_t target_grad,
    const std::optional<Tensor>& class_index, int64_t /*stash_bytes*/, bool allow_tf32, int64_t workspace_bytes,
    int64_t subcenters) {
  check_workspace(workspace_bytes);
  const CudaCall in(x, w, labels, offsets, guard, aliases, class_index, allow_tf32,
                    {scale, rule, k, skip, guard_kind, guard_value, ignore_index, subcenters});
  const auto margin = rounded<float>(check_margin(m1, m2, m3, boundary, target_grad));
  const Forward f(in);
  const int64_t rows = x.size(0);
  Tensor loss = torch::stable::new_empty(f.lse, {rows});
  Tensor grad_lse = torch::stable::new_empty(f.lse, {rows});
  Tensor grad_cos_t = torch::stable::new_empty(f.lse, {rows});
  const cuda::MarginParams params = {
      f.params, margin, {data<float>(loss), data<float>(grad_lse), data<float>(grad_cos_t)}};
  if (rows > 0) cuda::margin_launches(params, in.shape, f.plan, in.launcher());
  return {loss, grad_lse, grad_cos_t, f.lse, f.cos_t, f.mined_idx, f.mined_cos, f.stash};
}

std::tuple<Tensor, Tensor> cos_lse_backward(
    const Tensor& grad_lse, const Tensor& grad_cos_t, const Tensor& x, const Tensor& w, const Tensor& labels,
    const Tensor& offsets, const Tensor& lse, const Tensor& cos_t, const Tensor& mined_idx, const Tensor& mined_cos,
    const Tensor& /*stash*/, const std::optional<Tensor>& guard, const std::optional<Tensor>& aliases, double scale,
    int64_t rule, int64_t guard_kind, double guard_value, int64_t ignore_index,
    const std::optional<Tensor>& class_index, bool need_dx, bool need_dw, bool allow_tf32,
    const std::optional<Tensor>& row_basket, const std::optional<Tensor>& row_alias, int64_t workspace_bytes,
    int64_t subcenters) {
  check_workspace(workspace_bytes);
  const CudaCall in(x, w, labels, offsets, guard, aliases, class_index, allow_tf32,
                    {scale, rule, listed(mined_idx), 0, guard_kind, guard_value, ignore_index, subcenters},
                    {row_basket, row_alias, x.size(0)});
  const int64_t rows = x.size(0);
  const Saved saved(in, grad_lse, grad_cos_t, lse, cos_t, mined_idx, mined_cos);
  Tensor dx = row_gradient(x, row_basket.has_value(), need_dx);
  Tensor dw = gradient_for(w, w.size(0), need_dw);
  if (rows == 0 && need_dw) torch::stable::zero_(dw);
  if (rows == 0 || !(need_dx || need_dw)) return {dx, dw};
  const cuda::BackwardNeeds needs = {need_dx, need_dw};
  const cuda::BackwardLayout layout =
      cuda::lay_out_backward(in.call, in.shape, in.offsets.data(), in.machine, needs, workspace_bytes);
  const Tables tables = in.tables();
  const Tensor workspace = device_bytes(x, layout.total);
  // x may be a transposed view, whose gradient the kernels write row by row.
  const Tensor by_rows = !need_dx || dx.stride(1) == 1 ? dx : torch::stable::new_empty(dx, {rows, x.size(1)});
  cuda::backward_launches(in.call, in.shape, layout, needs,
                          {data<int64_t>(tables.offsets), data<int32_t>(tables.tile_begin), data<float>(saved.grad_lse),
                           data<float>(saved.grad_cos_t), data<float>(saved.lse), data<int64_t>(saved.mined_idx),
                           data<float>(saved.mined_cos), need_dx ? matrix(by_rows) : cuda::Matrix{},
                           need_dw ? matrix(dw) : cuda::Matrix{}, workspace.data_ptr()},
                          in.launcher());
  if (need_dx && dx.stride(1) != 1) torch::stable::copy_(dx, by_rows);
  return {dx, dw};
}

Tensor target_cos(const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets, int64_t ignore_index,
                  const std::optional<Tensor>& class_index, bool allow_tf32, int64_t subcenters) {
  const CudaCall in(x, w, labels, offsets, std::nullopt, std::nullopt, class_index, allow_tf32,
                    {1.0, static_cast<int64_t>(Rule::own), 0, 0, 0, 0.0, ignore_index, subcenters});
  Tensor cos_t = torch::stable::new_empty(x, {x.size(0)}, ScalarType::Float);
  if (x.size(0) == 0) return cos_t;
  const cuda::ForwardPlan plan = cuda::plan_forward(in.shape, in.offsets.data(), in.machine);
  const Tables tables = in.tables();
  const Tensor workspace = device_bytes(x, plan.at.total);
  const cuda::ForwardParams params = cuda::pack_forward(in.call, in.shape, plan,
                                                        {data<int64_t>(tables.offsets),
                                                         data<int32_t>(tables.tile_begin),
                                                         cuda::known_bad_label(),
                                                         {nullptr, data<float>(cos_t), nullptr, nullptr},
                                                         workspace.data_ptr(),
                                                         true});
  cuda::target_launches(params, in.shape, plan, in.launcher());
  return cos_t;
}

// See schemas.cpp.
void check_labels() {
  cuda::wait_for_used_devices();
  raise_bad_label();
}

}  // namespace

void add_cuda_bodies(torch::stable::detail::StableLibrary& library) {
  library.impl("cos_lse", TORCH_BOX(&cos_lse));
  library.impl("margin_softmax", TORCH_BOX(&margin_softmax));
  library.impl("cos_lse_backward", TORCH_BOX(&cos_lse_backward));
  library.impl("target_cos", TORCH_BOX(&target_cos));
}

void add_label_report(torch::stable::detail::StableLibrary& library) {
  library.impl("check_labels", TORCH_BOX(&check_labels));
}

}  // namespace bbs::ops
