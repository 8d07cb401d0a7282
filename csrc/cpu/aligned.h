// A cache-line aligned array of trivial values; uninitialised unless asked, since most buffers are written before read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace bbs::cpu {

template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(int64_t size) { reset(size); }

  void reset(int64_t size) {
    const size_t bytes = (static_cast<size_t>(size) * sizeof(T) + 63) / 64 * 64 + 64;
    data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (!data_) throw std::bad_alloc();
    size_ = size;
  }
  void zero() { std::memset(static_cast<void*>(data_.get()), 0, static_cast<size_t>(size_) * sizeof(T)); }

  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }
  int64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

}  // namespace bbs::cpu
