// How a CPU sweep over the classes is cut: pure integers, so that a test can ask for what the kernel does.
// A *chunk* is the unit that threads take from a counter and whose results are merged in chunk order; it depends
// on the number of classes only, never on the number of threads, which is what makes results bit-equal across them.
// A *tile* is the unit that stays in cache; it lies in one basket and in one chunk.
#pragma once

#include <algorithm>
#include <cstdint>

namespace bbs {

struct ChunkPlan {
  int64_t classes;  // C
  int64_t chunk;    // classes per chunk
  int64_t count;    // number of chunks

  int64_t begin(int64_t i) const { return i * chunk; }
  int64_t end(int64_t i) const { return std::min(classes, (i + 1) * chunk); }
};

inline ChunkPlan plan_chunks(int64_t classes) {
  constexpr int64_t kSmallest = 192;  // below this, merging a chunk costs as much as computing it
  constexpr int64_t kLargest = 8192;  // above this, the last chunk leaves threads idle
  constexpr int64_t kWantedChunks = 128;
  constexpr int64_t kRounding = 48;  // whole forward tiles
  int64_t chunk = (classes + kWantedChunks - 1) / kWantedChunks;
  chunk = (chunk + kRounding - 1) / kRounding * kRounding;
  chunk = std::clamp(chunk, kSmallest, kLargest);
  return {classes, chunk, (classes + chunk - 1) / chunk};
}

}  // namespace bbs
