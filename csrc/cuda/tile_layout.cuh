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
  static __device__ __forceinline__ int offset(int row, int chunk) {
    return row * kRow + ((chunk ^ ((row >> 1) & 3)) << 4);
  }
};

// Transposed: one row per k, 128 classes of 16 bits; eight consecutive k of an ldmatrix.
struct HalfColumns {
  static constexpr int kRow = kTileN * 2;
  static __device__ __forceinline__ int offset(int k, int chunk) { return k * kRow + ((chunk ^ (k & 7)) << 4); }
};

// Transposed: 128 classes of fp32; lanes read 8 classes (2 chunks) of 4 consecutive k, or 16 chunks of one k.
struct FloatColumns {
  static constexpr int kRow = kTileN * 4;
  static __device__ __forceinline__ int offset(int k, int chunk) { return k * kRow + ((chunk ^ ((k & 3) << 1)) << 4); }
};

template <bool first, class A, class B>
struct Choose {
  using Type = A;
};
template <class A, class B>
struct Choose<false, A, B> {
  using Type = B;
};

// What a main loop multiplies: x by w, both of type Op. `stored`: bytes of an element of w in memory, 4 with a 16-bit
// Op where fp32 centres are rounded on the way in.
template <class Operand, int stored, bool transposed>
struct TileTypes {
  using Op = Operand;
  static constexpr bool kTransposed = transposed;
  static constexpr int kStored = stored;
  static constexpr bool kConverts = stored != Op::kBytes;
  static constexpr int kTileK = kRowBytes / Op::kBytes;  // 32 or 16 elements
  static constexpr int kWTileBytes = w_tile_bytes(Op::kBytes, Op::kBytes);
  static constexpr int kStoredBytes = w_tile_bytes(Op::kBytes, stored);
  using Columns = typename Choose<Op::kBytes == 2, HalfColumns, FloatColumns>::Type;
  using WLayout = typename Choose<transposed, Columns, NarrowRows>::Type;
  static_assert(stored == 4 || Op::kBytes == 2, "w is stored in the operand type, or in fp32");
};

}  // namespace bbs::cuda
