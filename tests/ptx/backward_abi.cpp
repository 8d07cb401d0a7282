// The plan of the dense backward and its parameters as flat arrays, for ctypes.
#include <cstring>

#include "backward_plan.h"

using namespace bbs::cuda;

namespace {

ForwardShape shape_of(const int64_t* v) {
  ForwardShape s{};
  int32_t* fields[] = {&s.operand, &s.w_bytes, &s.w_transposed, &s.vectors, &s.rows,     &s.dim, &s.classes, &s.baskets,
                       &s.rule,    &s.k,       &s.skip,         &s.aliases, &s.streaming};
  for (int32_t* field : fields) *field = static_cast<int32_t>(*v++);
  return s;
}

// machine: arch, multiprocessors. request: need dx, need dw, workspace limit.
BackwardPlan plan_of(const int64_t* shape, const int64_t* offsets, const int64_t* machine, const int64_t* request) {
  const BackwardNeeds needs = {static_cast<int32_t>(request[0]), static_cast<int32_t>(request[1])};
  return plan_backward(shape_of(shape), offsets, machine_of(static_cast<int>(machine[0]), static_cast<int>(machine[1])),
                       needs, request[2]);
}

}  // namespace

extern "C" {

int64_t bbs_dense_bytes() { return sizeof(DenseParams); }

// Where the forward's workspace holds inverse_norm, cos_target, guard, basket, order.
void bbs_forward_places(const int64_t* shape, const int64_t* offsets, const int64_t* machine, int64_t* out) {
  const ForwardPlan p =
      plan_forward(shape_of(shape), offsets, machine_of(static_cast<int>(machine[0]), static_cast<int>(machine[1])));
  const int64_t values[] = {p.at.inverse_norm, p.at.cos_target, p.at.guard, p.at.basket, p.at.order};
  std::memcpy(out, values, sizeof(values));
}

void bbs_plan_backward(const int64_t* shape, const int64_t* offsets, const int64_t* machine, const int64_t* request,
                       int64_t* out) {
  const BackwardPlan p = plan_of(shape, offsets, machine, request);
  const int64_t values[] = {p.padded_rows,    p.padded_dim,         p.tiles,       p.run_tiles,      p.runs,
                            p.row_blocks,     p.column_blocks,      p.splits,      p.threads,        p.basket_blocks,
                            p.hat_columns,    p.coefficient_shared, p.rows_shared, p.classes_shared, p.at.total,
                            p.at.dx_partials, p.at.dot_partials};
  std::memcpy(out, values, sizeof(values));
}

// One run. pointers: x_hat, lse_log2e, row_factor, grad_scale, sorted, lse, dw, workspace. extra: pair count,
// dw_stride, dw_vectors, run. Returns how many tiles the run has.
int64_t bbs_pack_dense(const unsigned char* forward, const int64_t* shape, const int64_t* offsets,
                       const int64_t* machine, const int64_t* request, const int64_t* pointers, const int64_t* extra,
                       unsigned char* out) {
  const BackwardPlan plan = plan_of(shape, offsets, machine, request);
  DenseParams p;
  std::memset(&p, 0, sizeof(p));
  std::memcpy(&p.forward, forward, sizeof(p.forward));
  p.rows.x_hat = reinterpret_cast<void*>(pointers[0]);
  p.rows.lse_log2e = reinterpret_cast<float*>(pointers[1]);
  p.rows.row_factor = reinterpret_cast<float*>(pointers[2]);
  p.rows.grad_scale = reinterpret_cast<float*>(pointers[3]);
  p.rows.sorted = reinterpret_cast<SparsePair*>(pointers[4]);
  p.rows.lse = reinterpret_cast<const float*>(pointers[5]);
  p.rows.pair_count = extra[0];
  p.dense.dw = reinterpret_cast<void*>(pointers[6]);
  p.dense.dw_stride = extra[1];
  p.dense.dw_vectors = static_cast<int32_t>(extra[2]);
  place_dense(p, plan, {static_cast<int32_t>(request[0]), static_cast<int32_t>(request[1])},
              reinterpret_cast<void*>(pointers[7]));
  p.run = plan_run(plan, static_cast<int32_t>(extra[3]));
  std::memcpy(out, &p, sizeof(p));
  return p.run.tiles;
}
}
