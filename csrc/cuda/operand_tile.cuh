// One stage of an operand in shared memory: 128 rows of 64 (or 128) bytes along D, 16-byte chunks permuted by an XOR so
// that neither the copies in nor ldmatrix nor the fragment loads of either width meet a bank conflict.
#pragma once

#include <cstdint>

namespace bbs::cuda {

template <int kRowBytes>
struct OperandTile {
  static_assert(kRowBytes == 64 || kRowBytes == 128, "one or two rows per line of 32 banks");
  static constexpr int kChunks = kRowBytes / 16;

  __device__ static uint32_t offset(int row, int chunk) {
    // 64: two rows a line, eight consecutive rows must hit eight places. 128: eight-byte loads of half a warp touch two
    // neighbouring chunks in four rows, which have to fall into four different pairs.
    const int turn = kRowBytes == 64 ? (row >> 1) & 3 : ((row & 3) << 1) | ((row >> 2) & 1);
    return row * kRowBytes + ((chunk ^ turn) << 4);
  }
};

}  // namespace bbs::cuda
