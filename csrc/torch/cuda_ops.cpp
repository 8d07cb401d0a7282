// CUDA bodies of the ops: check, allocate, launch on the current stream. No host synchronisation; a label out of range
// makes its row NaN and is reported by the next eager call.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <string>
#include <tuple>
#include <vector>

#include "../cuda/launch.h"
#include "checks.h"
#include "cuda_tables.h"

namespace bbs::ops {
namespace {

cuda::DType kernel_dtype(const char* name, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Half: return cuda::DType::f16;
    case ScalarType::BFloat16: return cuda::DType::bf16;
    case ScalarType::Float: return cuda::DType::f32;
    default: break;
  }
  check(false, name, " is ", dtype_name(t.scalar_type()), " on CUDA, allowed are float32, float16 and bfloat16");
  return cuda::DType::f32;
}

cuda::Matrix matrix(const Tensor& t) { return {t.data_ptr(), t.stride(0), t.stride(1)}; }

Tensor packed(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }
std::optional<Tensor> packed(const std::optional<Tensor>& t) {
  return t.has_value() ? std::optional<Tensor>(packed(*t)) : std::nullopt;
}

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

void check_on_device(const char* name, const Tensor& t, const Tensor& x) {
  check(t.is_cuda() && t.get_device_index() == x.get_device_index(), name,
        " must be on the device of x, cuda:", static_cast<int64_t>(x.get_device_index()));
}

void* current_stream(const Tensor& x) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return stream;
}

// What an earlier call found; told once.
void raise_bad_label(void* stream, int64_t classes) {
  if (cuda::is_capturing(stream)) return;
  volatile int64_t* flag = cuda::bad_label_flag();
  if (flag == nullptr || flag[0] == 0) return;
  flag[0] = 0;
  check(false, "labels of an earlier call: ", int64_t{flag[1]}, " is out of range [0, ", classes,
        "), so its row is NaN (found on the device, reported by the next call)");
}

struct RuleArguments {
  double scale;
  int64_t rule, k, skip, guard_kind;
  double guard_value;
  int64_t ignore_index;
};

// Tensors, plan and parameters of one call; the tensors live until the launches are queued, which is enough for
// torch's stream-ordered allocator.
struct Call {
  Tensor x, w, labels;
  std::optional<Tensor> guard, aliases;
  torch::stable::accelerator::DeviceGuard device_guard;
  std::vector<int64_t> offsets;
  cuda::Operands operands;
  cuda::ForwardPlan plan;
  cuda::ForwardParams p{};
  std::vector<Tensor> workspace;
  void* stream;

