// Where the elements of a tile lie in shared memory. One k-tile of x is [tile_m] rows of 64 bytes; a k-tile of w is
// rows of classes, or, for a transposed w, rows of k. 16-byte chunks are permuted by XOR with bits of the row, so that
// the eight rows of an ldmatrix, and the lanes of every other access used here, fall into different banks.
#pragma once

#include "operand.cuh"
#include "tile_shape.h"

namespace bbs::cuda {

// 64-byte rows: two rows share the 128 bytes that the banks span, hence row >> 1.
struct NarrowRows {
  static constexpr int kRow = 64;
  static __device__ __forceinline__ int offset(int row, int chunk) { return row * kRow + ((chunk ^ ((row >> 1) & 3)) << 4); }
};

// 128-byte rows of fp32, read as 8-byte pairs by lanes (row 0..3) x (pair 0..3) of a half-warp: rows differ in bits 1-2.
struct WideRows {
  static constexpr int kRow = 128;
  static __device__ __forceinline__ int offset(int row, int chunk) {
    return row * kRow + ((chunk ^ (((row & 3) << 1) | ((row >> 2) & 1))) << 4);
  }
};

// Transposed: one row per k, 128 classes of 16 bits; eight consecutive k of an ldmatrix.
struct HalfColumns {
  static constexpr int kRow = kTileN * 2;
  static __device__ __forceinline__ int offset(int k, int chunk) { return k * kRow + ((chunk ^ (k & 7)) << 4); }
};

// Transposed: 128 classes of fp32; lanes read 8 classes (2 chunks) of 4 rows that are `step` apart.
template <int step>
struct FloatColumns {
  static constexpr int kRow = kTileN * 4;
  static __device__ __forceinline__ int offset(int k, int chunk) { return k * kRow + ((chunk ^ (((k / step) & 3) << 1)) << 4); }
};

template <bool first, class A, class B>
struct Choose {
  using Type = A;
};
template <class A, class B>
struct Choose<false, A, B> {
  using Type = B;
};

// What a main loop multiplies: x of type Op by w stored in kWBytes (4 with a 16-bit Op: rounded on the way in).
template <class Operand, int w_bytes, bool transposed>
struct TileTypes {
  using Op = Operand;
  static constexpr bool kTransposed = transposed;
  static constexpr int kWBytes = w_bytes;
  static constexpr bool kConverts = w_bytes != Op::kBytes;
  static constexpr int kTileK = kRowBytes / Op::kBytes;  // 32 or 16 elements
  using Rows = typename Choose<kConverts, WideRows, NarrowRows>::Type;
  using Columns = typename Choose<w_bytes == 2, HalfColumns, FloatColumns<kConverts ? 2 : 1>>::Type;
  using WLayout = typename Choose<transposed, Columns, Rows>::Type;
  static constexpr int kWTileBytes = w_tile_bytes(Op::kBytes, w_bytes);
  static_assert(w_bytes == 4 || Op::kBytes == 2, "w is stored in the operand type, or in fp32");
};

}  // namespace bbs::cuda
