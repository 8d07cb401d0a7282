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
  static constexpr int kStageBytes = Types::kWTileBytes + (x_resident ? 0 : kXTileBytes);
  static constexpr int kAlign = class_align(Types::kTransposed, Types::kWBytes);
};

// Ring of stages and the copies into it, one k-tile ahead of the other. Knows nothing of what the tiles are for.
template <class S>
struct SweepRing {
  XLoader<typename S::Types, S::kVectors> x;
  WLoader<typename S::Types, S::kVectors> w;
  uint32_t base, resident;
  int dim;
  int fill_stage, fill_k;  // where the next copies go, and their k-tile

  __device__ __forceinline__ uint32_t w_at(int stage) const { return base + stage * S::kStageBytes; }
  __device__ __forceinline__ uint32_t x_at(int stage, int k_tile) const {
    return S::kResident ? resident + k_tile * kXTileBytes : w_at(stage) + S::Types::kWTileBytes;
  }

  __device__ __forceinline__ void copy(const Tile& tile) {
    const int k = fill_k * S::Types::kTileK;
    w.load(w_at(fill_stage), tile.start, tile.last, k, dim);
    if constexpr (!S::kResident) x.load(x_at(fill_stage, 0), k, dim);
  }
};

template <class S>
__global__ void __launch_bounds__(kThreads) cos_lse_sweep(const __grid_constant__ ForwardParams p) {
  using Types = typename S::Types;
  extern __shared__ __align__(128) unsigned char shared[];
  const int nk = k_tiles(p.problem.dim, S::Op::kBytes);
  const int x_bytes = S::kResident ? nk * kXTileBytes : 0;
  SweepState& state = *reinterpret_cast<SweepState*>(shared + x_bytes + S::kStages * S::kStageBytes);
  const int first_row = blockIdx.x * kTileM;
  const int needed = begin_rows(p, state, first_row);
  const int share = (needed + static_cast<int>(gridDim.y) - 1) / static_cast<int>(gridDim.y);
  const int begin = share * static_cast<int>(blockIdx.y);
  const int end = begin + share < needed ? begin + share : needed;
  TopkKey* pending = p.sweep.pending + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kTileM * kPendingCapacity;

  if (begin < end) {
    SweepRing<S> ring;
    ring.x.start(p.problem.x, p.problem.x_stride, state.source);
    ring.w.start(p.problem.w, p.problem.w_stride);
    ring.resident = shared_address(shared);
    ring.base = ring.resident + x_bytes;
    ring.dim = p.problem.dim;
    if constexpr (S::kResident)
      for (int k = 0; k < nk; ++k) ring.x.load(ring.resident + k * kXTileBytes, k * Types::kTileK, ring.dim);

    TileWalk ahead(p, state, begin, S::kAlign), here(p, state, begin, S::kAlign);
    ring.fill_stage = ring.fill_k = 0;
    // One step of copies; past the end it only commits, so that the count of groups in flight stays the same.
    const auto fill = [&] {
      if (ahead.at() < end) {
        ring.copy(ahead.tile());
        if (++ring.fill_k == nk) {
          ring.fill_k = 0;
          ahead.next(p, state);
        }
      }
      cp_async_commit();
      if (++ring.fill_stage == S::kStages) ring.fill_stage = 0;
    };
    for (int i = 0; i < S::kStages - 1; ++i) fill();

    typename S::Loop loop;
    int stage = 0, basket = -1;
    for (; here.at() < end; here.next(p, state)) {
      const Tile tile = here.tile();
      if (tile.basket != basket) {
        basket = tile.basket;
        enter_basket(p, state, basket);  // the barriers of the main loop are between this and the epilogue
      }
      loop.clear();
      if constexpr (S::Op::kTensorCore) {
        typename S::Loop::Fragments f[2];
        cp_async_wait<S::kStages - 2>();
        __syncthreads();
        loop.load(f[0], ring.x_at(stage, 0), ring.w_at(stage), 0);
        for (int k = 0; k < nk; ++k) {
#pragma unroll
          for (int step = 0; step < kKSteps; ++step) {
            if (step + 1 < kKSteps) {
              loop.load(f[(step + 1) & 1], ring.x_at(stage, k), ring.w_at(stage), step + 1);
            } else {
              if (++stage == S::kStages) stage = 0;
              if (k + 1 < nk) {
                cp_async_wait<S::kStages - 2>();
                __syncthreads();
                loop.load(f[(step + 1) & 1], ring.x_at(stage, k + 1), ring.w_at(stage), 0);
              }
            }
            if (step == 0) fill();  // into the stage that everyone left before the last barrier
            loop.multiply(f[step & 1]);
          }
        }
      } else {
        for (int k = 0; k < nk; ++k) {
          cp_async_wait<S::kStages - 2>();
          __syncthreads();
          fill();
#pragma unroll
          for (int chunk = 0; chunk < kRowBytes / 16; ++chunk)
            loop.multiply(ring.x_at(stage, k), ring.w_at(stage), chunk);
          if (++stage == S::kStages) stage = 0;
        }
      }
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
