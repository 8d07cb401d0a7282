// Checked tensors of a CUDA call and the plan that follows from them; what forward and backward have in common.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "../cuda/check_call.h"
#include "../cuda/runtime/context.h"
#include "../cuda/runtime/device.h"
#include "../cuda/runtime/launch.h"
#include "accelerator.h"
#include "checks.h"
#include "cuda_tables.h"
#include "tensors.h"

namespace bbs::ops {

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

inline cuda::Matrix matrix(const Tensor& t) {
  return {t.data_ptr(), t.size(0), t.size(1), t.stride(0), t.stride(1), is_half(t.scalar_type()) ? 2 : 4};
}

inline int32_t operand_of(const Tensor& x, bool allow_tf32) {
  switch (x.scalar_type()) {
    case ScalarType::BFloat16: return cuda::Operand::bf16;
    case ScalarType::Half: return cuda::Operand::fp16;
    default: return allow_tf32 ? cuda::Operand::tf32 : cuda::Operand::fp32;
  }
}

// Raises the label out of range that an earlier launch found, once.
inline void raise_bad_label() {
  const int64_t word = cuda::take_bad_label_word();
  if (word == cuda::BadLabel::none) return;
  const int64_t label = cuda::BadLabel::label(word);
  check(false, "labels of an earlier call: expected 0 to ", cuda::BadLabel::classes(word) - 1, " or ignore_index, got ",
        label,
        label == cuda::BadLabel::least  ? " or less"
        : label == cuda::BadLabel::most ? " or more"
                                        : "",
        "; the loss of its row was NaN");
}

// The call as the launch plan takes it. The tensors are packed already.
inline cuda::ForwardCall describe_call(const Tensor& x, const Tensor& w, const Tensor& labels,
                                       const std::optional<Tensor>& guard, const std::optional<Tensor>& aliases,
                                       bool allow_tf32, int64_t baskets, const RuleParams& rule, const RuleArguments& a,
                                       const RowPlaces& places = {}) {
  cuda::ForwardCall call{};
  call.x = matrix(x);
  call.w = matrix(w);
  call.operand = operand_of(x, allow_tf32);
  call.labels = data<int64_t>(labels);
  call.aliases = aliases.has_value() ? data<int64_t>(*aliases) : nullptr;
  call.guard_rows = guard.has_value() ? data<float>(*guard) : nullptr;
  call.row_basket = places.basket.has_value() ? data<int64_t>(*places.basket) : nullptr;
  call.row_alias = places.alias.has_value() ? data<int64_t>(*places.alias) : nullptr;
  call.baskets = baskets;
  call.ignore_index = a.ignore_index;
  call.rule = rule.rule;
  call.guard_kind = rule.guard;
  call.k = static_cast<int32_t>(rule.k);
  call.skip = static_cast<int32_t>(rule.skip);
  call.scale = static_cast<float>(a.scale);
  call.guard_value = static_cast<float>(rule.guard_value);
  call.mined_in_lse = true;
  call.subcenters = static_cast<int32_t>(a.subcenters);
  return call;
}

// Tensors, plan and parameters of one call. The tensors live until the launches are queued, which is enough for torch's
// stream-ordered allocator.
struct CudaCall {
  Tensor x, w, labels;
  std::optional<Tensor> guard, aliases;
  RowPlaces places;
  int32_t device;
  DeviceGuard device_guard;
  cuda::ContextGuard context;
  cuda::Stream stream;
  std::vector<int64_t> offsets;  // of centres
  cuda::Machine machine;
  cuda::ForwardCall call{};
  cuda::ForwardShape shape{};

  CudaCall(const Tensor& x_, const Tensor& w_, const Tensor& labels_, const Tensor& offsets_,
           const std::optional<Tensor>& guard_, const std::optional<Tensor>& aliases_,
           const std::optional<Tensor>& class_index, bool allow_tf32, const RuleArguments& a,
           const RowPlaces& places_ = {})
      : x((check_inputs(x_, w_, labels_, offsets_), on_cuda(x_, w_))),
        w(w_),
        labels(packed(labels_)),
        guard(packed(guard_)),
        aliases(packed(aliases_)),
        places(places_),
        device(device_of(x_)),
        device_guard(device),
        context(device),
        stream(current_stream(device)),
        machine(cuda::machine_of_device(device)) {
    if (!cuda::is_capturing(stream)) {  // there an error could not be told from a bad graph
      cuda::bad_label_of_process();
      raise_bad_label();
    }
    check_cuda(class_index);
    check_scale(a.scale);
    const int64_t classes = check_subcenters(a.subcenters, w);
    if (aliases.has_value()) {
      check_vector("aliases", *aliases, ScalarType::Long, classes);
      check_here("aliases", *aliases);
    }
    if (places.basket.has_value()) check_here("row_basket", *places.basket);
    if (places.alias.has_value()) check_here("row_alias", *places.alias);
    const Tensor host = packed(offsets_);
    offsets.assign(data<int64_t>(host), data<int64_t>(host) + host.size(0));
    const auto baskets = static_cast<int64_t>(offsets.size()) - 1;
    check_offsets(offsets.data(), baskets, classes);
    const RuleParams rule = check_rule(a.rule, a.k, a.skip, a.guard_kind, a.guard_value, offsets.data(), baskets);
    check_guard(guard, x, rule.guard);
    if (guard.has_value()) check_here("guard", *guard);

    for (int64_t& offset : offsets) offset *= a.subcenters;
    call = describe_call(x, w, labels, guard, aliases, allow_tf32, baskets, rule, a, places);
    cuda::check_call(call);
    shape = cuda::shape_of(call);
  }
  CudaCall(const CudaCall&) = delete;
  CudaCall& operator=(const CudaCall&) = delete;

  // What cuda::forward_launches and its like call.
  auto launcher() const {
    return [queue = cuda::Queue{device, stream}](const cuda::Kernel& kernel, const cuda::Grid& grid, int32_t threads,
                                                 int32_t shared, const auto& params) {
      cuda::launch(kernel, grid, threads, shared, &params, queue);
    };
  }

  Tables tables() const {
    return tables_of(offsets, cuda::class_align(shape.w_transposed, shape.w_bytes), shape.subcenters, x, device,
                     stream);
  }

  void check_here(const char* name, const Tensor& t) const {
    check(is_here(t) && device_of(t) == device, name, ": expected a tensor on the device of x, cuda:", device,
          ", got one elsewhere");
  }

 private:
  static Tensor on_cuda(const Tensor& x, const Tensor& w) {
    check(is_here(x), "x: expected the device of the other tensors, CUDA, got the CPU");
    if (!cuda::wants_copy(matrix(x), matrix(w))) return x;
    Tensor copy = torch::stable::new_empty(x, {x.size(0), x.size(1)});  // aligned, which a contiguous view may not be
    return torch::stable::copy_(copy, x);
  }

  void check_cuda(const std::optional<Tensor>& class_index) const {
    check(!class_index.has_value(),
          "class_index: expected None with tensors on CUDA, which have no Partial FC, got a tensor");
    check(x.scalar_type() != ScalarType::Double, "x: expected float32, float16 or bfloat16 on CUDA, got float64");
    check_here("w", w);
    check_here("labels", labels);
  }
};

inline Tensor device_bytes(const Tensor& like, int64_t bytes) {
  return torch::stable::new_empty(like, {bytes}, ScalarType::Byte);
}

}  // namespace bbs::ops
