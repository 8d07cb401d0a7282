// Log-sum-exp as a pair that can be merged: sum of exp(scale * (c - max)), with max in units of the cosine.
// An empty set is (-inf, 0). A NaN anywhere makes the sum NaN and stays.
#pragma once

#include "host_device.h"

namespace bbs {

struct LsePair {
  float max;
  float sum;
};

// exp(scale * difference) is written exp2(scale_log2e * difference): one instruction on a GPU.
template <class Exp2>
BBS_HOST_DEVICE LsePair merge(LsePair a, LsePair b, float scale_log2e, Exp2 exp2) {
  if (!(b.sum != 0.0f)) return a;  // also keeps (-inf) - (-inf) out of the exponent
  if (!(a.sum != 0.0f)) return b;
  const float top = a.max > b.max ? a.max : b.max;
  return {top, a.sum * exp2(scale_log2e * (a.max - top)) + b.sum * exp2(scale_log2e * (b.max - top))};
}

}  // namespace bbs
