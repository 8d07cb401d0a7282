// Keeps the primary context of a device current for one op call. The CUDA runtime binds it to a thread by itself; the
// driver does not, and a thread of autograd may have none.
#pragma once

#include "driver.h"

namespace bbs::cuda {

class ContextGuard {
 public:
  explicit ContextGuard(int device);
  ~ContextGuard();
  ContextGuard(const ContextGuard&) = delete;
  ContextGuard& operator=(const ContextGuard&) = delete;

 private:
  Context before_ = nullptr;
  bool changed_ = false;
};

}  // namespace bbs::cuda
