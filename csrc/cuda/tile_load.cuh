// Copies of k-tiles from global to shared memory by all threads of a block. Rows, classes and k beyond the matrix
// arrive as zeros, which change no sum. `vectors`: 16-byte asynchronous copies, for rows that start on 16 bytes;
// otherwise elements are read one by one, which any D and stride allow. Both leave the same bytes.
#pragma once

#include "tile_layout.cuh"

namespace bbs::cuda {

// One chunk of 16 bytes of which `elements` (<= 0: none) exist.
template <bool vectors, int element_bytes>
__device__ __forceinline__ void load_chunk(uint32_t to, const char* from, int elements) {
  constexpr int kPerChunk = 16 / element_bytes;
  elements = elements < 0 ? 0 : elements > kPerChunk ? kPerChunk : elements;
  if constexpr (vectors) {
    cp_async16(to, from, elements * element_bytes);
  } else {
    uint32_t v[4] = {0, 0, 0, 0};
#pragma unroll
    for (int e = 0; e < kPerChunk; ++e) {
      if (e >= elements) continue;
      if constexpr (element_bytes == 4)
        v[e] = reinterpret_cast<const uint32_t*>(from)[e];
      else
        v[e / 2] |= static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(from)[e]) << (e % 2 * 16);
    }
    store_shared4(to, v);
  }
}

// x: thread t copies chunk t % 4 of the rows t / 4 + 32 n. Rows are gathered, so each keeps its address.
template <class Types, bool vectors>
struct XLoader {
  static constexpr int kChunks = kRowBytes / 16;
  static constexpr int kPasses = kTileM * kChunks / kThreads;
  static constexpr int kElement = Types::Op::kBytes;
  static constexpr int kPerChunk = 16 / kElement;

  const char* row[kPasses];  // at this thread's chunk of the first k-tile; null: a row of zeros
  int first_k;               // of this thread's chunk in a k-tile
  const char* some;          // a valid address for copies of nothing

  // `source`: row of x for each row of the tile, negative for none.
  __device__ __forceinline__ void start(const void* x, int64_t stride, const int32_t* source) {
    some = static_cast<const char*>(x);
    first_k = threadIdx.x % kChunks * kPerChunk;
#pragma unroll
    for (int n = 0; n < kPasses; ++n) {
      const int i = source[threadIdx.x / kChunks + n * (kThreads / kChunks)];
      row[n] = i < 0 ? nullptr : some + (i * stride + first_k) * kElement;
    }
  }

  __device__ __forceinline__ void load(uint32_t tile, int k, int dim) const {
    const int left = dim - k - first_k;
#pragma unroll
    for (int n = 0; n < kPasses; ++n) {
      const int r = threadIdx.x / kChunks + n * (kThreads / kChunks);
      const bool real = row[n] != nullptr && left > 0;
      load_chunk<vectors, kElement>(tile + NarrowRows::offset(r, threadIdx.x % kChunks),
                                    real ? row[n] + static_cast<int64_t>(k) * kElement : some, real ? left : 0);
    }
  }
};

// w: the classes [first, last) of a tile that starts at class `start` <= first. Classes before `first` that share its
// 16 bytes (transposed only) are copied too; they exist, and their columns are masked.
template <class Types, bool vectors>
struct WLoader {
  static constexpr int kElement = Types::kWBytes;
  static constexpr int kPerChunk = 16 / kElement;
  static constexpr int kChunks = Types::WLayout::kRow / 16;  // per row of the layout
  static constexpr int kRows = Types::kTransposed ? Types::kTileK : kTileN;
  static constexpr int kPasses = kRows * kChunks / kThreads;
  static constexpr int kStep = kThreads / kChunks;  // rows between the passes of a thread

  const char* w;
  int64_t stride;  // bytes between rows of the layout in global memory

  __device__ __forceinline__ void start(const void* matrix, int64_t elements) {
    w = static_cast<const char*>(matrix);
    stride = elements * kElement;
  }

  __device__ __forceinline__ void load(uint32_t tile, int start, int last, int k, int dim) const {
    const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks, along = chunk * kPerChunk;
    const int row0 = (Types::kTransposed ? k : start) + row, along0 = (Types::kTransposed ? start : k) + along;
    const int rows = Types::kTransposed ? dim : last;
    const int left = (Types::kTransposed ? last : dim) - along0;
    const char* from = w + row0 * stride + static_cast<int64_t>(along0) * kElement;
#pragma unroll
    for (int n = 0; n < kPasses; ++n) {
      const bool real = row0 + n * kStep < rows && left > 0;
      load_chunk<vectors, kElement>(tile + Types::WLayout::offset(row + n * kStep, chunk),
                                    real ? from + n * kStep * stride : w, real ? left : 0);
    }
  }
};

}  // namespace bbs::cuda
