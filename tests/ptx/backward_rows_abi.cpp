// The sort's plan and the parameters of the backward's per-row kernels as flat arrays, for ctypes.
#include <cstring>

#include "backward_rows_plan.h"
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
  const SortPass s = sort_pass(plan_sort(count, classes), static_cast<int32_t>(pass), pointer<SparsePair>(pairs),
                               nullptr, count, pointer<void>(workspace));
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

// out: lane values of backward_pairs, and the threads of row_scale, backward_pairs and finish_rows.
void bbs_plan_rows(int64_t dim, int64_t transposed, int64_t* out) {
  const int64_t values[] = {lane_values(static_cast<int>(dim), transposed != 0), kRowScaleThreads, kPairsThreads,
                            kFinishThreads};
  std::memcpy(out, values, sizeof(values));
}

// In the order of the assignments below.
int64_t bbs_pack_rows(const int64_t* shape, const int64_t* address, double scale, unsigned char* out) {
  BackwardRowParams p;
  std::memset(&p, 0, sizeof(p));
  const auto size = [&] { return static_cast<int32_t>(*shape++); };
  p.problem.rows = size();
  p.problem.dim = size();
  p.problem.classes = size();
  p.problem.baskets = size();
  p.problem.rule = bbs::Rule{size()};
  p.problem.k = size();
  p.problem.x_stride = size();
  p.problem.w_stride = size();
  p.problem.ignore_index = size();
  p.rows.padded_rows = size();
  p.rows.padded_dim = size();
  p.rows.need_dx = size();
  p.finish.splits = size();
  p.finish.dx_stride = size();
  p.problem.scale = static_cast<float>(scale);
  p.problem.x = pointer<void>(*address++);
  p.problem.w = pointer<void>(*address++);
  p.problem.labels = pointer<int64_t>(*address++);
  p.row.inverse_norm = pointer<float>(*address++);
  p.row.cos_target = pointer<float>(*address++);
  p.row.basket = pointer<int32_t>(*address++);
  p.row.order = pointer<int32_t>(*address++);
  p.rows.grad_lse = pointer<float>(*address++);
  p.rows.grad_cos_t = pointer<float>(*address++);
  p.rows.lse = pointer<float>(*address++);
  p.rows.mined_idx = pointer<int64_t>(*address++);
  p.rows.mined_cos = pointer<float>(*address++);
  p.finish.dx_partials = pointer<float>(*address++);
  p.finish.dot_partials = pointer<float>(*address++);
  p.rows.x_hat = pointer<void>(*address++);
  p.rows.dense_lse = pointer<float>(*address++);
  p.rows.row_factor = pointer<float>(*address++);
  p.rows.grad_scale = pointer<float>(*address++);
  p.rows.sparse_dx = pointer<float>(*address++);
  p.rows.sparse_dot = pointer<float>(*address++);
  p.rows.pairs = pointer<SparsePair>(*address++);
  p.finish.dx = pointer<void>(*address++);
  std::memcpy(out, &p, sizeof(p));
  return sizeof(p);
}
}
