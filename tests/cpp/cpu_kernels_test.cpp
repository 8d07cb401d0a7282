// The CPU kernels without torch or Python: against naive.h, with real threads. Built plain and under ASan+UBSan and
// TSan (`make test-cpp`), which see what a Python test cannot: reads past a buffer's end, races between chunks.
// Inputs are allocated to the byte, so that one element too far is an error.
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "../../csrc/cpu/types.h"
#include "naive.h"

namespace {

using namespace bbs;
using namespace bbs::cpu;

int failures = 0;

void expect(bool ok, const std::string& what) {
  if (ok) return;
  std::printf("FAILED %s\n", what.c_str());
  ++failures;
}

template <int kThreads>
void run_threads(int64_t tasks, void (*body)(void*, int64_t), void* context) {
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < tasks; ++i) threads.emplace_back([=] { body(context, i); });
  for (std::thread& t : threads) t.join();
}

template <class T>
std::unique_ptr<T[]> exact_copy(const std::vector<double>& values) {
  std::unique_ptr<T[]> copy(new T[values.size()]);
  for (size_t i = 0; i < values.size(); ++i) copy[i] = static_cast<T>(values[i]);
  return copy;
}

template <class T>
double relative(const std::vector<T>& got, const std::vector<double>& want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isinf(want[i])) {
      if (!std::isinf(got[i])) return std::numeric_limits<double>::infinity();
      continue;
    }
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(error / std::max(norm, 1e-2));  // with D = 1 every gradient is 0
}

template <class T>
struct Outputs {
  std::vector<T> lse, cos_target, mined_cos, dx, dw;
  std::vector<int64_t> mined_idx;

  bool operator==(const Outputs& o) const {
    const auto same = [](const auto& a, const auto& b) {
      return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0);
    };
    return same(lse, o.lse) && same(cos_target, o.cos_target) && same(mined_cos, o.mined_cos) && same(dx, o.dx) &&
           same(dw, o.dw) && same(mined_idx, o.mined_idx);
  }
};

template <class T>
Outputs<T> run(const naive::Setup& s, int64_t threads, int64_t stash_size) {
  const DType dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
  const auto x = exact_copy<T>(s.x), w = exact_copy<T>(s.w);
  const int64_t centres = s.classes() * s.subcenters;
  Problem problem{};
  problem.x = {x.get(), dtype, s.rows, s.depth, s.depth, 1};
  problem.w = {w.get(), dtype, centres, s.depth, s.depth, 1};
  problem.subcenters = s.subcenters;
  problem.labels = s.labels.data();
  problem.offsets = s.offsets.data();
  problem.baskets = s.baskets();
  problem.ignore_index = -1;
  problem.scale = s.scale;
  problem.rule = {static_cast<Rule>(s.rule), std::isinf(s.guard) ? GuardKind::none : GuardKind::absolute, s.k, s.skip,
                  s.guard};
  const Parallel parallel{threads, &run_threads<0>};
  Outputs<T> out;
  out.lse.resize(s.rows);
  out.cos_target.resize(s.rows);
  out.mined_idx.resize(s.rows * s.baskets() * s.k);
  out.mined_cos.resize(out.mined_idx.size());
  out.dx.resize(s.x.size());
  out.dw.resize(s.w.size());
  std::vector<T> stash(stash_size);
  cos_lse_forward<T>(
      problem, parallel,
      {out.lse.data(), out.cos_target.data(), out.mined_idx.data(), out.mined_cos.data(), stash.data(), stash_size});
  const std::vector<T> up(s.rows, T(1)), up_target(s.rows, T(-0.5));
  cos_lse_backward<T>(problem, parallel,
                      {up.data(), up_target.data(), out.lse.data(), out.cos_target.data(), out.mined_idx.data(),
                       out.mined_cos.data(), stash.data(), stash_size},
                      {out.dx.data(), dtype, s.rows, s.depth, s.depth, 1},
                      {out.dw.data(), dtype, centres, s.depth, s.depth, 1}, nullptr);
  return out;
}

naive::Setup make(std::mt19937& random, int64_t rows, int64_t depth, std::vector<int64_t> sizes, int rule, int64_t k,
                  int64_t skip, double guard, int64_t subcenters) {
  naive::Setup s{rows, depth, {0}, {}, {}, {}, 32.0, rule, k, skip, guard, subcenters};
  for (int64_t size : sizes) s.offsets.push_back(s.offsets.back() + size);
  std::normal_distribution<float> normal;
  s.w.resize(s.classes() * subcenters * depth);
  for (double& v : s.w) v = normal(random);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t label = static_cast<int64_t>(random() % s.classes());
    for (int64_t d = 0; d < depth; ++d)
      s.x.push_back(static_cast<float>(s.w[label * subcenters * depth + d] + 0.7f * normal(random)));
    s.labels.push_back(i % 11 == 5 ? -1 : label);
  }
  return s;
}

template <class T>
void check(const naive::Setup& s, const std::string& name) {
  const double bound = sizeof(T) == 8 ? 1e-11 : 1e-5;
  const Outputs<T> one = run<T>(s, 1, 0);
  const naive::Result want = naive::run(s);
  expect(relative(one.lse, want.lse) < bound, name + ": lse");
  expect(relative(one.cos_target, want.cos_target) < bound, name + ": cos_target");
  expect(relative(one.dx, want.dx) < bound, name + ": dx");
  expect(relative(one.dw, want.dw) < bound, name + ": dw");
  expect(run<T>(s, 3, 0) == one, name + ": three threads, bit for bit");
  expect(run<T>(s, 2, 1000) == one, name + ": small stash, bit for bit");
  expect(run<T>(s, 2, s.rows * s.classes() * s.subcenters * 2) == one, name + ": full stash, bit for bit");
}

}  // namespace

int main() {
  std::mt19937 random(7);
  const double none = std::numeric_limits<double>::infinity();
  struct Case {
    int64_t rows, depth;
    std::vector<int64_t> sizes;
    int64_t subcenters;
  };
  const Case cases[] = {{1, 1, {1}, 1},        {17, 31, {5, 0, 97, 1}, 1},  {70, 64, {450, 333, 260}, 1},
                        {300, 130, {1025}, 1}, {33, 31, {5, 0, 97, 1}, 16}, {40, 64, {150, 233}, 5}};
  int number = 0;
  for (const Case& c : cases)
    for (int rule = 0; rule < 4; ++rule)
      for (double guard : {none, 0.2}) {
        if ((rule == 2) != !std::isinf(guard) && rule != 3)
          continue;  // `below` needs a guard, `all` and `own` take none
        const naive::Setup s =
            make(random, c.rows, c.depth, c.sizes, rule, rule == 3 ? 7 : 0, rule == 3 ? 1 : 0, guard, c.subcenters);
        const std::string name = "rows " + std::to_string(c.rows) + " depth " + std::to_string(c.depth) + " rule " +
                                 std::to_string(rule) + " subcenters " + std::to_string(c.subcenters) +
                                 (std::isinf(guard) ? "" : " guarded");
        check<float>(s, name + " fp32");
        check<double>(s, name + " fp64");
        number += 2;
      }
  std::printf("%d passed, %d failed\n", number * 7 - failures, failures);
  return failures != 0;
}
