// The sort's plan and the parameters of the backward's per-row kernels as flat arrays, for ctypes.
#include <cstring>

#include "sort_plan.h"

using namespace bbs::cuda;

namespace {

template <class T>
T* pointer(int64_t address) {
  return reinterpret_cast<T*>(address);
}

BackwardRows rows_of(int64_t pair_count, int64_t pairs, int64_t sorted) {
  BackwardRows rows{};
  rows.pairs = pointer<SparsePair>(pairs);
  rows.sorted = pointer<SparsePair>(sorted);
  rows.pair_count = pair_count;
  return rows;
}

}  // namespace

extern "C" {

// plan: passes, digits, blocks, gather_blocks, workspace bytes, threads.
void bbs_plan_sort(int64_t pairs, int64_t classes, int64_t* out) {
  const SortPlan p = plan_sort(pairs, classes);
  const int64_t values[] = {p.passes, p.digits, p.blocks, p.gather_blocks, p.workspace, kSortThreads};
  std::memcpy(out, values, sizeof(values));
}

int64_t bbs_pack_sort_pass(int64_t count, int64_t classes, int64_t pass, int64_t pairs, int64_t workspace,
                           unsigned char* out) {
  const SortPass s = sort_pass(plan_sort(count, classes), static_cast<int32_t>(pass), rows_of(count, pairs, 0),
                               static_cast<int32_t>(classes), pointer<void>(workspace));
  std::memcpy(out, &s, sizeof(s));
  return sizeof(s);
}

int64_t bbs_pack_gather(int64_t count, int64_t classes, int64_t pairs, int64_t sorted, int64_t workspace,
                        unsigned char* out) {
  const GatherPairs g =
      gather_after(plan_sort(count, classes), rows_of(count, pairs, sorted), pointer<void>(workspace));
  std::memcpy(out, &g, sizeof(g));
  return sizeof(g);
}
}
