// Operand copies from global to shared memory, one tile_k step of 128 rows at a time. A row that does not exist and the
// tail of D become zeros, which add nothing to a product or a norm.
//   AsyncRows: cp.async; rows start on 16 bytes and D is contiguous.
//   AnyRows: element loads through registers, any strides, any D; transposed centres are read along the classes.
#pragma once

#include "operand_tile.cuh"
#include "params.h"
#include "ptx.cuh"
#include "shape.h"

namespace bbs::cuda {

template <class T, int kRowBytes>
class AsyncRows {
 public:
  // index(r) in [0, 128) gives the row of `m`, or -1.
  template <class Index>
  __device__ void bind(const Matrix& m, Index&& index) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t row = index(static_cast<int>(threadIdx.x) / Tile::kChunks + i * kRowsAtOnce);
      bytes_[i] = row < 0 ? 0 : 16;
      const int64_t element = (row < 0 ? 0 : row * m.row_stride) + chunk() * kElements;
      at_[i] = static_cast<const char*>(m.data) + element * static_cast<int64_t>(sizeof(T));
    }
  }

  // D fills whole chunks, so a chunk lies inside or outside; of one outside, 0 bytes are read.
  __device__ void copy(uint32_t tile, int first, int depth) const {
    const bool inside = first + chunk() * kElements < depth;
    const uint32_t to = tile + Tile::offset(static_cast<int>(threadIdx.x) / Tile::kChunks, chunk());
#pragma unroll
    for (int i = 0; i < kCopies; ++i)
      cp_async16(to + i * kRowsAtOnce * kRowBytes, at_[i] + static_cast<uint32_t>(first) * sizeof(T),
                 inside ? bytes_[i] : 0);
  }

 private:
  using Tile = OperandTile<kRowBytes>;
  static constexpr int kElements = 16 / sizeof(T);
  static constexpr int kRowsAtOnce = kThreads / Tile::kChunks;
  static constexpr int kCopies = 128 / kRowsAtOnce;
  static_assert(kRowsAtOnce % 8 == 0, "eight rows further down the chunks are permuted alike");
  __device__ static int chunk() { return static_cast<int>(threadIdx.x) % Tile::kChunks; }

  const char* at_[kCopies];
  int bytes_[kCopies];
};

template <class T, int kRowBytes>
class AnyRows {
 public:
  template <class Index>
  __device__ void bind(const Matrix& m, Index&& index) {
    col_stride_ = m.col_stride;
    along_rows_ = m.col_stride != 1;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t row = index(place(i).row);
      at_[i] = row < 0 ? nullptr : static_cast<const T*>(m.data) + row * m.row_stride;
    }
  }

  __device__ void copy(uint32_t tile, int first, int depth) const {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const Place to = place(i);
      T values[kElements];
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        const int d = first + to.chunk * kElements + e;
        values[e] = at_[i] != nullptr && d < depth ? at_[i][d * col_stride_] : T{};
      }
      uint4 packed;
      memcpy(&packed, values, 16);
      store_shared_u4(tile + Tile::offset(to.row, to.chunk), packed);
    }
  }

 private:
  using Tile = OperandTile<kRowBytes>;
  static constexpr int kElements = 16 / sizeof(T);
  static constexpr int kCopies = 128 * Tile::kChunks / kThreads;
  struct Place {
    int row, chunk;
  };
  __device__ Place place(int i) const {
    const int n = static_cast<int>(threadIdx.x) + i * kThreads;
    return along_rows_ ? Place{n % 128, n / 128} : Place{n / Tile::kChunks, n % Tile::kChunks};
  }

  int64_t col_stride_;
  bool along_rows_;  // neighbouring threads take neighbouring rows
  const T* at_[kCopies];
};

}  // namespace bbs::cuda
