// The launch plan and the packing of the parameters as flat arrays, for ctypes: the tests launch what the plan says.
#include <cstring>

#include "plan.h"

using namespace bbs::cuda;

namespace {

ForwardShape shape_of(const int64_t* v) {
  ForwardShape s{};
  int32_t* fields[] = {&s.operand, &s.w_bytes, &s.w_transposed, &s.vectors, &s.rows,    &s.dim,      &s.classes,
                       &s.baskets, &s.rule,    &s.k,            &s.skip,    &s.aliases, &s.streaming};
  for (int32_t* field : fields) *field = static_cast<int32_t>(*v++);
  return s;
}

}  // namespace

extern "C" {

int64_t bbs_params_bytes() { return sizeof(ForwardParams); }

// plan: resident, tiles, splits, list_length, row_blocks, threads, shared_bytes, prepare, order, merge, workspace bytes.
void bbs_plan_forward(const int64_t* shape, const int64_t* offsets, int64_t arch, int64_t multiprocessors,
                      int64_t* plan_out, int32_t* tile_begin) {
  const ForwardShape s = shape_of(shape);
  const ForwardPlan p = plan_forward(s, offsets, machine_of(static_cast<int>(arch), static_cast<int>(multiprocessors)));
  plan_tiles(offsets, s.baskets, class_align(s.w_transposed, s.w_bytes), tile_begin);
  const int64_t values[] = {p.resident,     p.tiles,          p.splits,       p.list_length,  p.row_blocks, p.threads,
                            p.shared_bytes, p.prepare_blocks, p.order_blocks, p.merge_blocks, p.at.total};
  std::memcpy(plan_out, values, sizeof(values));
}

// pointers: x, w, labels, offsets, aliases, guard, tile_begin, bad_label, lse, cos_target, mined_idx, mined_cos, workspace.
void bbs_pack_forward(const int64_t* shape, const int64_t* offsets, int64_t arch, int64_t multiprocessors,
                      const int64_t* pointers, const int64_t* strides, int64_t ignore_index, int64_t guard_kind,
                      double scale, double guard_value, unsigned char* out) {
  const ForwardShape s = shape_of(shape);
  const ForwardPlan plan =
      plan_forward(s, offsets, machine_of(static_cast<int>(arch), static_cast<int>(multiprocessors)));
  ForwardParams p;
  std::memset(&p, 0, sizeof(p));
  Problem& q = p.problem;
  q.x = reinterpret_cast<const void*>(pointers[0]);
  q.w = reinterpret_cast<const void*>(pointers[1]);
  q.labels = reinterpret_cast<const int64_t*>(pointers[2]);
  q.offsets = reinterpret_cast<const int64_t*>(pointers[3]);
  q.aliases = reinterpret_cast<const int64_t*>(pointers[4]);
  q.guard_rows = reinterpret_cast<const float*>(pointers[5]);
  q.x_stride = strides[0];
  q.w_stride = strides[1];
  q.ignore_index = ignore_index;
  q.rows = s.rows;
  q.dim = s.dim;
  q.classes = s.classes;
  q.baskets = s.baskets;
  q.rule = bbs::Rule{s.rule};
  q.guard_kind = bbs::GuardKind{static_cast<int32_t>(guard_kind)};
  q.k = s.k;
  q.skip = s.skip;
  q.scale = static_cast<float>(scale);
  q.guard_value = static_cast<float>(guard_value);
  p.sweep.tile_begin = reinterpret_cast<const int32_t*>(pointers[6]);
  p.row.bad_label = reinterpret_cast<BadLabel*>(pointers[7]);
  p.out.lse = reinterpret_cast<float*>(pointers[8]);
  p.out.cos_target = reinterpret_cast<float*>(pointers[9]);
  p.out.mined_idx = reinterpret_cast<int64_t*>(pointers[10]);
  p.out.mined_cos = reinterpret_cast<float*>(pointers[11]);
  place_workspace(p, s, plan, reinterpret_cast<void*>(pointers[12]));
  std::memcpy(out, &p, sizeof(p));
}
}
