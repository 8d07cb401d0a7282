#include "device.h"

#include <cuda_runtime.h>

#include <atomic>
#include <map>
#include <mutex>

namespace bbs::cuda {
namespace {

int attribute(cudaDeviceAttr what, int device, int otherwise) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, what, device) == cudaSuccess && value > 0 ? value : otherwise;
}

struct Devices {
  std::mutex mutex;
  std::map<int, Machine> known;
};
Devices& devices() {
  static auto* const all = new Devices;
  return *all;
}

std::atomic<BadLabel*> bad_label{nullptr};

}  // namespace

Machine machine_of_device(int device) {
  const std::lock_guard<std::mutex> lock(devices().mutex);
  auto& known = devices().known;
  const auto found = known.find(device);
  if (found != known.end()) return found->second;
  const Machine least = machine_of(0, 1);
  const Machine machine = {
      attribute(cudaDevAttrMultiProcessorCount, device, least.multiprocessors),
      attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device, least.shared_per_block),
      attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device, least.shared_per_multiprocessor)};
  known.emplace(device, machine);
  return machine;
}

bool is_capturing(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) == cudaSuccess &&
         status != cudaStreamCaptureStatusNone;
}

BadLabel* known_bad_label() { return bad_label; }

BadLabel* bad_label_of_process() {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (bad_label) return bad_label;
  void* memory = nullptr;
  if (cudaHostAlloc(&memory, sizeof(BadLabel), cudaHostAllocPortable | cudaHostAllocMapped) != cudaSuccess) {
    cudaGetLastError();  // or the next launch would be blamed
    return nullptr;      // a later call may get it
  }
  auto* label = static_cast<BadLabel*>(memory);
  *label = {BadLabel::none, 0};
  bad_label = label;
  return label;
}

cudaError_t wait_for_used_devices() {
  std::map<int, Machine> used;
  {
    const std::lock_guard<std::mutex> lock(devices().mutex);  // not while waiting: a device may wait for another thread
    used = devices().known;
  }
  if (used.empty()) return cudaSuccess;
  int current = 0;
  cudaError_t error = cudaGetDevice(&current);
  for (const auto& one : used) {
    if (error == cudaSuccess) error = cudaSetDevice(one.first);
    if (error == cudaSuccess) error = cudaDeviceSynchronize();
  }
  cudaSetDevice(current);
  return error;
}

}  // namespace bbs::cuda
