// One integer per (cosine, class): larger key = better candidate, that is larger cosine first, then smaller class
// index. Keys of a row are distinct, so the k best of a set do not depend on how the set was split or in which order it
// came.
#pragma once

#include <cstring>

#include "host_device.h"

namespace bbs {

constexpr uint64_t kNoKey = 0;  // below every real key: ~index has its top bit set for index < 2^31

// Bits of a float in the order of its value; +0 and -0 differ, so cosines store -0 as +0 first.
BBS_HD inline uint32_t ordered_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

BBS_HD inline float from_ordered_bits(uint32_t ordered) {
  const uint32_t bits = ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

BBS_HD inline uint64_t topk_key(float cos, int32_t cls) {
  return static_cast<uint64_t>(ordered_bits(cos)) << 32 | ~static_cast<uint32_t>(cls);
}
BBS_HD inline float key_cos(uint64_t key) { return from_ordered_bits(static_cast<uint32_t>(key >> 32)); }
BBS_HD inline int32_t key_class(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

}  // namespace bbs