  Call(const Tensor& x_, const Tensor& w_, const Tensor& labels_, const Tensor& offsets_,
       const std::optional<Tensor>& guard_, const std::optional<Tensor>& aliases_,
       const std::optional<Tensor>& class_index, const RuleArguments& a)
      : x((check_inputs(x_, w_, labels_, offsets_), x_)),
        w(w_),
        labels(packed(labels_)),
        guard(packed(guard_)),
        aliases(packed(aliases_)),
        device_guard(x_.get_device_index()) {
    check(!class_index.has_value(), "class_index is not supported on CUDA: pass the sampled rows of w, or use the CPU");
    check(x.size(0) < int64_t{1} << 31 && x.size(1) < int64_t{1} << 31, "x has shape ", shape_of(x),
          ", allowed are fewer than 2^31 rows and columns");
    check_scale(a.scale);
    check_on_device("w", w, x);
    check_on_device("labels", labels, x);
    if (aliases.has_value()) {
      check_vector("aliases", *aliases, ScalarType::Long, w.size(0));
      check_on_device("aliases", *aliases, x);
    }
    const Tensor host = packed(offsets_);
    offsets.assign(data<int64_t>(host), data<int64_t>(host) + host.size(0));
    const auto baskets = static_cast<int64_t>(offsets.size()) - 1;
    check_offsets(offsets.data(), baskets, w.size(0));
    check(baskets <= cuda::kMaxBaskets, "offsets has ", baskets, " baskets, allowed are ", cuda::kMaxBaskets,
          " on CUDA");
    const RuleParams rule = check_rule(a.rule, a.k, a.skip, a.guard_kind, a.guard_value, offsets.data(), baskets);
    check_guard(guard, x, rule.guard);
    if (guard.has_value()) check_on_device("guard", *guard, x);

    stream = current_stream(x);
    raise_bad_label(stream, w.size(0));
    operands = {kernel_dtype("x", x), kernel_dtype("w", w), false, false};
    operands.aligned =
        cuda::is_aligned(matrix(x), x.size(1), operands.x) && cuda::is_aligned(matrix(w), x.size(1), operands.w);
    plan = cuda::plan_forward(x.size(0), operands.x, operands.w, offsets.data(), baskets, rule.k, rule.skip,
                              cuda::blocks_at_once(x.get_device_index()));
    fill(a, rule, baskets);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  template <class T>
  T* work(std::initializer_list<int64_t> shape, ScalarType type) {
    workspace.push_back(torch::stable::new_empty(x, shape, type));
    return data<T>(workspace.back());
  }

  void run(const char* (*launch)(const cuda::Operands&, const cuda::ForwardPlan&, const cuda::ForwardParams&, void*)) {
    const char* failed = launch(operands, plan, p, stream);
    check(failed == nullptr, "bbs_kernels: ", failed ? failed : "");
  }

 private:
  void fill(const RuleArguments& a, const RuleParams& rule, int64_t baskets) {
    const int64_t listed = rule.k > 0 ? rule.k + rule.skip : 0;
    const Tables tables = tables_of(plan, offsets, listed,
                                    torch::stable::Device(torch::headeronly::DeviceType::CUDA, x.get_device_index()));
    workspace.push_back(tables.ints);
    workspace.push_back(tables.offsets);
    const int64_t rows = x.size(0);
    p.x = matrix(x);
    p.w = matrix(w);
    p.labels = data<int64_t>(labels);
    p.offsets = data<int64_t>(tables.offsets);
    p.aliases = aliases.has_value() ? data<int64_t>(*aliases) : nullptr;
    p.guard_rows = guard.has_value() ? data<float>(*guard) : nullptr;
    p.segments = data<cuda::Segment>(tables.ints);
    p.split_begin = data<int32_t>(tables.ints) + tables.split_begin;
    p.basket_begin = data<int32_t>(tables.ints) + tables.basket_begin;
    p.inv_norm = work<float>({rows}, ScalarType::Float);
    p.row_basket = work<int32_t>({rows}, ScalarType::Int);
    p.bad_label = cuda::bad_label_flag();
    p.ignore_index = a.ignore_index;
    p.classes = w.size(0);
    p.list_length = plan.list_length;
    p.rows = static_cast<int32_t>(rows);
    p.depth = static_cast<int32_t>(x.size(1));
    p.baskets = static_cast<int32_t>(baskets);
    p.splits = static_cast<int32_t>(plan.splits);
    p.segment_count = static_cast<int32_t>(plan.segments.size());
    p.rule = static_cast<int32_t>(rule.rule);
    p.guard_kind = static_cast<int32_t>(rule.guard);
    p.k = static_cast<int32_t>(rule.k);
    p.skip = static_cast<int32_t>(rule.skip);
    p.guard_value = static_cast<float>(rule.guard_value);
    p.scale = static_cast<float>(a.scale);
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> cos_lse(
    const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets, const std::optional<Tensor>& guard,
    const std::optional<Tensor>& aliases, double scale, int64_t rule, int64_t k, int64_t skip, int64_t guard_kind,
    double guard_value, int64_t ignore_index, const std::optional<Tensor>& class_index, int64_t /*stash_bytes*/) {
  Call call(x, w, labels, offsets, guard, aliases, class_index,
            {scale, rule, k, skip, guard_kind, guard_value, ignore_index});
  cuda::ForwardParams& p = call.p;
  const int64_t rows = p.rows;
  Tensor lse = torch::stable::new_empty(x, {rows}, ScalarType::Float);
  Tensor cos_t = torch::stable::new_empty(x, {rows}, ScalarType::Float);
  Tensor mined_idx = torch::stable::new_empty(x, {rows, p.baskets, p.k}, ScalarType::Long);
  Tensor mined_cos = torch::stable::new_empty(x, {rows, p.baskets, p.k}, ScalarType::Float);
  Tensor stash = torch::stable::new_empty(x, {0}, ScalarType::Float);
  p.lse = data<float>(lse);
  p.cos_target = data<float>(cos_t);
  p.mined_idx = data<int64_t>(mined_idx);
  p.mined_cos = data<float>(mined_cos);
  p.order = call.work<int32_t>({rows}, ScalarType::Int);
  p.counts = call.work<int32_t>({1}, ScalarType::Int);
  p.pairs = call.work<float>({p.splits, rows, 2}, ScalarType::Float);
  if (mines(p)) {
    const int64_t blocks = call.plan.sweep.grid_x * call.plan.sweep.grid_y;
    p.queues = call.work<uint64_t>({blocks, cuda::kTileM, call.plan.queue_length}, ScalarType::Long);
    p.lists = call.work<uint64_t>({rows, call.plan.list_length}, ScalarType::Long);
    if (p.aliases != nullptr) p.mates = call.work<int32_t>({rows, p.segment_count}, ScalarType::Int);
  }
  call.run(&cuda::launch_forward);
  return {lse, cos_t, mined_idx, mined_cos, stash};
}

Tensor target_cos(const Tensor& x, const Tensor& w, const Tensor& labels, const Tensor& offsets, int64_t ignore_index,
                  const std::optional<Tensor>& class_index) {
  Call call(x, w, labels, offsets, std::nullopt, std::nullopt, class_index,
            {1.0, static_cast<int64_t>(Rule::own), 0, 0, 0, 0.0, ignore_index});
  Tensor cos_t = torch::stable::new_empty(x, {x.size(0)}, ScalarType::Float);
  call.p.cos_target = data<float>(cos_t);
  call.run(&cuda::launch_target_cos);
  return cos_t;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(bbs_kernels, CUDA, m) {
  m.impl("cos_lse", TORCH_BOX(&cos_lse));
  m.impl("target_cos", TORCH_BOX(&target_cos));
}

}  // namespace bbs::ops
