// One row of W through SGD where it lies; a transposed W goes through a scratch row, since its rows are strided.
#pragma once

#include "aligned.h"
#include "micro/kernels.h"
#include "types.h"

namespace bbs::cpu {

template <class T>
class SgdRows {
 public:
  SgdRows(const MicroKernels<T>& micro, const SgdStep& step)
      : micro_(micro),
        step_(step),
        factors_{static_cast<T>(-step.lr),
                 static_cast<T>(step.momentum_factor),
                 static_cast<T>(1.0 - step.dampening),
                 static_cast<T>(step.weight_decay),
                 step.first_step,
                 step.nesterov} {}

  void update(int64_t row, T* gradient) const {
    Borrowed w(step_.w, row);
    if (!step_.momentum.data) return micro_.sgd(w.get(), nullptr, gradient, step_.w.cols, factors_);
    Borrowed momentum(step_.momentum, row);
    micro_.sgd(w.get(), momentum.get(), gradient, step_.w.cols, factors_);
  }

 private:
  // A row of a matrix as contiguous memory for as long as this lives.
  class Borrowed {
   public:
    Borrowed(const OutMatrix& m, int64_t row)
        : data_(static_cast<T*>(m.data) + row * m.row_stride), cols_(m.cols), stride_(m.col_stride) {
      if (stride_ == 1) return;
      copy_.reset(cols_);
      for (int64_t d = 0; d < cols_; ++d) copy_[d] = data_[d * stride_];
    }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    ~Borrowed() {
      if (stride_ != 1)
        for (int64_t d = 0; d < cols_; ++d) data_[d * stride_] = copy_[d];
    }
    T* get() const { return stride_ == 1 ? data_ : copy_.get(); }

   private:
    T* data_;
    int64_t cols_, stride_;
    Aligned<T> copy_;
  };

  const MicroKernels<T>& micro_;
  const SgdStep& step_;
  SgdFactors<T> factors_;
};

}  // namespace bbs::cpu
