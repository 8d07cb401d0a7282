// Pairs (class, row) that can never be a negative: the row's target, and every class of its alias. They are few, so a
// list per tile beats a test in the inner loop. Kept per alias, not per pair: one alias shared by everybody would
// otherwise make a B x C list.
#pragma once

#include <unordered_map>
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

class Exclusions {
 public:
  template <class T>
  Exclusions(const Problem& problem, const Rows<T>& rows);

  // The excluded pairs of classes [first, last); a row's target comes after all alias pairs.
  void collect(int64_t first, int64_t last, std::vector<Exclusion>& out) const;

  // skip of a row in a foreign basket, less the number of classes there that have the row's alias (not below 0): the
  // known identities are what skip was for.
  int64_t skip(int64_t row, int64_t basket, int64_t skip) const;

 private:
  struct Identity {
    std::vector<int64_t> rows;                        // of this batch
    std::vector<std::pair<int64_t, int64_t>> counts;  // (basket, number of its classes), ascending
  };

  const int64_t* aliases_;
  std::vector<std::pair<int64_t, int64_t>> targets_;  // (class, row), sorted
  std::vector<int64_t> alias_;                        // per row; empty without aliases
  std::unordered_map<int64_t, Identity> identities_;  // by alias, those of this batch only
};

}  // namespace bbs::cpu
