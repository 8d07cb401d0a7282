// The best k + skip classes of one basket, per row of a block. Candidates at or above the row's threshold go into the
// row's queue in any order; when a whole tile might no longer fit, the best are kept and the threshold rises, so that
// soon one compare rejects nearly everything. The kept set depends on the keys alone.
#pragma once

#include "sweep_state.cuh"
#include "warp_keys.cuh"

namespace bbs::cuda {

class Queues {
 public:
  __device__ Queues(SweepState& s, const ForwardParams& p, int first_position, int positions)
      : s_(s), p_(p), first_(first_position), positions_(positions), keep_(p.k + p.skip) {
    keys_ = p.queues + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kTileM * kQueueLength;
  }

  // Thresholds for the classes of `basket`; rows of that basket want none.
  __device__ void open(int basket) {
    const int r = threadIdx.x % 32 + threadIdx.x / 32 * kRowsOfWarp;
    if (threadIdx.x % 32 >= kRowsOfWarp) return;
    s_.threshold[r] = s_.basket[r] < 0 || s_.basket[r] == basket ? INFINITY : -INFINITY;
    s_.queued[r] = 0;
    s_.mates[r] = 0;
  }

  __device__ void offer(int r, float cos, int cls) {
    keys_[r * kQueueLength + atomicAdd(&s_.queued[r], 1)] = topk_key(cos, cls);
  }

  // After a tile, and a barrier: makes room for the next one.
  __device__ void compact() {
    for (int i = 0; i < kRowsOfWarp; ++i) {
      const int r = threadIdx.x / 32 * kRowsOfWarp + i;
      if (s_.queued[r] > kQueueLength - kTileN) cut(r);
    }
  }

  // After the last tile of a segment: sorted lists to memory.
  __device__ void close(const Segment& segment, int segment_index) {
    for (int i = 0; i < kRowsOfWarp; ++i) {
      const int r = threadIdx.x / 32 * kRowsOfWarp + i;
      if (first_ + r >= positions_) break;
      if (s_.queued[r] > keep_) cut(r);
      uint64_t key[4];
      load_keys(key, keys_ + r * kQueueLength, s_.queued[r]);
      if (s_.queued[r] > 1) sort_keys(key);
      const int64_t position = first_ + r;
      store_keys(key, p_.lists + position * p_.list_length + segment.slot, segment.capacity);
      if (p_.mates != nullptr && threadIdx.x % 32 == 0)
        p_.mates[position * p_.segment_count + segment_index] = s_.mates[r];
    }
    __syncwarp();
  }

 private:
  static constexpr int kRowsOfWarp = kTileM / kWarps;

  __device__ void cut(int r) {
    uint64_t* queue = keys_ + r * kQueueLength;
    uint64_t key[kQueueLength / 32];
    load_keys(key, queue, s_.queued[r]);
    const uint64_t least = select_keys(key, keep_);
    store_selected(key, least, queue);
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
      s_.queued[r] = keep_;
      s_.threshold[r] = key_cos(least);
    }
    __syncwarp();
  }

  SweepState& s_;
  const ForwardParams& p_;
  int first_, positions_, keep_;
  uint64_t* keys_;
};

}  // namespace bbs::cuda
