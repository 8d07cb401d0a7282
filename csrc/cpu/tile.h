// A tile of consecutive classes: their centres in the compute type, with inverse norms. fp32 and fp64 rows with unit
// stride are used where they lie; 16-bit, mixed and transposed ones are converted into a scratch of one tile, never the
// whole W.
#pragma once

#include <vector>

#include "aligned.h"
#include "convert.h"
#include "micro/kernels.h"
#include "rows.h"

namespace bbs::cpu {

template <class T>
class ClassTile {
 public:
  // `capacity` in classes. `padded`: every row may be read up to the next multiple of 16 (what accumulate() does).
  ClassTile(const Problem& problem, int64_t capacity, bool padded)
      : problem_(problem),
        w_(problem.w),
        per_class_(problem.subcenters),
        round_(problem.w.dtype != problem.x.dtype ? problem.x.dtype : problem.w.dtype),
        direct_(in_place(problem, padded)),
        stride_((problem.w.cols + kLanes - 1) / kLanes * kLanes + kLanes),
        rows_(capacity * per_class_ + kDotClasses),
        inv_norm_(capacity * per_class_ + kDotClasses) {
    if (!direct_) {
      copy_.reset(capacity * per_class_ * stride_);
      copy_.zero();
    }
  }

  void load(int64_t first, int64_t count) {
    count_ = count * per_class_;
    for (int64_t c = 0; c < count_; ++c) set(c, first * per_class_ + c);
    pad();
  }

  // Any classes, for the target cosines.
  void gather(const int64_t* classes, int64_t count) {
    count_ = count * per_class_;
    for (int64_t c = 0; c < count; ++c)
      for (int64_t q = 0; q < per_class_; ++q) set(c * per_class_ + q, classes[c] * per_class_ + q);
    pad();
  }

  int64_t classes() const { return count_ / per_class_; }
  int64_t count() const { return count_; }  // of centres
  const T* const* rows() const { return rows_.data(); }
  const T* inv_norm() const { return inv_norm_.data(); }

  // cos[count rounded up to 6][16] against one panel of rows.
  void cosines(const MicroKernels<T>& micro, const T* panel, T* cos) const {
    for (int64_t c = 0; c < count_; c += kDotClasses)
      micro.dot(rows_.data() + c, inv_norm_.data() + c, panel, w_.cols, cos + c * kLanes);
  }

 private:
  static bool in_place(const Problem& problem, bool padded) {
    const ConstMatrix& w = problem.w;
    const bool same = w.dtype == (sizeof(T) == 8 ? DType::f64 : DType::f32) && w.dtype == problem.x.dtype;
    return same && w.col_stride == 1 && !(padded && w.cols % kLanes != 0);
  }

  void set(int64_t c, int64_t centre) {
    const int64_t source = problem_.row_of_centre(centre);
    if (direct_) {
      rows_[c] = static_cast<const T*>(w_.data) + source * w_.row_stride;
    } else {
      T* row = copy_.get() + c * stride_;
      load_row(w_, source, row);
      if (round_ != w_.dtype) round_to(round_, w_.cols, row);
      rows_[c] = row;
    }
    inv_norm_[c] = inverse_norm(micro_kernels<T>().sum_squares(rows_[c], w_.cols));
  }

  // dot() always computes six centres: the last ones repeat the last row and are not read.
  void pad() {
    for (int64_t c = count_; c % kDotClasses != 0; ++c) {
      rows_[c] = rows_[count_ - 1];
      inv_norm_[c] = T(0);
    }
  }

  const Problem& problem_;
  ConstMatrix w_;
  int64_t per_class_;
  DType round_;
  bool direct_;
  int64_t stride_;
  int64_t count_ = 0;
  std::vector<const T*> rows_;
  std::vector<T> inv_norm_;
  Aligned<T> copy_;
};

}  // namespace bbs::cpu
