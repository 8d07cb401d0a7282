#include "device.h"

#include <cuda_runtime.h>

#include <map>
#include <mutex>

namespace bbs::cuda {
namespace {

int attribute(cudaDeviceAttr what, int device, int otherwise) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, what, device) == cudaSuccess && value > 0 ? value : otherwise;
}

}  // namespace

Machine machine_of_device(int device) {
  static std::mutex mutex;
  static auto* const known = new std::map<int, Machine>;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known->find(device);
  if (found != known->end()) return found->second;
  const Machine least = machine_of(0, 1);
  const Machine machine = {
      attribute(cudaDevAttrMultiProcessorCount, device, least.multiprocessors),
      attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device, least.shared_per_block),
      attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device, least.shared_per_multiprocessor)};
  known->emplace(device, machine);
  return machine;
}

bool is_capturing(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) == cudaSuccess &&
         status != cudaStreamCaptureStatusNone;
}

BadLabel* bad_label_of_process() {
  static BadLabel* const found = [] {
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, sizeof(BadLabel), cudaHostAllocPortable | cudaHostAllocMapped) != cudaSuccess)
      return static_cast<BadLabel*>(nullptr);
    auto* label = static_cast<BadLabel*>(memory);
    *label = {BadLabel::none, 0};
    return label;
  }();
  return found;
}

}  // namespace bbs::cuda
