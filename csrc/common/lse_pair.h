// Log-sum-exp in two numbers: the largest cosine, and the sum of exp(scale * (cosine - max)). Merging is exact in max
// and symmetric in its arguments; a fixed order of merges gives fixed bits.
#pragma once

#include <cmath>

#include "host_device.h"

namespace bbs {

struct LsePair {
  float max;
  float sum;
};

BBS_HD inline LsePair empty_pair() { return {-INFINITY, 0.0f}; }

// scale_log2 = scale * log2(e)
BBS_HD inline LsePair merge(LsePair a, LsePair b, float scale_log2) {
  if (a.sum == 0.0f) return b;  // also keeps -inf - -inf out of the exponent
  if (b.sum == 0.0f) return a;
  const float top = a.max > b.max ? a.max : b.max;
  return {top, a.sum * exp2f(scale_log2 * (a.max - top)) + b.sum * exp2f(scale_log2 * (b.max - top))};
}

}  // namespace bbs
