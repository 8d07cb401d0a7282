// What crosses from the host into the sort of the sparse pairs, and the sizes that its plan and its kernels agree on.
#pragma once

#include "backward_params.h"

namespace bbs::cuda {

constexpr int kSortThreads = 256;  // of every kernel of the sort
constexpr int kSortItems = 8;      // per thread: a block's counters are then a tenth of what it moves
constexpr int kSortTile = kSortThreads * kSortItems;
constexpr int kMaxDigitBits = 8;  // one thread per digit
constexpr int kMaxDigits = 1 << kMaxDigitBits;
static_assert(kMaxDigits <= kSortThreads, "scatter_digits gives each digit a thread");

// One pass.
struct SortPass {
  const SparsePair* pairs;  // whose labels are the keys, or null
  const int32_t* keys;      // where there are no pairs
  const int32_t* indices;   // what the keys belong to; null: their own places
  int32_t* keys_out;
  int32_t* indices_out;
  int32_t* counts;  // [digits][blocks], then their exclusive sums along the blocks
  int32_t* totals;  // [digits]
  int32_t count;    // pairs
  int32_t blocks;
  int32_t shift;
  int32_t digit_bits;
};

struct GatherPairs {
  const SparsePair* pairs;
  const int32_t* indices;
  SparsePair* sorted;
  int32_t count;
};

}  // namespace bbs::cuda
