// Where an element of w lies in memory, and what it is as the main loop multiplies it.
#pragma once

#include "params.h"
#include "tile_layout.cuh"

namespace bbs::cuda {

// Element `at` of memory that holds the operand type, or fp32 where `stored` is 4.
template <class Op, int stored>
__device__ __forceinline__ float operand_at(const void* memory, int64_t at) {
  if constexpr (stored == 2)
    return Op::low(static_cast<const uint16_t*>(memory)[at]);
  else
    return round_operand<Op>(static_cast<const float*>(memory)[at]);
}

// Of element d of centre c.
template <class Types>
__device__ __forceinline__ int64_t centre_offset(const Problem& q, int64_t c, int d) {
  return Types::kTransposed ? d * q.w_stride + c : c * q.w_stride + d;
}

template <class Types>
__device__ __forceinline__ float multiplied_w(const Problem& q, int64_t c, int d) {
  return operand_at<typename Types::Op, Types::kStored>(q.w, centre_offset<Types>(q, c, d));
}

}  // namespace bbs::cuda
