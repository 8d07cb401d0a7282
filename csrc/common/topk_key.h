// Top-k by one integer compare: a 64-bit key whose order is "larger cosine first, then smaller class index".
// The upper half is the cosine's bits mapped to unsigned order, the lower half the complement of the index. The order
// is total, so the best k of a set depend neither on how it was split nor on the order in which it was seen.
#pragma once

#include "host_device.h"

namespace bbs {

using TopkKey = uint64_t;

// Below every key of a real cosine: -inf maps to 0x007fffff in the upper half.
constexpr TopkKey kNoKey = 0;

// Float bits so that unsigned order is numeric order: negative numbers flipped whole, others get the sign bit.
BBS_HOST_DEVICE uint32_t ordered_bits(uint32_t float_bits) {
  return (float_bits & 0x80000000u) ? ~float_bits : float_bits | 0x80000000u;
}

BBS_HOST_DEVICE uint32_t float_bits_of(uint32_t ordered) {
  return (ordered & 0x80000000u) ? ordered & 0x7fffffffu : ~ordered;
}

// `cos_bits`: bits of a cosine that is not NaN and not -0, whose bits would order it below +0.
BBS_HOST_DEVICE TopkKey make_key(uint32_t cos_bits, int32_t class_index) {
  return (static_cast<uint64_t>(ordered_bits(cos_bits)) << 32) | static_cast<uint32_t>(~class_index);
}

BBS_HOST_DEVICE uint32_t key_cos_bits(TopkKey key) { return float_bits_of(static_cast<uint32_t>(key >> 32)); }
BBS_HOST_DEVICE int32_t key_class(TopkKey key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

}  // namespace bbs
