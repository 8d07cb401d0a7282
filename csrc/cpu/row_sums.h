// dX partial sums of one chunk: rows are zeroed when first touched and added to the total in chunk order.
#pragma once

#include <vector>

#include "aligned.h"

namespace bbs::cpu {

template <class T>
class RowSums {
 public:
  RowSums(int64_t rows, int64_t stride) : stride_(stride), values_(rows * stride), touched_(rows, 0) {}

  T* touch(int64_t row) {
    T* at = values_.get() + row * stride_;
    if (!touched_[row]) {
      std::memset(static_cast<void*>(at), 0, static_cast<size_t>(stride_) * sizeof(T));
      touched_[row] = 1;
    }
    return at;
  }

  // total[row] += what this chunk gave; leaves this empty.
  void add_to(RowSums& total) {
    for (size_t r = 0; r < touched_.size(); ++r) {
      if (!touched_[r]) continue;
      const T* from = values_.get() + static_cast<int64_t>(r) * stride_;
      T* to = total.touch(static_cast<int64_t>(r));
      for (int64_t d = 0; d < stride_; ++d) to[d] += from[d];
      touched_[r] = 0;
    }
  }

 private:
  int64_t stride_;
  Aligned<T> values_;
  std::vector<uint8_t> touched_;
};

}  // namespace bbs::cpu
