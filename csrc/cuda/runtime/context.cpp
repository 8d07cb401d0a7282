#include "context.h"

#include <map>
#include <mutex>

namespace bbs::cuda {
namespace {

// Retained once per device and table, never released: torch keeps it alive as well.
Context primary_of(int device) {
  static std::mutex mutex;
  static auto* const retained = new std::map<std::pair<const Driver*, int>, Context>;
  const Driver& table = driver();
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = retained->find({&table, device});
  if (found != retained->end()) return found->second;
  DeviceHandle handle = 0;
  check_driver(table.cuDeviceGet(&handle, device), "a CUDA device cannot be had");
  Context context = nullptr;
  check_driver(table.cuDevicePrimaryCtxRetain(&context, handle), "the context of a CUDA device cannot be had");
  retained->emplace(std::make_pair(&table, device), context);
  return context;
}

}  // namespace

ContextGuard::ContextGuard(int device) {
  const Context primary = primary_of(device);
  check_driver(driver().cuCtxGetCurrent(&before_), "the current CUDA context cannot be had");
  if (before_ == primary) return;
  check_driver(driver().cuCtxSetCurrent(primary), "the context of a CUDA device cannot be made current");
  changed_ = true;
}

// Also where nothing was current: the CUDA runtime takes its current device from the context of the thread, so that a
// context left behind would send the caller's next tensors to another device.
ContextGuard::~ContextGuard() {
  if (changed_) driver().cuCtxSetCurrent(before_);
}

}  // namespace bbs::cuda
