#include "launch.h"

#include <atomic>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <unordered_map>

#include "../../common/check_values.h"
#include "device.h"

namespace bbs::cuda {
namespace {

// A kernel on a device, for as long as the process lives.
struct Loaded {
  KernelHandle handle = nullptr;
  std::atomic<int> granted{0};  // bytes of dynamic shared memory that the driver gives; only grows
  std::mutex asking;
};

// Handles of one table: those of a test mean nothing to libcuda.
struct Store {
  std::mutex mutex;
  std::map<const void*, Library> libraries;  // by image: loaded once, whatever the number of kernels and devices
  std::unordered_map<uint64_t, Loaded> kernels;
};

Store& store() {
  static std::mutex mutex;
  static auto* const all = new std::map<const Driver*, Store>;
  static thread_local const Driver* table = nullptr;
  static thread_local Store* mine = nullptr;
  const Driver* now = &driver();
  if (table == now) return *mine;
  const std::lock_guard<std::mutex> lock(mutex);
  mine = &(*all)[now];
  table = now;
  return *mine;
}

std::atomic<ImageProvider*> images{nullptr};

int arch_of(int device) { return 10 * attribute_of(kComputeMajor, device) + attribute_of(kComputeMinor, device); }

const void* image_of(const std::string& symbol, int device) {
  const int arch = arch_of(device);
  ImageProvider* const provider = images.load(std::memory_order_acquire);
  check(provider != nullptr, "bbs_kernels: no CUDA kernels: `import bbs_kernels` says where they come from");
  const void* image = nullptr;
  char error[4096] = "";
  check(provider(symbol.c_str(), arch, &image, error, sizeof error) == 0, error);
  return image;
}

// The usual reasons: a driver older than the compiler of the image, and an image for other devices.
void refuse_image(Status status, const std::string& symbol, int device) {
  int version = 0;
  driver().cuDriverGetVersion(&version);  // 1000 * major + 10 * minor; 0 where even that fails
  std::ostringstream what;
  what << "NVIDIA's driver (of CUDA " << version / 1000 << "." << version % 1000 / 10 << ") refuses the image of "
       << symbol << " for sm_" << arch_of(device);
  const bool of_image = status == kInvalidImage || status == kNoBinaryForGpu || status == kUnsupportedPtx;
  check_driver(status, what.str().c_str(), "",
               of_image
                   ? ": update the driver, or build bbs-kernels on this machine; `python -m bbs_kernels.info` says "
                     "what this build has"
                   : "");  // else the device itself failed, before
}

Loaded& load(const Kernel& kernel, uint64_t key, const Queue& queue) {
  check(!is_capturing(queue.stream),
        "a CUDA graph is being captured, and a kernel of this call has not run on the device: run one step before the "
        "capture");
  const std::string symbol = symbol_of(kernel);
  const void* const image = image_of(symbol, queue.device);  // may compile, and needs Python: no lock is held
  Store& kept = store();
  const std::lock_guard<std::mutex> lock(kept.mutex);
  if (const auto found = kept.kernels.find(key); found != kept.kernels.end()) return found->second;
  const auto [library, added] = kept.libraries.try_emplace(image, nullptr);
  if (added) {
    const Status status = driver().cuLibraryLoadData(&library->second, image, nullptr, nullptr, 0, nullptr, nullptr, 0);
    if (status != kSuccess) {
      kept.libraries.erase(library);
      refuse_image(status, symbol, queue.device);
    }
  }
  KernelHandle handle = nullptr;
  check_driver(driver().cuLibraryGetKernel(&handle, library->second, symbol.c_str()), "the image does not hold ",
               symbol.c_str());
  Loaded& made = kept.kernels[key];
  made.handle = handle;
  return made;
}

Loaded& find(const Kernel& kernel, const Queue& queue) {
  const uint64_t key = static_cast<uint64_t>(queue.device) << 32 | id_of(kernel);
  Store& kept = store();
  {
    const std::lock_guard<std::mutex> lock(kept.mutex);
    const auto found = kept.kernels.find(key);
    if (found != kept.kernels.end()) return found->second;
  }
  return load(kernel, key, queue);
}

// Lets a kernel be launched with `bytes` of dynamic shared memory. Of two threads that ask at once the one that wants
// less must not come last: the driver would take back what the other one launches with.
void allow_shared(Loaded& found, const Kernel& kernel, int bytes, int ordinal) {
  constexpr int kUnasked = 48 * 1024;  // what every kernel gets
  if (bytes <= kUnasked || bytes <= found.granted.load(std::memory_order_acquire)) return;
  const std::lock_guard<std::mutex> lock(found.asking);
  if (bytes <= found.granted.load(std::memory_order_relaxed)) return;
  DeviceHandle device = 0;
  check_driver(driver().cuDeviceGet(&device, ordinal), "a CUDA device cannot be had");
  const Status status = driver().cuKernelSetAttribute(kMaxDynamicShared, bytes, found.handle, device);
  if (status != kSuccess) check_driver(status, "shared memory cannot be had for ", symbol_of(kernel).c_str());
  found.granted.store(bytes, std::memory_order_release);
}

}  // namespace

void use_images(ImageProvider* provider) { images.store(provider, std::memory_order_release); }

void launch(const Kernel& kernel, const Grid& grid, int threads, int shared_bytes, const void* params,
            const Queue& queue) {
  Loaded& found = find(kernel, queue);
  allow_shared(found, kernel, shared_bytes, queue.device);
  const LaunchConfig config = {static_cast<unsigned>(grid.x),
                               static_cast<unsigned>(grid.y),
                               static_cast<unsigned>(grid.z),
                               static_cast<unsigned>(threads),
                               1,
                               1,
                               static_cast<unsigned>(shared_bytes),
                               queue.stream,
                               nullptr,
                               0};
  void* parameters[] = {const_cast<void*>(params)};
  const Status status = driver().cuLaunchKernelEx(&config, found.handle, parameters, nullptr);
  if (status != kSuccess) check_driver(status, "the driver does not launch ", symbol_of(kernel).c_str());
}

}  // namespace bbs::cuda
