// Partial FC: the ops speak of classes by their index in w; the kernels see only the sampled ones, numbered 0 … S-1.
// This is the translation, on integers only: no row of w is copied.
#pragma once

#include <algorithm>
#include <vector>

#include "checks.h"

namespace bbs::ops {

class SampledClasses {
 public:
  // `index`: [S] strictly ascending; null for all classes, and every method is then the identity.
  // `centres`: rows of w that a class has.
  SampledClasses(const int64_t* index, int64_t size, int64_t classes, int64_t centres)
      : index_(index), size_(index ? size : classes), centres_(centres) {
    for (int64_t i = 0; index && i < size; ++i)
      check(index[i] >= (i ? index[i - 1] + 1 : 0) && index[i] < classes, "class_index[", i,
            "]: expected strictly ascending values from 0 to ", classes - 1, ", got ", index[i]);
  }

  static constexpr int64_t kIgnored = -1;  // ignore_index of the local labels

  bool all() const { return index_ == nullptr; }
  const int64_t* index() const { return index_; }
  int64_t size() const { return size_; }

  int64_t to_global(int64_t cls) const { return all() || cls < 0 ? cls : index_[cls]; }

  // Position of a class among the sampled ones, or -1.
  int64_t to_local(int64_t cls) const {
    if (all()) return cls;
    const int64_t at = lower(cls);
    return at < size_ && index_[at] == cls ? at : -1;
  }

  // The same for rows of w; -1 for one of a class that is not sampled.
  int64_t row_to_global(int64_t row) const {
    return all() || row < 0 ? row : to_global(row / centres_) * centres_ + row % centres_;
  }
  int64_t row_to_local(int64_t row) const {
    const int64_t cls = to_local(row / centres_);
    return cls < 0 ? -1 : cls * centres_ + row % centres_;
  }

  // `row_basket`: null, or the rows' baskets: negative labels are classes of other shards then and stay negative.
  std::vector<int64_t> local_labels(const int64_t* labels, int64_t n, int64_t ignore_index,
                                    const int64_t* row_basket) const {
    std::vector<int64_t> local(labels, labels + n);
    if (all()) return local;
    for (int64_t i = 0; i < n; ++i) {
      if (row_basket ? row_basket[i] < 0 || labels[i] < 0 : labels[i] == ignore_index) {
        local[i] = kIgnored;
        continue;
      }
      local[i] = to_local(labels[i]);
      check(local[i] >= 0, "labels[", i,
            "]: expected a class of class_index, as all classes of the batch are sampled, got ", labels[i]);
    }
    return local;
  }

  std::vector<int64_t> local_offsets(const int64_t* offsets, int64_t n) const {
    std::vector<int64_t> local(offsets, offsets + n);
    if (!all())
      for (int64_t& offset : local) offset = lower(offset);
    return local;
  }

 private:
  int64_t lower(int64_t cls) const { return std::lower_bound(index_, index_ + size_, cls) - index_; }

  const int64_t* index_;
  int64_t size_;
  int64_t centres_;
};

}  // namespace bbs::ops
