// Walks over the tiles of one split: segment by segment, 128 classes at a time. Under a rule that reads no other basket
// it steps over the segments of baskets that no row of the block belongs to.
#pragma once

#include "params.h"
#include "shape.h"

namespace bbs::cuda {

class TileCursor {
 public:
  // `wanted`: one bit per basket, or null for all.
  __device__ TileCursor(const ForwardParams& p, int split, const uint32_t* wanted)
      : segments_(p.segments), at_(p.split_begin[split]), end_(p.split_begin[split + 1]), wanted_(wanted) {
    settle();
  }
  __device__ bool done() const { return at_ == end_; }
  __device__ int64_t index(int r) const { return first_ + r < last_ ? first_ + r : -1; }
  __device__ void advance() {
    first_ += kTileN;
    if (first_ < last_) return;
    ++at_;
    settle();
  }
  __device__ int segment() const { return at_; }
  __device__ int basket() const { return basket_; }
  __device__ int first() const { return first_; }
  __device__ int count() const { return min(kTileN, last_ - first_); }

 private:
  __device__ void settle() {
    for (; at_ < end_; ++at_) {
      basket_ = segments_[at_].basket;
      if (wanted_ == nullptr || (wanted_[basket_ / 32] >> basket_ % 32 & 1)) break;
    }
    if (at_ == end_) return;
    first_ = segments_[at_].first;
    last_ = segments_[at_].last;
  }

  const Segment* segments_;
  int at_, end_;
  const uint32_t* wanted_;
  int basket_ = -1, first_ = 0, last_ = 0;
};

}  // namespace bbs::cuda
