#include "rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "convert.h"
#include "tasks.h"

namespace bbs::cpu {

template <class T>
T inverse_norm(T n2) {
  constexpr T kSmallest = T(1e-24);  // the square of loss.md's 1e-12
  if (!std::isfinite(n2)) return std::numeric_limits<T>::quiet_NaN();
  return n2 < kSmallest ? T(0) : T(1) / std::sqrt(n2);
}

int64_t basket_of(const int64_t* offsets, int64_t baskets, int64_t label) {
  return std::upper_bound(offsets, offsets + baskets + 1, label) - offsets - 1;
}

template <class T>
Rows<T> pack_rows(const Problem& problem, const Parallel& parallel) {
  Rows<T> rows;
  rows.begin.assign(problem.baskets + 1, 0);
  std::vector<int64_t> owner(problem.x.rows, -1);
  for (int64_t i = 0; i < problem.x.rows; ++i) {
    if (problem.ignored(i)) continue;
    owner[i] =
        problem.row_basket ? problem.row_basket[i] : basket_of(problem.offsets, problem.baskets, problem.labels[i]);
    ++rows.begin[owner[i] + 1];
  }
  for (int64_t b = 0; b < problem.baskets; ++b) rows.begin[b + 1] += rows.begin[b];
  rows.count = rows.begin[problem.baskets];
  rows.panels = (rows.count + kLanes - 1) / kLanes;
  rows.source.resize(rows.count);
  rows.label.resize(rows.count);
  rows.basket.resize(rows.count);
  std::vector<int64_t> next(rows.begin.begin(), rows.begin.end() - 1);
  for (int64_t i = 0; i < problem.x.rows; ++i) {
    if (owner[i] < 0) continue;
    const int64_t at = next[owner[i]]++;
    rows.source[at] = i;
    rows.label[at] = problem.labels[i];
    rows.basket[at] = owner[i];
  }

  const int64_t depth = problem.x.cols;
  const MicroKernels<T>& micro = micro_kernels<T>();
  rows.inv_norm.reset(rows.panels * kLanes);
  rows.panel.reset(rows.panels * depth * kLanes);
  for_each_task(parallel, rows.panels, [&](int64_t p) {
    Aligned<T> row(depth);
    T* panel = rows.panel.get() + p * depth * kLanes;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const int64_t r = p * kLanes + lane;
      T inverse = T(0);
      if (r < rows.count) {
        load_row(problem.x, rows.source[r], row.get());
        inverse = inverse_norm(micro.sum_squares(row.get(), depth));
        for (int64_t d = 0; d < depth; ++d) panel[d * kLanes + lane] = row[d] * inverse;
      } else {
        for (int64_t d = 0; d < depth; ++d) panel[d * kLanes + lane] = T(0);
      }
      rows.inv_norm[r] = inverse;
    }
  });
  return rows;
}

template float inverse_norm(float);
template double inverse_norm(double);
template struct Rows<float>;
template struct Rows<double>;
template Rows<float> pack_rows(const Problem&, const Parallel&);
template Rows<double> pack_rows(const Problem&, const Parallel&);

}  // namespace bbs::cpu
