#include "sweep.h"

#include "tasks.h"

namespace bbs::cpu {

template <class T>
std::vector<T> packed_target_cosines(const Problem& problem, const Parallel& parallel, const Rows<T>& rows) {
  std::vector<T> cos_target(rows.count);
  const MicroKernels<T>& micro = micro_kernels<T>();
  for_each_task(parallel, rows.panels, [&](int64_t p) {
    ClassTile<T> tile(problem, kLanes, false);
    const int64_t first = p * kLanes;
    int64_t target[kLanes], lane_of[kLanes];  // of the lanes whose target is in w
    int64_t count = 0;
    for (int64_t lane = 0; lane < kLanes && first + lane < rows.count; ++lane) {
      if (rows.label[first + lane] < 0) continue;
      target[count] = rows.label[first + lane];
      lane_of[count++] = lane;
    }
    tile.gather(target, count);
    Aligned<T> centres((kLanes * problem.subcenters + kDotClasses) * kLanes);
    alignas(64) T nearest[kLanes * kLanes];
    tile.cosines(micro, rows.panel_at(p, problem.x.cols), centres.get());
    const bool several = problem.subcenters > 1;
    if (several) micro.nearest(centres.get(), count, problem.subcenters, nearest);
    const T* cos = several ? nearest : centres.get();
    for (int64_t c = 0; c < count; ++c) cos_target[first + lane_of[c]] = cos[c * kLanes + lane_of[c]];
  });
  return cos_target;
}

template <class T>
std::vector<T> packed_guards(const Problem& problem, const Rows<T>& rows, const std::vector<T>& cos_target) {
  std::vector<T> guard(rows.count, std::numeric_limits<T>::infinity());
  const T value = static_cast<T>(problem.rule.guard_value);
  for (int64_t r = 0; r < rows.count; ++r) {
    if (problem.rule.guard == GuardKind::absolute) guard[r] = value;
    if (problem.rule.guard == GuardKind::relative) guard[r] = cos_target[r] - value;
    if (problem.rule.guard == GuardKind::rows) guard[r] = static_cast<const T*>(problem.guard_rows)[rows.source[r]];
  }
  return guard;
}

template <class T>
void dense_limits(const Problem& problem, const Rows<T>& rows, const std::vector<T>& guard, int64_t basket, int64_t p,
                  T* limit) {
  constexpr T kAll = std::numeric_limits<T>::infinity();
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t r = p * kLanes + lane;
    if (r >= rows.count)
      limit[lane] = -kAll;
    else if (rows.basket[r] == basket || problem.rule.rule == Rule::all)
      limit[lane] = kAll;
    else
      limit[lane] = problem.rule.rule == Rule::below ? guard[r] : -kAll;
  }
}

template std::vector<float> packed_target_cosines(const Problem&, const Parallel&, const Rows<float>&);
template std::vector<double> packed_target_cosines(const Problem&, const Parallel&, const Rows<double>&);
template std::vector<float> packed_guards(const Problem&, const Rows<float>&, const std::vector<float>&);
template std::vector<double> packed_guards(const Problem&, const Rows<double>&, const std::vector<double>&);
template void dense_limits(const Problem&, const Rows<float>&, const std::vector<float>&, int64_t, int64_t, float*);
template void dense_limits(const Problem&, const Rows<double>&, const std::vector<double>&, int64_t, int64_t, double*);

}  // namespace bbs::cpu
