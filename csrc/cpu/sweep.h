// What forward and backward share: per-row guards and targets, and the walk over the tiles of a chunk.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "../common/plan_cpu.h"
#include "rows.h"
#include "tile.h"
#include "types.h"

namespace bbs::cpu {

// A stretch of classes in one basket.
struct TileRange {
  int64_t basket, first, last;
};

template <class Body>
void for_each_tile(const Problem& problem, int64_t first, int64_t last, int64_t tile_classes, Body&& body) {
  for (int64_t c = first; c < last;) {
    const int64_t basket = basket_of(problem.offsets, problem.baskets, c);
    const int64_t end = std::min({c + tile_classes, last, problem.offsets[basket + 1]});
    body(TileRange{basket, c, end});
    c = end;
  }
}

// cos_target per packed row, 0 where the target is not in w; from the arithmetic of the sweep, so that a duplicate of
// the target ties exactly.
template <class T>
std::vector<T> packed_target_cosines(const Problem& problem, const Parallel& parallel, const Rows<T>& rows);

// Guard per packed row: candidates above it are left out. +inf without a guard; may be NaN, which makes the row NaN.
template <class T>
std::vector<T> packed_guards(const Problem& problem, const Rows<T>& rows, const std::vector<T>& cos_target);

// Up to which cosine the classes of `basket` are part of the dense sum of each lane of panel p: +inf in the own basket
// and under `all`, the guard under `below`, -inf (none) otherwise and in unused lanes.
template <class T>
void dense_limits(const Problem& problem, const Rows<T>& rows, const std::vector<T>& guard, int64_t basket, int64_t p,
                  T* limit);

}  // namespace bbs::cpu
