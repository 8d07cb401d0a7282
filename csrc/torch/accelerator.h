// What the CUDA op bodies ask torch's CUDA side: the current stream and a device guard. This library loads beside every
// torch, so what only libtorch_cuda.so holds is looked up there at the first call. A test replaces the table.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include "../cuda/runtime/driver_types.h"

namespace bbs::ops {

extern "C" struct Accelerator {
  int (*current_stream)(int32_t device, cuda::Stream* stream);  // 0, or an error
  int (*create_device_guard)(int32_t device, void** guard);
  int (*delete_device_guard)(void* guard);
  int host_memory;  // 1 + the device whose tensors those of the CPU stand for; 0: tensors of CUDA
};

// The table in use. Throws where torch is no CUDA build.
const Accelerator& accelerator();

// Replaces torch's by `table`, which stays the caller's; null: back to torch's.
void use_accelerator(const Accelerator* table);

// Whether the kernels can read a tensor where it is, and on which device that is.
bool is_here(const torch::stable::Tensor& t);
int32_t device_of(const torch::stable::Tensor& t);

cuda::Stream current_stream(int32_t device);

// Makes `device` torch's current one for as long as it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int32_t device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  const Accelerator& table_;
  void* guard_ = nullptr;
};

}  // namespace bbs::ops
