// CUDA bodies of the ops: check, allocate, launch on the current stream. No host synchronisation; a label out of range
// makes its row NaN and is reported by the next call or by pending_error.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../cuda/launch.h"
#include "cuda_call.h"

namespace bbs::ops {
namespace {

void check_launch(cudaError_t error) {
  check(error == cudaSuccess, "a CUDA kernel could not be launched: ", cuda::launch_error_text(error));
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> cos_lse(const Tensor& x, const Tensor& w, const Tensor& labels,
                                                           const Tensor& offsets, const std::optional<Tensor>& guard,
                                                           const std::optional<Tensor>& aliases, double scale,
                                                           int64_t rule, int64_t k, int64_t skip, int64_t guard_kind,
                                                           double guard_value, int64_t ignore_index,
                                                           const std::optional<Tensor>& class_index,
                                                           int64_t /*stash_bytes*/, bool allow_tf32) {
  const CudaCall in(x, w, labels, offsets, guard, aliases, class_index, allow_tf32,
                    {scale, rule, k, skip, guard_kind, guard_value, ignore_index});
  const int64_t rows = x.size(0), baskets = in.call.baskets, listed = in.call.k;
  Tensor lse = torch::stable::new_empty(x, {rows}, ScalarType::Float);
  Tensor cos_t = torch::stable::new_empty(x, {rows}, ScalarType::Float);
  Tensor mined_idx = torch::stable::new_empty(x, {rows, baskets, listed}, ScalarType::Long);
  Tensor mined_cos = torch::stable::new_empty(x, {rows, baskets, listed}, ScalarType::Float);
  Tensor stash = torch::stable::new_empty(x, {0}, ScalarType::Float);
  if (rows == 0) return {lse, cos_t, mined_idx, mined_cos, stash};
  const cuda::ForwardPlan plan = cuda::plan_forward(in.shape, in.offsets.data(), in.machine);
  const Tables tables = in.tables();
  const Tensor workspace = device_bytes(x, plan.at.total);
  const cuda::ForwardParams params =
      cuda::pack_forward(in.call, in.shape, plan,
                         {data<int64_t>(tables.offsets),
                          data<int32_t>(tables.tile_begin),
                          cuda::bad_label_of_process(),
                          {data<float>(lse), data<float>(cos_t), data<int64_t>(mined_idx), data<float>(mined_cos)},
                          workspace.data_ptr(),
                          false});
  check_launch(cuda::launch_forward(params, in.shape, plan, static_cast<cudaStream_t>(in.stream)));
  return {lse, cos_t, mined_idx, mined_cos, stash};
}

Tensor target_cos(const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets, int64_t ignore_index,
                  const std::optional<Tensor>& class_index, bool allow_tf32) {
  const CudaCall in(x, w, labels, offsets, std::nullopt, std::nullopt, class_index, allow_tf32,
                    {1.0, static_cast<int64_t>(Rule::own), 0, 0, 0, 0.0, ignore_index});
  Tensor cos_t = torch::stable::new_empty(x, {x.size(0)}, ScalarType::Float);
  if (x.size(0) == 0) return cos_t;
  const cuda::ForwardPlan plan = cuda::plan_forward(in.shape, in.offsets.data(), in.machine);
  const Tables tables = in.tables();
  const Tensor workspace = device_bytes(x, plan.at.total);
  const cuda::ForwardParams params = cuda::pack_forward(in.call, in.shape, plan,
                                                        {data<int64_t>(tables.offsets),
                                                         data<int32_t>(tables.tile_begin),
                                                         cuda::bad_label_of_process(),
                                                         {nullptr, data<float>(cos_t), nullptr, nullptr},
                                                         workspace.data_ptr(),
                                                         true});
  check_launch(cuda::launch_target_cosines(params, in.shape, plan, static_cast<cudaStream_t>(in.stream)));
  return cos_t;
}

// The label that an earlier launch found out of range, and how many classes there were: [2] int64 on the CPU, the first
// BadLabel::none where there was none. Reading forgets it. The caller waits for the device.
Tensor take_bad_label() {
  Tensor found = torch::stable::empty({2}, ScalarType::Long);
  volatile cuda::BadLabel* pending = cuda::bad_label_of_process();
  data<int64_t>(found)[0] = pending ? pending->label : cuda::BadLabel::none;
  data<int64_t>(found)[1] = pending ? pending->classes : 0;
  if (pending) pending->label = cuda::BadLabel::none;
  return found;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(bbs_kernels, m) { m.def("take_bad_label() -> Tensor"); }

STABLE_TORCH_LIBRARY_IMPL(bbs_kernels, CompositeExplicitAutograd, m) {
  m.impl("take_bad_label", TORCH_BOX(&take_bad_label));
}

STABLE_TORCH_LIBRARY_IMPL(bbs_kernels, CUDA, m) {
  m.impl("cos_lse", TORCH_BOX(&cos_lse));
  m.impl("target_cos", TORCH_BOX(&target_cos));
}

}  // namespace bbs::ops
