#include "accelerator.h"

#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <atomic>

#include "../common/check_values.h"

namespace bbs::ops {
namespace {

std::atomic<const Accelerator*> in_use{nullptr};

int create_guard(int32_t device, void** guard) {
  return aoti_torch_create_device_guard(device, reinterpret_cast<DeviceGuardHandle*>(guard));
}
int delete_guard(void* guard) { return aoti_torch_delete_device_guard(static_cast<DeviceGuardHandle>(guard)); }

const Accelerator* torchs() {
  // Loaded by `import torch`, but not for the look-up of others, hence by its name.
  static void* const library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_NOLOAD);
  static const Accelerator table = {
      library ? reinterpret_cast<int (*)(int32_t, cuda::Stream*)>(dlsym(library, "aoti_torch_get_current_cuda_stream"))
              : nullptr,
      &create_guard, &delete_guard, 0};
  check(table.current_stream != nullptr, "bbs_kernels: a tensor is on CUDA, and ",
        library ? "this torch does not tell its CUDA stream: expected torch 2.10 or later"
                : "libtorch_cuda.so is not loaded: expected a CUDA build of torch");
  return &table;
}

}  // namespace

const Accelerator& accelerator() {
  const Accelerator* table = in_use.load(std::memory_order_acquire);
  return table ? *table : *torchs();
}

void use_accelerator(const Accelerator* table) { in_use.store(table, std::memory_order_release); }

bool is_here(const torch::stable::Tensor& t) { return accelerator().host_memory ? t.is_cpu() : t.is_cuda(); }

int32_t device_of(const torch::stable::Tensor& t) {
  const int host = accelerator().host_memory;
  return host ? host - 1 : static_cast<int32_t>(t.get_device_index());
}

cuda::Stream current_stream(int32_t device) {
  cuda::Stream stream = nullptr;
  check(accelerator().current_stream(device, &stream) == 0, "torch has no current stream on cuda:", device);
  return stream;
}

DeviceGuard::DeviceGuard(int32_t device) : table_(accelerator()) {
  check(table_.create_device_guard(device, &guard_) == 0, "cuda:", device, " cannot be made the current device");
}

DeviceGuard::~DeviceGuard() { table_.delete_device_guard(guard_); }

}  // namespace bbs::ops
