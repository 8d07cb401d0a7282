// A run of a row of x or w spread over the lanes of a warp, as the main loop multiplies it: in fp32, rounded to the
// operand type where memory holds more.
#pragma once

#include "elements.cuh"

namespace bbs::cuda {

// `values` elements per lane, 32 * values from `first` on. By 16 bytes where the layout allows, else neighbouring lanes
// read neighbouring elements.
template <class Types, int values>
struct LaneRow {
  using Op = typename Types::Op;
  static constexpr int kSpan = 32 * values;
  static constexpr int kVector = 16 / Types::kStored;
  static_assert(values % kVector == 0, "whole vectors");

  bool vectors;
  int lane;

  __device__ __forceinline__ LaneRow(const Problem& q, int lane) : lane(lane) {
    const bool aligned =
        (reinterpret_cast<uint64_t>(q.w) | static_cast<uint64_t>(q.w_stride) * Types::kStored) % 16 == 0;
    vectors = !Types::kTransposed && aligned && q.dim % kVector == 0;
  }

  // Where value v lies in the run.
  __device__ __forceinline__ int column(int v) const {
    const int chunk = v / kVector * (32 * kVector), e = v % kVector;
    return chunk + (vectors ? lane * kVector + e : e * 32 + lane);
  }

  __device__ __forceinline__ void load(float (&out)[values], const Problem& q, int64_t c, int first) const {
    if (!Types::kTransposed && vectors) {
      const char* row = static_cast<const char*>(q.w) + (c * q.w_stride + first) * Types::kStored;
#pragma unroll
      for (int v = 0; v < values; v += kVector) {
        uint4 bits = make_uint4(0, 0, 0, 0);
        const int at = column(v);
        if (first + at < q.dim) bits = *reinterpret_cast<const uint4*>(row + at * Types::kStored);
        unpack(out, v, bits.x, 0);
        unpack(out, v, bits.y, 1);
        unpack(out, v, bits.z, 2);
        unpack(out, v, bits.w, 3);
      }
    } else {
      const int d = first + lane;
      const int64_t step = Types::kTransposed ? 32 * q.w_stride : 32;
      int64_t at = centre_offset<Types>(q, c, d);
#pragma unroll
      for (int v = 0; v < values; ++v, at += step)  // column(v) is v * 32 + lane
        out[v] = d + v * 32 < q.dim ? operand_at<Op, Types::kStored>(q.w, at) : 0.0f;
    }
  }

 private:
  static __device__ __forceinline__ void unpack(float (&out)[values], int v, uint32_t bits, int word) {
    if constexpr (Types::kStored == 2) {
      out[v + word * 2] = Op::low(bits);
      out[v + word * 2 + 1] = Op::high(bits);
    } else {
      out[v + word] = round_operand<Op>(__uint_as_float(bits));
    }
  }
};

}  // namespace bbs::cuda
