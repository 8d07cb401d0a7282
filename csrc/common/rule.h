// Mining rules and guards as plain integers and one predicate, shared by every backend.
// The codes are part of the op schema: Python's rules.py, the CPU kernels and the device kernels agree on them here.
#pragma once

#include "host_device.h"

namespace bbs {

// Which classes of *other* baskets are negatives of a row. The own basket always is.
enum class Rule : int32_t { all = 0, own = 1, below = 2, topk = 3 };

// How a row's guard g is found; a candidate with cosine > g is left out.
enum class GuardKind : int32_t { none = 0, absolute = 1, relative = 2, rows = 3 };

// Does a row look at classes outside its own basket? Decides which tiles it needs and which NaNs it can meet.
BBS_HOST_DEVICE bool reads_other_baskets(Rule rule, int64_t k) {
  return rule == Rule::all || rule == Rule::below || (rule == Rule::topk && k > 0);
}
// Are classes of other baskets part of the dense sweep, in forward and in backward?
BBS_HOST_DEVICE bool dense_in_other_baskets(Rule rule) { return rule == Rule::all || rule == Rule::below; }
BBS_HOST_DEVICE bool mines_lists(Rule rule, int64_t k) { return rule == Rule::topk && k > 0; }

constexpr int64_t kMaxListed = 128;         // k + skip: what one queue per (row, basket) holds
constexpr int64_t kMaxMinedPerRow = 16384;  // sum over baskets of min(k, size)
constexpr int64_t kMaxSubcenters = 16;      // centres of a class; a CPU tile of 48 holds three such classes

struct RuleParams {
  Rule rule = Rule::own;
  GuardKind guard = GuardKind::none;
  int64_t k = 0;
  int64_t skip = 0;
  double guard_value = 0.0;

  BBS_HOST_DEVICE bool reads_other_baskets() const { return bbs::reads_other_baskets(rule, k); }
  BBS_HOST_DEVICE bool dense_in_other_baskets() const { return bbs::dense_in_other_baskets(rule); }
  BBS_HOST_DEVICE bool mines() const { return mines_lists(rule, k); }
};

}  // namespace bbs
