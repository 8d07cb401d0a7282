// Copies of k-tiles from global to shared memory by all threads of a block, a pointer and a few compares each. Classes
// and k beyond the matrix arrive as zeros. `vectors`: 16-byte asynchronous copies, all or nothing, for matrices whose
// rows start and end on 16 bytes. Otherwise any size is allowed: fp32 elements are copied one by one, as
// asynchronously, and 16-bit ones, for which there is no such copy, pass through registers. Same bytes either way.
#pragma once

#include "params.h"
#include "tile_layout.cuh"

namespace bbs::cuda {

constexpr int kPassBytes = kThreads * 16;  // of shared memory between the passes of a thread, in every layout

// How many of the four copies of fp32 elements the compiler may write out: more would spill.
template <class Types>
constexpr int kUnrolledCopies = !Types::Op::kTensorCore ? 4
                                : Types::kConverts      ? 1
                                                        : 2;

// The 16 bytes of a thread in a pass, to tile + lane: a chunk, or, where `step` bytes lie between them, four words, so
// that neighbouring lanes copy neighbouring words. `real`: whether any of it exists; `elements`: how many elements of
// the row do, for copies one by one.
template <bool vectors, int element_bytes, int step, int unrolled>
__device__ __forceinline__ void load_chunk(uint32_t tile, uint32_t lane, const char* from, bool real, int elements) {
  if constexpr (vectors) {
    cp_async16(tile + lane, from, real);
  } else if constexpr (element_bytes == 4) {
#pragma unroll(unrolled)
    for (int e = 0; e < 4; ++e)
      cp_async4(tile + (lane ^ (e * step)), from + e * step, real && e * (step / 4) < elements);
  } else {
#pragma unroll 1  // four loads in flight: the products need the other registers
    for (int e = 0; e < 8; e += 4) {
      const uint16_t* four = reinterpret_cast<const uint16_t*>(from) + e;
      const auto at = [&](int n) { return real && e + n < elements ? four[n] : 0u; };
      const uint32_t a = at(0), b = at(1), c = at(2), d = at(3);
      store_shared2(tile + lane + e * 2, a | b << 16, c | d << 16);
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
  static constexpr bool kWords = !vectors && kElement == 4;  // words t % 4 + 4 e in place of a chunk

  const char* from;       // this thread's part of the next k-tile, of the row at 0
  uint32_t row[kPasses];  // units from there
  int left;               // elements of the row from there
  uint32_t lane;          // of this thread's first part in the tile

  // `source`: row of x for each row of the tile. One that takes no part loads the first row, and no one looks at it.
  __device__ __forceinline__ void start(const Problem& q, const int32_t* source) {
    const int r = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    lane = kWords ? NarrowRows::offset(r, 0) + chunk * 4 : NarrowRows::offset(r, chunk);
    left = q.dim - chunk * (kWords ? 1 : 16 / kElement);
    from = static_cast<const char*>(q.x) + chunk * (kWords ? 4 : 16);
#pragma unroll
    for (int n = 0; n < kPasses; ++n) {
      const int i = source[r + n * (kThreads / kChunks)];
      row[n] = static_cast<uint32_t>((i < 0 ? 0 : i) * q.x_stride * kElement / kUnit);
    }
  }

  __device__ __forceinline__ void load(uint32_t tile) const {
#pragma unroll
    for (int n = 0; n < kPasses; ++n)
      load_chunk<vectors, kElement, kWords ? 16 : 4, kUnrolledCopies<Types>>(
          tile + n * kPassBytes, lane, add_wide(from, row[n], kUnit), left > 0, left);
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
  // Words t % kChunks + kChunks e of a row in place of a chunk, unless the thread is to convert what it copied.
  static constexpr bool kWords = !vectors && kElement == 4 && !Types::kConverts;

  const char* from;  // this thread's part of the next k-tile
  int rows;          // rows from there
  int along;         // elements of the row from there
  uint32_t pass;     // bytes between the passes in global memory
  uint32_t lane;     // where the first pass goes in shared memory

  __device__ __forceinline__ void start(const Problem& q) {
    const int row = threadIdx.x / kChunks, part = threadIdx.x % kChunks;
    lane = Types::kConverts ? threadIdx.x * 16 : Layout::offset(row, part);
    if (kWords) lane = Layout::offset(row, part / 4) + part % 4 * 4;
    pass = static_cast<uint32_t>(q.w_stride) * (kElement * kStep);
    rows = along = 0;
    from = static_cast<const char*>(q.w);
  }

  __device__ __forceinline__ void enter(const Problem& q, int start, int last) {
    const int row = threadIdx.x / kChunks, column = threadIdx.x % kChunks * (kWords ? 1 : kPerChunk);
    const int64_t row0 = (Types::kTransposed ? 0 : start) + row, column0 = (Types::kTransposed ? start : 0) + column;
    from = static_cast<const char*>(q.w) + (row0 * q.w_stride + column0) * kElement;
    rows = Types::kTransposed ? q.dim - row : last - start - row;
    along = Types::kTransposed ? last - start - column : q.dim - column;
  }

  __device__ __forceinline__ void load(uint32_t tile) const {
    const int real = along > 0 ? rows : 0;
#pragma unroll
    for (int n = 0; n < kPasses; ++n)
      load_chunk<vectors, kElement, kWords ? kChunks * 4 : 4, kUnrolledCopies<Types>>(
          tile + n * kPassBytes, lane, from + static_cast<uint64_t>(pass) * n, n * kStep < real, along);
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
        store_shared2(to[n % 2] + n / 2 * 2 * kStep * Layout::kRow, Types::Op::pack(v.x, v.y),
                      Types::Op::pack(v.z, v.w));
      }
    }
  }
};

}  // namespace bbs::cuda
