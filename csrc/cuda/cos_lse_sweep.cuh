// Forward, one pass over w: block (x, y) multiplies the row block x by the y-th share of the class tiles.
//   out: pairs [S, B] (own-basket log-sum-exp, or all classes under all/below), lists [S + K - 1, B, k + skip].
// Data flow of attention without values: rows stay, classes stream through a ring of asynchronous copies that runs
// on across tiles. `resident`: the whole row block stays in shared memory; else its k-tiles stream beside those of w.
#pragma once

#include "mma_loop.cuh"
#include "simt_loop.cuh"
#include "sweep_epilogue.cuh"
#include "tile_load.cuh"

namespace bbs::cuda {

template <class TileTypesT, bool x_resident, bool with_vectors, bool with_norms = true>
struct SweepTypes {
  using Types = TileTypesT;
  using Op = typename Types::Op;
  using Loop = typename Choose<Op::kTensorCore, MmaLoop<Types, with_norms>, SimtLoop<Types, with_norms>>::Type;
  static constexpr bool kResident = x_resident, kVectors = with_vectors, kNorms = with_norms;
  static constexpr int kStages = ring_stages(Types::kConverts);
  static constexpr int kStageBytes = stage_bytes(Op::kBytes, Types::kConverts, x_resident);
  static constexpr int kTileBytes = tile_bytes(Op::kBytes, Types::kStored, x_resident);
  static constexpr int kAlign = class_align(Types::kTransposed, Types::kStored);
};

// The ring of stages and the copies into it, which run some k-tiles ahead of the products, across tiles.
template <class S>
struct SweepRing {
  using Types = typename S::Types;
  static constexpr uint32_t kRingBytes = S::kStages * S::kStageBytes;

  XLoader<Types, S::kVectors> x;
  WLoader<Types, S::kVectors> w;
  uint32_t begin;   // shared address of stage 0; of a converting ring, the buffers follow its last stage
  uint32_t fill;    // stage that the next copies go to
  uint32_t stored;  // offset of the buffer that they go to
  int left;         // k-tiles of the tile being copied that are still to come
  int k_tiles;

  __device__ __forceinline__ uint32_t after(uint32_t stage) const {
    stage += S::kStageBytes;
    return stage == begin + kRingBytes ? begin : stage;
  }
  __device__ __forceinline__ uint32_t stored_at(uint32_t buffer) const { return begin + kRingBytes + buffer; }
  __device__ __forceinline__ uint32_t converted_at(uint32_t buffer) const {
    return begin + kRingBytes + 2 * Types::kStoredBytes + buffer / 2;
  }

  // Copies one k-tile. Past the last tile `w` has no rows: zeros arrive, and no one reads them.
  __device__ __forceinline__ void copy(const Problem& q) {
    w.load(Types::kConverts ? stored_at(stored) : fill);
    w.next(q);
    if constexpr (!S::kResident) {
      x.load(Types::kConverts ? fill : fill + Types::kWTileBytes);
      x.move(1);
    }
    cp_async_commit();
    fill = after(fill);
    stored ^= Types::kStoredBytes;
    --left;
  }

  // To be called where `left` may be 0: goes on with the next tile of the walk.
  __device__ __forceinline__ void next_tile(const ForwardParams& p, const SweepState& state, TileWalk& ahead, int end) {
    if (left != 0) return;
    ahead.next(p, state);
    enter(p, ahead, end);
    if constexpr (!S::kResident) x.move(-k_tiles);
  }

  __device__ __forceinline__ void enter(const ForwardParams& p, const TileWalk& ahead, int end) {
    left = k_tiles;
    if (ahead.at() < end)
      w.enter(p.problem, ahead.tile().start, ahead.tile().last);
    else
      w.along = w.rows = 0;
  }
};

// Where the k-tile being multiplied lies.
template <class S>
struct Reader {
  uint32_t stage, x_tile, w_tile;
  uint32_t stored;  // offset of its buffer as stored

  __device__ __forceinline__ void start(const SweepRing<S>& ring) { stage = ring.begin, stored = 0; }

