#include "driver.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>

#include "../../common/check_values.h"

namespace bbs::cuda {
namespace {

std::atomic<const Driver*> in_use{nullptr};

const Driver* load() {
  static std::mutex mutex;
  static Driver table{};
  static bool complete = false;
  const std::lock_guard<std::mutex> lock(mutex);
  if (complete) return &table;
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  check(library != nullptr, "bbs_kernels: a tensor is on CUDA, but NVIDIA's driver cannot be loaded (",
        library ? "" : dlerror(), "): install the driver, or move the tensors to the CPU");
#define BBS_DRIVER_LOOK_UP(name, parameters)                                               \
  table.name = reinterpret_cast<Status(*) parameters>(dlsym(library, #name));              \
  check(table.name != nullptr, "bbs_kernels: NVIDIA's driver is too old, it has no " #name \
                               ": expected one of CUDA 12.0 or later, update the driver");
  BBS_DRIVER_FUNCTIONS(BBS_DRIVER_LOOK_UP)
#undef BBS_DRIVER_LOOK_UP
  const Status status = table.cuInit(0);
  const char* text = nullptr;
  if (status != kSuccess) table.cuGetErrorString(status, &text);
  check(status == kSuccess, "bbs_kernels: NVIDIA's driver cannot be started: ", text ? text : "unknown error", " (",
        status, ")");
  complete = true;
  return &table;
}

}  // namespace

const Driver& driver() {
  if (const Driver* table = in_use.load(std::memory_order_acquire)) return *table;
  const Driver* table = load();
  in_use.store(table, std::memory_order_release);
  return *table;
}

void use_driver(const Driver* table) { in_use.store(table, std::memory_order_release); }

void check_driver(Status status, const char* what, const char* object, const char* advice) {
  if (status == kSuccess) return;
  const char* text = nullptr;
  driver().cuGetErrorString(status, &text);
  check(false, "bbs_kernels: ", what, object, ": ", text ? text : "unknown CUDA error", " (", status, ")", advice);
}

}  // namespace bbs::cuda
