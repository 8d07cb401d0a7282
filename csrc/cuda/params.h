// What crosses from the host into the forward kernels: pointers and integers, one struct per launch.
// Sorted position p: rows ordered by (basket of the label, row); rows that take no part come last.
#pragma once

#include "../common/lse_pair.h"
#include "../common/rule.h"
#include "../common/topk_key.h"

namespace bbs::cuda {

// Why a row has no basket. A row's basket is its index in offsets, or one of these.
struct NoBasket {
  enum : int32_t { ignored = 0x7ffffffe, bad_label = 0x7fffffff };
};

struct Problem {
  const void* x;              // [B, D], unit column stride
  const void* w;              // [C * subcenters, D] with unit column stride, or (w_transposed) unit row stride
  const int64_t* labels;      // [B] classes; with row_basket negative where the row's class is not in w
  const int64_t* offsets;     // [K + 1] on the device, of centres: first rows of w
  const int64_t* aliases;     // [C] or null
  const float* guard_rows;    // [B] or null
  const int64_t* row_basket;  // [B], w is a shard then; -1 for an ignored row; null: labels and ignore_index say it
  const int64_t* row_alias;   // [B] alias of the row's class, or null: aliases[label]
  int64_t x_stride;           // elements between rows of x
  int64_t w_stride;           // elements between rows of w, or between its columns when transposed
  int64_t ignore_index;
  int32_t rows;     // B
  int32_t dim;      // D
  int32_t classes;  // C
  int32_t baskets;  // K
  Rule rule;
  GuardKind guard_kind;
  int32_t k;
  int32_t skip;
  float scale;
  float guard_value;
  int32_t mined_in_lse;  // 0: the lists are returned, and the log-sum-exp is of the own basket alone
  int32_t subcenters;    // adjacent rows of w that are a class
};

// Where a kernel leaves a label out of range, in memory that the host reads without waiting. One word, so that no
// reader sees half of it: the label in the upper 33 bits, the number of classes in the lower 31. A label beyond 33 bits
// is reported as the nearest that fits.
struct BadLabel {
  int64_t word;

  static constexpr int64_t none = 0x7fffffffffffffff;  // no label yet
  static constexpr int64_t least = -(int64_t{1} << 32), most = (int64_t{1} << 32) - 2;
  static constexpr int kClassBits = 31;

  BBS_HOST_DEVICE static constexpr int64_t pack(int64_t label, int64_t classes) {
    const int64_t fits = label < least ? least : label > most ? most : label;
    return static_cast<int64_t>(static_cast<uint64_t>(fits) << kClassBits) | classes;
  }
  BBS_HOST_DEVICE static constexpr int64_t label(int64_t word) { return word >> kClassBits; }
  BBS_HOST_DEVICE static constexpr int64_t classes(int64_t word) { return word & ((int64_t{1} << kClassBits) - 1); }
};

// Per row, in the order of the input.
struct RowArrays {
  float* inverse_norm;  // [B]
  float* cos_target;    // [B]
  float* guard;         // [B] +inf without a guard
  int32_t* basket;      // [B] index, or NoBasket
  int32_t* order;       // [B] row at each sorted position
  int32_t* target;      // [B] the target's nearest centre, -1 where there is none; null where a class has one centre
  BadLabel* bad_label;  // null, or where a label out of range is reported
};

// How the classes are cut. Tiles of one basket are consecutive; a tile never holds classes of two baskets, nor a part
// of a class.
struct Sweep {
  const int32_t* tile_begin;  // [K + 1] first tile of each basket, on the device
  int32_t tiles;              // tile_begin[K]
  int32_t tile_step;          // centres from a tile of a basket to the next
  int32_t splits;             // S: blocks that share the tiles of one row block
  int32_t list_length;        // k + skip, or 0
  LsePair* pairs;             // [S, B] by sorted position
  TopkKey* lists;             // [S + K - 1, B, list_length], sorted, kNoKey padded
  int32_t* mates;             // [S + K - 1, B] alias mates met; null without aliases
  TopkKey* pending;           // [blocks, rows of a block, kPendingCapacity] scratch
};

struct Outputs {
  float* lse;          // [B]
  float* cos_target;   // [B]
  int64_t* mined_idx;  // [B, K, k] centres, the nearest of each mined class
  float* mined_cos;    // [B, K, k]
};

struct ForwardParams {
  Problem problem;
  RowArrays row;
  Sweep sweep;
  Outputs out;
};

}  // namespace bbs::cuda
