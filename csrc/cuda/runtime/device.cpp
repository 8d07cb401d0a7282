#include "device.h"

#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "context.h"

namespace bbs::cuda {
namespace {

// By table: a device of a test is none of libcuda's.
struct Devices {
  std::mutex mutex;
  std::map<std::pair<const Driver*, int>, Machine> known;
  std::map<const Driver*, BadLabel*> bad_labels;
};
Devices& devices() {
  static auto* const all = new Devices;
  return *all;
}

std::atomic<const Machine*> planned_for{nullptr};

// The latest of bad_labels: take_bad_label_word() must not need a driver.
std::atomic<BadLabel*> bad_label{nullptr};

}  // namespace

int attribute_of(DeviceAttribute what, int device) {
  DeviceHandle handle = 0;
  int value = 0;
  check_driver(driver().cuDeviceGet(&handle, device), "a CUDA device cannot be had");
  check_driver(driver().cuDeviceGetAttribute(&value, what, handle), "a CUDA device does not tell its sizes");
  return value;
}

Machine machine_of_device(int device) {
  const std::pair<const Driver*, int> key{&driver(), device};
  Machine machine{};
  {
    const std::lock_guard<std::mutex> lock(devices().mutex);
    const auto found = devices().known.find(key);
    if (found != devices().known.end()) machine = found->second;
  }
  if (machine.multiprocessors == 0) {
    machine = {attribute_of(kMultiprocessorCount, device), attribute_of(kSharedPerBlockOptin, device),
               attribute_of(kSharedPerMultiprocessor, device)};
    const std::lock_guard<std::mutex> lock(devices().mutex);
    devices().known.emplace(key, machine);
  }
  const Machine* const told = planned_for.load(std::memory_order_acquire);
  return told ? *told : machine;
}

void use_machine(const Machine* machine) { planned_for.store(machine, std::memory_order_release); }

bool is_capturing(Stream stream) {
  int status = kCaptureNone;
  const Status asked = driver().cuStreamIsCapturing(stream, &status);
  if (asked == kCaptureImplicit) return true;  // the default stream, which must not be used while another is captured
  check_driver(asked, "a CUDA stream does not tell whether it is captured");
  return status != kCaptureNone;
}

BadLabel* bad_label_of_process() {
  const std::lock_guard<std::mutex> lock(devices().mutex);
  BadLabel*& mine = devices().bad_labels[&driver()];
  if (!mine) {
    void* memory = nullptr;
    if (driver().cuMemHostAlloc(&memory, sizeof(BadLabel), kHostAllocPortableMapped) != kSuccess)
      return nullptr;  // a later call may get it
    mine = static_cast<BadLabel*>(memory);
    mine->word = BadLabel::none;
  }
  bad_label.store(mine, std::memory_order_release);
  return mine;
}

BadLabel* known_bad_label() { return bad_label.load(std::memory_order_acquire); }

int64_t take_bad_label_word() {
  BadLabel* const found = known_bad_label();
  if (!found || __atomic_load_n(&found->word, __ATOMIC_ACQUIRE) == BadLabel::none) return BadLabel::none;
  return __atomic_exchange_n(&found->word, BadLabel::none, __ATOMIC_ACQ_REL);
}

void wait_for_used_devices() {
  std::vector<int> used;
  {
    const std::lock_guard<std::mutex> lock(devices().mutex);  // not while waiting: a device may wait for another thread
    if (devices().known.empty()) return;                      // and no driver is needed
    for (const auto& one : devices().known)
      if (one.first.first == &driver()) used.push_back(one.first.second);
  }
  for (const int device : used) {
    const ContextGuard context(device);
    check_driver(driver().cuCtxSynchronize(), "a CUDA device failed");
  }
}

}  // namespace bbs::cuda
