// What a block of the sweep remembers about its rows, in shared memory behind the tiles. The launch plan needs its
// size.
#pragma once

#include "params.h"
#include "tile_shape.h"

namespace bbs::cuda {

constexpr int kMaskWords = kTileN / 32;
constexpr int kBloomWords = 128;  // 4096 bits for 128 aliases: 3 % of strangers pass
constexpr int32_t kNoRow = -1;

struct RowState {
  float inverse_norm;
  float limit;      // the guard: candidates above it are left out
  float threshold;  // candidates at or below it are no longer wanted; +inf where nothing is mined
  int32_t basket;   // or NoBasket
};

// One tile of the walk: the centres [first, last) of a basket. `start` is the centre of its column 0: at or before
// `first`, see class_align.
struct Tile {
  int32_t basket;
  int32_t start, first, last;
};

// Tile `n` of a basket that has the centres [begin, end). `several`: classes have several, which stay together.
BBS_HOST_DEVICE Tile cut_tile(int basket, int begin, int end, int n, int align, int step, bool several) {
  const int start = begin / align * align + n * step;
  const int from = several ? begin + n * step : start;
  return {basket, start, from > begin ? from : begin, from + step < end ? from + step : end};
}

// Tiles are looked up between two tiles, when registers are free, for the copies that run ahead: three k-tiles before
// the products and one on, which may be as many tiles.
constexpr int kTilesAhead = 4;
constexpr int kTileSlots = 8;
static_assert(kTileSlots > kTilesAhead + 1, "a slot is not written while it may be read");

struct AliasHit {
  int64_t alias;
  int32_t column;
};

struct SweepState {
  RowState row[kTileM];
  float w_inverse[kTileN];
  LsePair pair[2][kTileM];  // by half of the tile's columns, whose warps never meet
  uint32_t masked[kTileM][kMaskWords];
  int64_t alias[kTileM];  // of the row's label, -1 for none
  AliasHit hit[kTileN];
  Tile tile[kTileSlots];
  int32_t walk_segment, walk_basket;  // of the last tile looked up
  uint32_t bloom[kBloomWords];
  int32_t source[kTileM];   // row of x, or kNoRow
  int32_t label[kTileM];    // first centre of the target, or kNoRow
  int32_t waiting[kTileM];  // candidates in the pending buffer
  int32_t listed[kTileM];   // keys in the list
  int32_t mates[kTileM];    // classes of the row's alias met in this basket
  int32_t nan[kTileM];
  int32_t segment_first[kTileM];  // runs of tiles to visit: first tile, and end in the block's own count
  int32_t segment_end[kTileM];
  int32_t segments;
  int32_t hits;
};

}  // namespace bbs::cuda
