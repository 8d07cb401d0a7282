// Copies of k-tiles from global to shared memory by all threads of a block, a pointer and a few compares each. Classes
// and k beyond the matrix arrive as zeros. `vectors`: 16-byte asynchronous copies, all or nothing, for matrices whose
// rows start and end on 16 bytes; otherwise elements are read one by one, which any size allows. Same bytes either way.
#pragma once

#include "params.h"
#include "tile_layout.cuh"

namespace bbs::cuda {

constexpr int kPassBytes = kThreads * 16;  // of shared memory between the passes of a thread, in every layout

// One chunk of 16 bytes. `real`: whether any of it exists; `elements`: how many do, for element-wise reads.
template <bool vectors, int element_bytes>
__device__ __forceinline__ void load_chunk(uint32_t to, const char* from, bool real, int elements) {
  if constexpr (vectors) {
    cp_async16(to, from, real);
  } else {
    constexpr int kPerChunk = 16 / element_bytes;
#pragma unroll 1  // one register instead of many: the products need them
    for (int e = 0; e < kPerChunk; ++e) {
      const bool exists = real && e < elements;
      if constexpr (element_bytes == 4)
        store_shared(to + e * 4, exists ? reinterpret_cast<const uint32_t*>(from)[e] : 0u);
      else
        store_shared(to + e * 2, exists ? reinterpret_cast<const uint16_t*>(from)[e] : uint16_t{0});
    }
  }
}

// x: thread t copies chunk t % 4 of the rows t / 4 + 32 n. Rows are gathered, so each keeps its place: 32 bits of it in
// units of what is copied, since registers are what the main loop has least of.
template <class Types, bool vectors>
struct XLoader {
  static constexpr int kChunks = kRowBytes / 16;
  static constexpr int kPasses = kTileM * kChunks / kThreads;
  static constexpr int kElement = Types::Op::kBytes;

  static constexpr int kUnit = vectors ? 16 : kElement;

  const char* from;       // this thread's chunk of the next k-tile, of the row at 0
  uint32_t row[kPasses];  // units from there
  int left;               // elements of the row from there
  uint32_t lane;             // of this thread's first chunk in the tile

  // `source`: row of x for each row of the tile. One that takes no part loads the first row, and no one looks at it.
  __device__ __forceinline__ void start(const Problem& q, const int32_t* source) {
    const int r = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    lane = NarrowRows::offset(r, chunk);
    left = q.dim - chunk * (16 / kElement);
    from = static_cast<const char*>(q.x) + chunk * 16;
#pragma unroll
    for (int n = 0; n < kPasses; ++n) {
      const int i = source[r + n * (kThreads / kChunks)];
      row[n] = static_cast<uint32_t>((i < 0 ? 0 : i) * q.x_stride * kElement / kUnit);
    }
  }

  __device__ __forceinline__ void load(uint32_t tile) const {
#pragma unroll
    for (int n = 0; n < kPasses; ++n)
      load_chunk<vectors, kElement>(tile + lane + n * kPassBytes, from + static_cast<uint64_t>(row[n]) * kUnit, left > 0, left);
  }

  // To the k-tile `count` after this one.
  __device__ __forceinline__ void move(int count) {
    from += count * kRowBytes;
    left -= count * Types::kTileK;
  }
};

// w: the classes [.., last) of a tile whose column 0 is class `start`; see Tile. Rows of the layout are classes, or k
// when transposed. fp32 centres of a 16-bit main loop land in a plain buffer where each thread finds what it copied.
template <class Types, bool vectors>
struct WLoader {
  using Layout = typename Types::WLayout;
  static constexpr int kElement = Types::kStored;
  static constexpr int kPerChunk = 16 / kElement;
  static constexpr int kChunks = (Types::kTransposed ? kTileN : Types::kTileK) / kPerChunk;  // per row of the tile
  static constexpr int kPasses = Types::kStoredBytes / kPassBytes;
  static constexpr int kStep = kThreads / kChunks;  // rows between the passes of a thread

  const char* from;  // this thread's chunk of the next k-tile
  int rows;          // rows from there
  int along;         // elements of the row from there
  uint32_t pass;     // bytes between the passes in global memory
  uint32_t lane;     // where the first pass goes in shared memory

  __device__ __forceinline__ void start(const Problem& q) {
    lane = Types::kConverts ? threadIdx.x * 16 : Layout::offset(threadIdx.x / kChunks, threadIdx.x % kChunks);
    pass = static_cast<uint32_t>(q.w_stride) * (kElement * kStep);
    rows = along = 0;
    from = static_cast<const char*>(q.w);
  }

  __device__ __forceinline__ void enter(const Problem& q, int start, int last) {
    const int row = threadIdx.x / kChunks, column = threadIdx.x % kChunks * kPerChunk;
    const int64_t row0 = (Types::kTransposed ? 0 : start) + row, column0 = (Types::kTransposed ? start : 0) + column;
    from = static_cast<const char*>(q.w) + (row0 * q.w_stride + column0) * kElement;
    rows = Types::kTransposed ? q.dim - row : last - start - row;
    along = Types::kTransposed ? last - start - column : q.dim - column;
  }

  __device__ __forceinline__ void load(uint32_t tile) const {
    const int real = along > 0 ? rows : 0;
#pragma unroll
    for (int n = 0; n < kPasses; ++n)
      load_chunk<vectors, kElement>(tile + lane + n * kPassBytes, from + static_cast<uint64_t>(pass) * n,
                                    n * kStep < real, along);
  }

  __device__ __forceinline__ void next(const Problem& q) {
    if constexpr (Types::kTransposed) {
      from += q.w_stride * (kElement * Types::kTileK);
      rows -= Types::kTileK;
    } else {
      from += kElement * Types::kTileK;
      along -= Types::kTileK;
    }
  }

  // What this thread copied to `stored`, rounded, to its place in a tile of the operand type.
  __device__ __forceinline__ void convert(uint32_t stored, uint32_t tile) const {
    if constexpr (Types::kConverts) {
      const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
      uint32_t to[2];  // passes repeat the pattern of the layout, transposed every second time
      to[0] = tile + Layout::offset(row, chunk / 2) + chunk % 2 * 8;
      to[1] = tile + Layout::offset(row + kStep, chunk / 2) + chunk % 2 * 8;
#pragma unroll
      for (int n = 0; n < kPasses; ++n) {
        const float4 v = load_shared_float4(stored + lane + n * kPassBytes);
        store_shared2(to[n % 2] + n / 2 * 2 * kStep * Layout::kRow, Types::Op::pack(v.x, v.y), Types::Op::pack(v.z, v.w));
      }
    }
  }
};

}  // namespace bbs::cuda