  __device__ __forceinline__ void enter_tile(const SweepRing<S>& ring, uint32_t resident) {
    w_tile = S::Types::kConverts ? ring.converted_at(stored) : stage;
    x_tile = S::kResident ? resident : S::Types::kConverts ? stage : stage + S::Types::kWTileBytes;
  }
  __device__ __forceinline__ void advance(const SweepRing<S>& ring) {
    stage = ring.after(stage);
    stored ^= S::Types::kStoredBytes;
    enter_tile(ring, x_tile + kXTileBytes);
  }
  // Waits until the k-tile is there for every thread. What is converted was copied by the same thread, so that only
  // the converted tile needs the barrier; its buffer was last read before the previous one.
  __device__ __forceinline__ void arrive(const SweepRing<S>& ring) const {
    cp_async_wait<S::kStages - 2>();
    ring.w.convert(ring.stored_at(stored), w_tile);
    __syncthreads();
  }
};

// The products of one tile. Copies into the ring go on beside them; `ahead` is the tile that they belong to.
template <class S>
__device__ __forceinline__ void multiply_tile(const ForwardParams& p, const SweepState& state, SweepRing<S>& ring,
                                              typename S::Loop& loop, TileWalk& ahead, int end, uint32_t resident,
                                              Reader<S>& at) {
  loop.clear();
  at.enter_tile(ring, resident);
  if constexpr (S::Op::kTensorCore) {
    // Fragments are read one k-step ahead. A stage is refilled after the barrier that follows its last read.
    typename S::Loop::Fragments even, odd;
    at.arrive(ring);
    loop.load(even, at.x_tile, at.w_tile, 0);
    for (int todo = ring.k_tiles - 1; todo > 0;) {
      const int run = ring.left < todo ? ring.left : todo;  // without a change of the tile being copied
      todo -= run;
#pragma unroll 1
      for (int k = 0; k < run; ++k) {
        loop.load(odd, at.x_tile, at.w_tile, 1);
        ring.copy(p.problem);
        loop.multiply(even);
        at.advance(ring);
        at.arrive(ring);
        loop.load(even, at.x_tile, at.w_tile, 0);
        loop.multiply(odd);
      }
      ring.next_tile(p, state, ahead, end);
    }
    loop.load(odd, at.x_tile, at.w_tile, 1);
    ring.copy(p.problem);
    loop.multiply(even);
    loop.multiply(odd);
    at.advance(ring);
    ring.next_tile(p, state, ahead, end);
  } else {
#pragma unroll 1
    for (int k = 0; k < ring.k_tiles; ++k) {
      at.arrive(ring);
      ring.copy(p.problem);
#pragma unroll
      for (int chunk = 0; chunk < kRowBytes / 16; ++chunk) loop.multiply(at.x_tile, at.w_tile, chunk);
      at.advance(ring);
      ring.next_tile(p, state, ahead, end);
    }
  }
}

template <class S>
__global__ void __launch_bounds__(kThreads) cos_lse_sweep(const __grid_constant__ ForwardParams p) {
  using Types = typename S::Types;
  extern __shared__ __align__(128) unsigned char shared[];
  const int nk = k_tiles(p.problem.dim, S::Op::kBytes);
  const int x_bytes = S::kResident ? nk * kXTileBytes : 0;
  SweepState& state = *reinterpret_cast<SweepState*>(shared + x_bytes + S::kTileBytes);
  const int first_row = blockIdx.x * kTileM;
  const int needed = begin_rows(p, state, first_row);
  const int share = (needed + static_cast<int>(gridDim.y) - 1) / static_cast<int>(gridDim.y);
  const int begin = share * static_cast<int>(blockIdx.y);
  const int end = begin + share < needed ? begin + share : needed;
  TopkKey* pending = p.sweep.pending + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kTileM * kPendingCapacity;

  if (begin < end) {
    const uint32_t resident = shared_address(shared);
    SweepRing<S> ring;
    ring.begin = ring.fill = resident + x_bytes;
    ring.stored = 0;
    ring.k_tiles = nk;
    ring.x.start(p.problem, state.source);
    ring.w.start(p.problem);
    if constexpr (S::kResident) {
      for (int k = 0; k < nk; ++k) {
        ring.x.load(resident + k * kXTileBytes);
        ring.x.move(1);
      }
    }
    TileWalk ahead(p, state, begin, S::kAlign), here(p, state, begin, S::kAlign);
    ring.enter(p, ahead, end);
    for (int i = 0; i < S::kStages - 1; ++i) {
      ring.copy(p.problem);
      ring.next_tile(p, state, ahead, end);
    }

    typename S::Loop loop;
    Reader<S> at;
    at.start(ring);
    int basket = -1;
    for (; here.at() < end; here.next(p, state)) {
      const Tile tile = here.tile();
      if (tile.basket != basket) {
        basket = tile.basket;
        enter_basket(p, state, basket);  // the barriers of the main loop are between this and the epilogue
      }
      multiply_tile<S>(p, state, ring, loop, ahead, end, resident, at);
      finish_products<S::kNorms>(p, state, loop, tile, pending);
      __syncthreads();
      if (threadIdx.x == 0) state.hits = 0;
      if (p.sweep.list_length > 0) {
        TileWalk after = here;
        after.next(p, state);
        update_lists(p, state, tile, first_row, after.at() >= end || after.tile().basket != basket, pending);
        __syncthreads();
      }
    }
    cp_async_wait<0>();
  }
  __syncthreads();
  for (int r = threadIdx.x; r < kTileM; r += kThreads) {
    if (first_row + r >= p.problem.rows) continue;
    LsePair pair = merge(state.pair[0][r], state.pair[1][r], p.problem.scale * kLog2E, PlainExp2());
    if (state.nan[r]) pair.sum = __int_as_float(0x7fc00000);
    p.sweep.pairs[static_cast<int64_t>(blockIdx.y) * p.problem.rows + first_row + r] = pair;
  }
}

}  // namespace bbs::cuda
