// Which class tiles and which rows meet in the dense backward: a row block needs the tiles of the baskets that its rows
// belong to, or under all/below every tile. Both sides are found from the sorted order, on the device.
#pragma once

#include "dense_params.h"
#include "last_not_after.cuh"
#include "sweep_shared.h"

namespace bbs::cuda {

__device__ __forceinline__ int basket_at(const ForwardParams& p, int position) {
  return p.row.basket[p.row.order[position]];
}

// basket_begin[b]: the first sorted position whose basket is b or later, one thread per b.
BBS_KERNEL void find_baskets(const DenseParams& p) {
  const int b = blockIdx.x * kPrepareThreads + threadIdx.x;
  if (b > p.forward.problem.baskets) return;
  int low = 0, high = p.forward.problem.rows;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (basket_at(p.forward, middle) < b)
      low = middle + 1;
    else
      high = middle;
  }
  p.dense.basket_begin[b] = low;
}

// Tile `tile` of the whole problem.
template <int align>
__device__ __forceinline__ Tile find_tile(const ForwardParams& p, int tile) {
  const int32_t* tile_begin = p.sweep.tile_begin;
  const int basket = last_not_after(tile_begin, 0, p.problem.baskets - 1, tile);
  const int begin_class = static_cast<int>(p.problem.offsets[basket]);
  const int end_class = static_cast<int>(p.problem.offsets[basket + 1]);
  return cut_tile(basket, begin_class, end_class, tile - tile_begin[basket], align, p.sweep.tile_step,
                  p.problem.subcenters > 1);
}

struct Range {
  int begin, end;
  __device__ __forceinline__ bool empty() const { return begin >= end; }
};

// Sorted positions of the rows for which classes of the basket are dense.
__device__ __forceinline__ Range dense_positions(const DenseParams& p, int basket) {
  const int32_t* begin = p.dense.basket_begin;
  if (dense_in_other_baskets(p.forward.problem.rule)) return {0, begin[p.forward.problem.baskets]};
  return {begin[basket], begin[basket + 1]};
}

// Runs of consecutive tiles that a row block needs, in order.
struct TileWalk {
  int position, end;  // rows still to be visited
  bool everywhere;

  __device__ __forceinline__ TileWalk(const DenseParams& p, int first_row) {
    const int rows = p.dense.basket_begin[p.forward.problem.baskets];
    position = first_row;
    end = first_row + kTileM < rows ? first_row + kTileM : rows;
    everywhere = dense_in_other_baskets(p.forward.problem.rule);
  }

  // From the first tile needed to the last.
  __device__ __forceinline__ Range hull(const DenseParams& p) const {
    if (position >= end) return {0, 0};
    if (everywhere) return {0, p.forward.sweep.tiles};
    const int32_t* tile_begin = p.forward.sweep.tile_begin;
    return {tile_begin[basket_at(p.forward, position)], tile_begin[basket_at(p.forward, end - 1) + 1]};
  }

  // False when there is no further run.
  __device__ __forceinline__ bool next(const DenseParams& p, Range& tiles) {
    if (position >= end) return false;
    if (everywhere) {
      tiles = {0, p.forward.sweep.tiles};
      position = end;
      return true;
    }
    tiles.begin = -1;
    while (position < end) {
      const int basket = basket_at(p.forward, position), first = p.forward.sweep.tile_begin[basket];
      if (tiles.begin >= 0 && first != tiles.end) break;
      if (tiles.begin < 0) tiles.begin = first;
      tiles.end = p.forward.sweep.tile_begin[basket + 1];
      position = p.dense.basket_begin[basket + 1];
    }
    return true;
  }
};

__device__ __forceinline__ Range intersect(Range a, Range b) {
  return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

}  // namespace bbs::cuda
