// What crosses from the op layer into the kernels: one POD per launch, raw pointers and sizes, nothing of torch or the
// CUDA runtime. Passed by value; the same bytes are packed by _core for the tests.
#pragma once

#include <cstdint>

#include "../common/host_device.h"
#include "../common/rule.h"

namespace bbs::cuda {

enum class DType : int32_t { f32 = 0, f16 = 1, bf16 = 2 };

// A matrix of any strides, in elements.
struct Matrix {
  const void* data;
  int64_t row_stride;
  int64_t col_stride;
};

// A stretch of classes of one basket that one split sweeps; its (row, segment) list takes `capacity` keys at `slot`.
struct Segment {
  int32_t basket;
  int32_t first;  // classes first .. last-1
  int32_t last;
  int32_t slot;
  int32_t capacity;
};

struct ForwardParams {
  Matrix x;                     // [rows, depth]
  Matrix w;                     // [classes, depth]
  const int64_t* labels;        // [rows] global class index, or ignore_index
  const int64_t* offsets;       // [baskets + 1] on the device
  const int64_t* aliases;       // [classes] or null
  const float* guard_rows;      // [rows] or null
  const Segment* segments;      // [split_begin[splits]] in class order
  const int32_t* split_begin;   // [splits + 1] into segments
  const int32_t* basket_begin;  // [baskets + 1] into segments

  // Workspace. A *position* counts rows in basket order; rows that take no part come last.
  float* inv_norm;      // [rows] 1 / norm of x; 0 below 1e-12, NaN where not finite
  int32_t* row_basket;  // [rows] basket of the label; baskets: ignored; baskets + 1: label out of range
  int32_t* order;       // [rows] position -> row
  int32_t* counts;      // [1] positions that take part
  float* pairs;         // [splits, rows, 2] (max, sum) by position; max is NaN where the row met a NaN
  uint64_t* queues;     // [row blocks * splits, 128, kQueueLength] candidate keys
  uint64_t* lists;      // [rows, list_length] the best keys of each (position, segment)
  int32_t* mates;       // [rows, segment_count] classes of the row's alias in each segment; null without aliases

  float* cos_target;   // [rows]
  float* lse;          // [rows]
  int64_t* mined_idx;  // [rows, baskets, k]
  float* mined_cos;    // [rows, baskets, k]
  int64_t* bad_label;  // [2] in pinned memory: set to (1, label) by a label out of range; may be null

  int64_t ignore_index;
  int64_t classes;
  int64_t list_length;  // keys per row over all segments
  int32_t rows;
  int32_t depth;
  int32_t baskets;
  int32_t splits;
  int32_t segment_count;
  int32_t rule;  // csrc/common/rule.h
  int32_t guard_kind;
  int32_t k;
  int32_t skip;
  float guard_value;
  float scale;
};

BBS_HD inline bool reads_other_baskets(const ForwardParams& p) {
  return p.rule == static_cast<int32_t>(Rule::all) || p.rule == static_cast<int32_t>(Rule::below) ||
         (p.rule == static_cast<int32_t>(Rule::topk) && p.k > 0);
}
BBS_HD inline bool mines(const ForwardParams& p) { return p.rule == static_cast<int32_t>(Rule::topk) && p.k > 0; }

}  // namespace bbs::cuda
