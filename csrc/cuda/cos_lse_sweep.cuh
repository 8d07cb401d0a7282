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
  static constexpr bool kSeveral = false;  // centres of a class
  static constexpr int kStages = ring_stages(Types::kConverts);
  static constexpr int kStageBytes = stage_bytes(Op::kBytes, Types::kConverts, x_resident);
  static constexpr int kTileBytes = tile_bytes(Op::kBytes, Types::kStored, x_resident);
  static constexpr int kAlign = class_align(Types::kTransposed, Types::kStored);
};

// The same where a class has several centres. Not built: a resident x.
template <class TileTypesT, bool with_vectors>
struct SubcenterTypes : SweepTypes<TileTypesT, false, with_vectors> {
  static constexpr bool kSeveral = true;
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
  int ahead, end;  // the tile being copied, and the block's last + 1

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

  // To be called where `left` may be 0: goes on with the next tile.
  __device__ __forceinline__ void next_tile(const Problem& q, const SweepState& state) {
    if (left != 0) return;
    ++ahead;
    enter(q, state);
    if constexpr (!S::kResident) x.move(-k_tiles);
  }

  __device__ __forceinline__ void enter(const Problem& q, const SweepState& state) {
    left = k_tiles;
    if (ahead < end)
      w.enter(q, state.tile[ahead % kTileSlots].start, state.tile[ahead % kTileSlots].last);
    else
      w.along = w.rows = 0;
  }
};

// Where the k-tile being multiplied lies.
template <class S>
struct Reader {
  uint32_t stage, x_tile, w_tile;
  uint32_t stored;          // offset of its buffer as stored
  uint32_t x_begin, x_end;  // of a resident x

  __device__ __forceinline__ void start(const SweepRing<S>& ring, uint32_t resident) {
    x_begin = x_tile = resident;
    x_end = resident + ring.k_tiles * kXTileBytes;
    stage = ring.begin;
    stored = 0;
    find(ring);
  }
  __device__ __forceinline__ void advance(const SweepRing<S>& ring) {
    stage = ring.after(stage);
    stored ^= S::Types::kStoredBytes;
    if constexpr (S::kResident) {
      x_tile += kXTileBytes;
      if (x_tile == x_end) x_tile = x_begin;
    }
    find(ring);
  }
  // Waits until the k-tile is there for every thread. What is converted was copied by the same thread, so that only
  // the converted tile needs the barrier; its buffer was last read before the previous one.
  __device__ __forceinline__ void arrive(const SweepRing<S>& ring) const {
    wait(ring);
    __syncthreads();
  }
  __device__ __forceinline__ void wait(const SweepRing<S>& ring) const {
    cp_async_wait<S::kStages - 2>();
    ring.w.convert(ring.stored_at(stored), w_tile);
  }

 private:
  __device__ __forceinline__ void find(const SweepRing<S>& ring) {
    w_tile = S::Types::kConverts ? ring.converted_at(stored) : stage;
    if constexpr (!S::kResident) x_tile = S::Types::kConverts ? stage : stage + S::Types::kWTileBytes;
  }
};

// The products of one tile. Copies into the ring go on beside them, and into the tiles after it. The k-tile that `at`
// points to has arrived at the start, and so has the next tile's first at the end.
template <class S>
__device__ __forceinline__ void multiply_tile(const Problem& q, const SweepState& state, SweepRing<S>& ring,
                                              typename S::Loop& loop, Reader<S>& at) {
  loop.clear();
  if constexpr (S::Op::kTensorCore) {
    // Fragments are read one k-step ahead; those of the next tile once more, since the epilogue needs their registers.
    // A stage is refilled after the barrier that follows its last read.
    typename S::Loop::Fragments even, odd;
    loop.load(even, at.x_tile, at.w_tile, 0);
    for (int todo = ring.k_tiles; todo > 0;) {
      const int run = ring.left < todo ? ring.left : todo;  // without a change of the tile being copied
      todo -= run;
#pragma unroll 1
      for (int k = 0; k < run; ++k) {
        loop.load(odd, at.x_tile, at.w_tile, 1);
        ring.copy(q);
        at.advance(ring);
        at.wait(ring);
        loop.multiply(even);
        __syncthreads();
        loop.load(even, at.x_tile, at.w_tile, 0);
        loop.multiply(odd);
      }
      ring.next_tile(q, state);
    }
  } else {
#pragma unroll 1
    for (int k = 0; k < ring.k_tiles; ++k) {
      ring.copy(q);
#pragma unroll 1  // 512 fma are body enough, and more would spill
      for (int chunk = 0; chunk < kRowBytes / 16; ++chunk) loop.multiply(at.x_tile, at.w_tile, chunk);
      at.advance(ring);
      at.arrive(ring);
      ring.next_tile(q, state);
    }
  }
}

template <class S>
BBS_KERNEL void cos_lse_sweep(const ForwardParams& p) {
  using Types = typename S::Types;
  static_assert(WLoader<Types, true>::kStep == w_pass_rows(Types::Op::kBytes, Types::kStored, Types::kTransposed),
                "check_call.h bounds the strides of w by it");
  extern __shared__ __align__(128) unsigned char shared[];
  const int nk = k_tiles(p.problem.dim, S::Op::kBytes);
  const int x_bytes = S::kResident ? nk * kXTileBytes : 0;
  SweepState& state = *reinterpret_cast<SweepState*>(shared + x_bytes + S::kTileBytes);
  float* nearest = reinterpret_cast<float*>(&state + 1);  // only with several centres is it ours
  const int first_row = blockIdx.x * kTileM;
  const int needed = begin_rows(p, state, first_row);
  const int share = (needed + static_cast<int>(gridDim.y) - 1) / static_cast<int>(gridDim.y);
  const int begin = share * static_cast<int>(blockIdx.y);
  const int end = begin + share < needed ? begin + share : needed;
  TopkKey* pending =
      p.sweep.pending + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kTileM * kPendingCapacity;

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
    if (threadIdx.x == 0)
      for (int n = begin; n <= begin + kTilesAhead && n < end; ++n) look_up_tile<S::kAlign, S::kSeveral>(p, state, n);
    __syncthreads();
    ring.ahead = begin;
    ring.end = end;
    ring.enter(p.problem, state);
    for (int i = 0; i < S::kStages - 1; ++i) {
      ring.copy(p.problem);
      ring.next_tile(p.problem, state);
    }

    typename S::Loop loop;
    Reader<S> at;
    at.start(ring, resident);
    at.arrive(ring);
    enter_basket(p, state, state.tile[begin % kTileSlots].basket);
    for (int n = begin; n < end; ++n) {
      multiply_tile<S>(p.problem, state, ring, loop, at);
      const Tile tile = state.tile[n % kTileSlots];
      finish_products<S::kNorms, S::kSeveral, (S::kAlign > 1)>(p, state, loop, tile, pending, nearest);
      if (threadIdx.x == 0 && n + kTilesAhead + 1 < end)
        look_up_tile<S::kAlign, S::kSeveral>(p, state, n + kTilesAhead + 1);
      __syncthreads();
      if (threadIdx.x == 0) state.hits = 0;
      if (p.sweep.list_length > 0) {
        const int next = n + 1 < end ? state.tile[(n + 1) % kTileSlots].basket : -1;
        update_lists(p, state, tile, first_row, next != tile.basket, pending);
        __syncthreads();
        if (next != tile.basket) enter_basket(p, state, next);
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
