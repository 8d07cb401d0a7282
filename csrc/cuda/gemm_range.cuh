// Adds A B to the products of a main loop over a range of k, for a 128 x 128 tile: A [rows, k] and B [k, columns] lie
// in the workspace in the operand type, padded, so that copies need no bounds but the columns of B. The ring of
// asynchronous copies is that of the forward; it starts and ends with the range.
#pragma once

#include "mma_loop.cuh"
#include "simt_loop.cuh"
#include "tile_load.cuh"

namespace bbs::cuda {

// What lies in the workspace is rounded already.
struct RoundedTf32 : Tf32 {};

template <class Operand>
struct GemmTypes {
  using Op = typename Choose<Same<Operand, Tf32>::value, RoundedTf32, Operand>::Type;
  using Types = TileTypes<Op, Op::kBytes, true>;  // B has rows of k, as a transposed w has
  using Loop = typename Choose<Op::kTensorCore, MmaLoop<Types, false>, SimtLoop<Types, false>>::Type;
  static constexpr int kTileK = Types::kTileK;
  static constexpr int kStages = ring_stages(false);
  static constexpr uint32_t kStageBytes = stage_bytes(Op::kBytes, false, false);
  static constexpr uint32_t kRingBytes = kStages * kStageBytes;
};

// This thread's part of the next k-tile of A: chunk t % 4 of the rows t / 4 + 32 n.
struct ALoader {
  static constexpr int kChunks = kRowBytes / 16;
  const char* from;
  uint32_t pass, lane;

  // `from`: element (0, first k); `stride`: bytes between rows.
  __device__ __forceinline__ ALoader(const char* matrix, int64_t stride) {
    const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    from = matrix + row * stride + chunk * 16;
    pass = static_cast<uint32_t>(stride) * (kThreads / kChunks);
    lane = NarrowRows::offset(row, chunk);
  }
  __device__ __forceinline__ void copy(uint32_t tile) {
#pragma unroll
    for (int n = 0; n < kXTileBytes / kPassBytes; ++n)
      cp_async16(tile + lane + n * kPassBytes, from + static_cast<uint64_t>(pass) * n, true);
    from += kRowBytes;
  }
};

// Of B: chunk t % kChunks of every kStep-th row. Columns from `columns` on are zeros.
template <class G>
struct BLoader {
  using Layout = typename G::Types::WLayout;
  static constexpr int kChunks = Layout::kRow / 16, kStep = kThreads / kChunks;
  const char* from;
  uint32_t pass, lane;
  bool real;

  // `from`: element (first k, 0); `stride`: bytes between rows.
  __device__ __forceinline__ BLoader(const char* matrix, int64_t stride, int columns) {
    const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    from = matrix + row * stride + chunk * 16;
    pass = static_cast<uint32_t>(stride) * kStep;
    lane = Layout::offset(row, chunk);
    real = chunk * (16 / G::Op::kBytes) < columns;
  }
  __device__ __forceinline__ void copy(uint32_t tile) {
#pragma unroll
    for (int n = 0; n < G::kTileK / kStep; ++n) {
      cp_async16(tile + lane + n * kPassBytes, from, real);
      from += pass;
    }
  }
};

// `count` k-tiles. All threads may use the ring's memory again on return.
template <class G>
__device__ __forceinline__ void multiply_range(typename G::Loop& loop, ALoader a, BLoader<G> b, uint32_t ring,
                                               int count) {
  int left = count;
  uint32_t fill = ring, at = ring;
  const auto after = [&](uint32_t stage) {
    stage += G::kStageBytes;
    return stage == ring + G::kRingBytes ? ring : stage;
  };
  const auto copy = [&] {
    if (left > 0) {
      b.copy(fill);
      a.copy(fill + G::Types::kWTileBytes);
    }
    cp_async_commit();
    fill = after(fill);
    --left;
  };
  for (int i = 0; i < G::kStages - 1; ++i) copy();
  cp_async_wait<G::kStages - 2>();
  __syncthreads();
  if constexpr (G::Op::kTensorCore) {
    typename G::Loop::Fragments even, odd;
    if (count > 0) loop.load(even, at + G::Types::kWTileBytes, at, 0);
#pragma unroll 1
    for (int k = 0; k < count; ++k) {
      loop.load(odd, at + G::Types::kWTileBytes, at, 1);
      copy();
      at = after(at);
      cp_async_wait<G::kStages - 2>();
      loop.multiply(even);
      __syncthreads();
      if (k + 1 < count) loop.load(even, at + G::Types::kWTileBytes, at, 0);
      loop.multiply(odd);
    }
  } else {
#pragma unroll 1
    for (int k = 0; k < count; ++k) {
      copy();
#pragma unroll 1  // as in the forward: more would spill
      for (int chunk = 0; chunk < kRowBytes / 16; ++chunk) loop.multiply(at + G::Types::kWTileBytes, at, chunk);
      at = after(at);
      cp_async_wait<G::kStages - 2>();
      __syncthreads();
    }
  }
}

}  // namespace bbs::cuda
