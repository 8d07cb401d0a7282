// Pairs (class, row) that can never be a negative: the row's target, and every class of its alias. They are few, so a
// sorted list beats a test in the inner loop; a tile looks up its own stretch of the list.
#pragma once

#include <utility>
#include <vector>

#include "rows.h"
#include "types.h"

namespace bbs::cpu {

struct Exclusion {
  int64_t cls;
  int64_t row;  // position in Rows
  bool target;
};

struct Exclusions {
  std::vector<Exclusion> by_class;                          // sorted by (class, row)
  std::vector<std::vector<std::pair<int64_t, int>>> mates;  // per row: (basket, number of alias-mates), foreign baskets

  // The stretch of by_class for classes [first, last).
  std::pair<const Exclusion*, const Exclusion*> between(int64_t first, int64_t last) const;
  // skip of row in a basket: the known identities are what it was for.
  int64_t skip(int64_t row, int64_t basket, int64_t skip) const;
};

template <class T>
Exclusions find_exclusions(const Problem& problem, const Rows<T>& rows);

}  // namespace bbs::cpu
