// Mining rules and guards as the plain integers of the op schemas, for code that compiles without a standard library.
// The enumerators are those of rule.h, which host code uses.
#pragma once

#include "host_device.h"

namespace bbs {

struct RuleCode {
  enum : int32_t { all = 0, own = 1, below = 2, topk = 3 };
};

struct GuardCode {
  enum : int32_t { none = 0, absolute = 1, relative = 2, rows = 3 };
};

// k + skip: the length of a row's list in one basket.
constexpr int32_t kMaxListLength = 128;

// Does a row look at classes outside its own basket? Decides which tiles it needs and which NaNs it can meet.
BBS_HOST_DEVICE bool reads_other_baskets(int32_t rule, int32_t k) {
  return rule == RuleCode::all || rule == RuleCode::below || (rule == RuleCode::topk && k > 0);
}

// Are classes of other baskets part of the dense sum?
BBS_HOST_DEVICE bool dense_in_other_baskets(int32_t rule) { return rule == RuleCode::all || rule == RuleCode::below; }

BBS_HOST_DEVICE bool mines_lists(int32_t rule, int32_t k) { return rule == RuleCode::topk && k > 0; }

}  // namespace bbs
