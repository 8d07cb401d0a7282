// Forward: one pass over W. Each tile of classes meets each panel of rows once; own-basket cosines go into an online
// log-sum-exp, foreign ones through the row's threshold into its queue. No B x C array exists; what is kept per row is
// a (max, sum) pair and the lists of the best candidates.
#include <cmath>

#include "candidates.h"
#include "exclusions.h"
#include "stash.h"
#include "sweep.h"
#include "tasks.h"

namespace bbs::cpu {
namespace {

constexpr int64_t kTileCentres = 48;  // 48 centres of 512 fp32 are 96 KiB: they stay in L2 while all panels pass

// Log-sum-exp state of every packed row: sum of exp(scale * (c - max)), max in cosine units.
template <class T>
struct RowState {
  explicit RowState(const Rows<T>& rows)
      : max(rows.panels * kLanes), sum(rows.panels * kLanes), nan(rows.panels * kLanes) {
    clear();
  }
  void clear() {
    std::fill(max.begin(), max.end(), -std::numeric_limits<T>::infinity());
    std::fill(sum.begin(), sum.end(), 0.0);
    std::fill(nan.begin(), nan.end(), uint8_t{0});
  }
  void merge(const RowState& other, double scale) {
    for (size_t r = 0; r < max.size(); ++r) {
      nan[r] |= other.nan[r];
      if (other.sum[r] == 0.0) continue;
      const T top = std::max(max[r], other.max[r]);
      const double mine = sum[r] == 0.0 ? 0.0 : sum[r] * std::exp(scale * (double(max[r]) - double(top)));
      sum[r] = mine + other.sum[r] * std::exp(scale * (double(other.max[r]) - double(top)));
      max[r] = top;
    }
  }
  std::vector<T> max;
  std::vector<double> sum;
  std::vector<uint8_t> nan;
};

template <class T>
class Forward {
 public:
  Forward(const Problem& problem, const Parallel& parallel, const ForwardOut<T>& out)
      : problem_(problem),
        parallel_(parallel),
        out_(out),
        rows_(pack_rows<T>(problem, parallel)),
        exclusions_(problem, rows_),
        cos_target_(packed_target_cosines(problem, parallel, rows_)),
        guard_(packed_guards(problem, rows_, cos_target_)),
        stash_(problem, rows_, out.stash, out.stash_size),
        total_(rows_),
        lists_(problem, problem.rule.mines() ? rows_.count : 0) {}

  void run() {
    fill_ignored();
    const ChunkPlan plan = plan_chunks(problem_.classes());
    const int64_t tile_classes = problem_.tile_classes(kTileCentres);
    Turns turns;
    for_each_worker(parallel_, rows_.count > 0 ? plan.count : 0, [&](int64_t, auto next) {
      Worker worker(*this);
      for (int64_t chunk = next(); chunk >= 0; chunk = next()) {
        Turns::Turn turn(turns, chunk);
        worker.state.clear();
        for_each_tile(problem_, plan.begin(chunk), plan.end(chunk), tile_classes,
                      [&](const TileRange& range) { sweep(worker, range); });
        turn.take([&] { total_.merge(worker.state, problem_.scale); });
      }
      if (problem_.rule.mines()) worker.queues.flush(lists_);
    });
    for_each_task(parallel_, rows_.count, [&](int64_t r) { finish(r); });
    stash_.clear_rest();
  }

 private:
  struct Worker {
    explicit Worker(Forward& f)
        : tile(f.problem_, f.problem_.tile_classes(kTileCentres), false),
          state(f.rows_),
          queues(f.problem_, f.rows_),
          centres((kTileCentres + kDotClasses) * kLanes),
          nearest(kTileCentres * kLanes),
          cos(f.problem_.subcenters > 1 ? nearest.get() : centres.get()),
          dense(kTileCentres * kLanes) {}
    ClassTile<T> tile;
    RowState<T> state;
    Queues<T> queues;
    std::vector<Exclusion> excluded;  // of the current tile
    Aligned<T> centres;               // cosines [tile centres][16]
    Aligned<T> nearest;               // the largest of each class, where classes have several centres
    T* cos;                           // of classes: one of the two
    Aligned<T> dense;
  };

  void sweep(Worker& worker, const TileRange& range) {
    const bool foreign = problem_.rule.reads_other_baskets();
    const int64_t own_first = rows_.begin[range.basket];
    const int64_t own_last = rows_.begin[range.basket + 1];
    const int64_t row_first = foreign ? 0 : own_first;
    const int64_t row_last = foreign ? rows_.count : own_last;
    if (row_first == row_last) return;
    const bool mines = problem_.rule.mines();
    if (mines) worker.queues.enter(range.basket, lists_);

    worker.tile.load(range.first, range.last - range.first);
    const int64_t count = worker.tile.classes();
    exclusions_.collect(range.first, range.last, worker.excluded);
    for (int64_t p = row_first / kLanes; p * kLanes < row_last; ++p) {
      const int64_t panel_first = p * kLanes;
      const int64_t panel_last = std::min(panel_first + kLanes, rows_.count);
      worker.tile.cosines(micro_, rows_.panel_at(p, problem_.x.cols), worker.centres.get());
      stash_.keep(range.basket, p, range.first, range.last, worker.centres.get());
      T* cos = worker.cos;
      if (problem_.subcenters > 1) micro_.nearest(worker.centres.get(), count, problem_.subcenters, cos);
      mark_nan(worker, range.basket, p, count);
      for (const Exclusion& e : worker.excluded)
        if (e.row >= panel_first && e.row < panel_last)
          cos[(e.cls - range.first) * kLanes + e.row - panel_first] = -std::numeric_limits<T>::infinity();

      const bool own = panel_first < own_last && panel_last > own_first;
      if (own || problem_.rule.dense_in_other_baskets()) {
        alignas(64) T limit[kLanes];
        dense_limits(problem_, rows_, guard_, range.basket, p, limit);
        micro_.admit(cos, count, limit, worker.dense.get());
        micro_.lse_update(worker.dense.get(), count, static_cast<T>(problem_.scale), &worker.state.max[panel_first],
                          &worker.state.sum[panel_first]);
      }
      if (mines && !(panel_first >= own_first && panel_last <= own_last)) mine(worker, range.first, count, panel_first);
    }
  }

  // A row that meets a NaN in any basket that its rule reads becomes NaN; rows beside it in the panel do not.
  void mark_nan(Worker& worker, int64_t basket, int64_t p, int64_t count) {
    uint8_t nan[kLanes] = {};
    if (!micro_.mark_nan(worker.cos, count, nan)) return;
    for (int64_t lane = 0; lane < kLanes && p * kLanes + lane < rows_.count; ++lane) {
      const int64_t r = p * kLanes + lane;
      if (nan[lane] && (rows_.basket[r] == basket || problem_.rule.reads_other_baskets())) worker.state.nan[r] = 1;
    }
  }

  void mine(Worker& worker, int64_t first_class, int64_t count, int64_t first_row) {
    uint16_t mask[kTileCentres];
    const T* cos = worker.cos;
    if (!micro_.at_least(cos, count, worker.queues.threshold(first_row), mask)) return;
    for (int64_t c = 0; c < count; ++c)
      for (unsigned bits = mask[c]; bits != 0; bits &= bits - 1) {
        const int64_t lane = __builtin_ctz(bits);
        const T value = cos[c * kLanes + lane];
        if (value <= guard_[first_row + lane])
          worker.queues.offer(first_row + lane, value, nearest_centre(worker, first_class, c, lane));
      }
  }

  // The first centre of a class that has the class's cosine. Its order among centres is the class's among classes.
  int64_t nearest_centre(const Worker& worker, int64_t first_class, int64_t c, int64_t lane) const {
    const int64_t r = problem_.subcenters;
    int64_t q = 0;
    while (q + 1 < r && worker.centres.get()[(c * r + q) * kLanes + lane] != worker.cos[c * kLanes + lane]) ++q;
    return (first_class + c) * r + q;
  }

  void fill_ignored() {
    const int64_t slots = problem_.rule.mines() ? problem_.baskets * problem_.rule.k : 0;
    for (int64_t i = 0; i < problem_.x.rows; ++i) {
      out_.lse[i] = -std::numeric_limits<T>::infinity();
      out_.cos_target[i] = T(0);
    }
    std::fill(out_.mined_idx, out_.mined_idx + problem_.x.rows * slots, int64_t{-1});
    std::fill(out_.mined_cos, out_.mined_cos + problem_.x.rows * slots, T(0));
  }

  void finish(int64_t r) {
    const int64_t i = rows_.source[r];
    out_.cos_target[i] = cos_target_[r];
    const bool nan = total_.nan[r] || std::isnan(cos_target_[r]) || std::isnan(guard_[r]);
    if (nan) {
      out_.lse[i] = std::numeric_limits<T>::quiet_NaN();
      return;
    }
    double top = total_.max[r];
    double sum = total_.sum[r];
    if (problem_.rule.mines())
      for (int64_t b = 0; b < problem_.baskets; ++b) write_mined(r, b, top, sum);
    if (sum > 0.0) out_.lse[i] = static_cast<T>(problem_.scale * top + std::log(sum));
  }

  void write_mined(int64_t r, int64_t basket, double& top, double& sum) {
    const int64_t k = problem_.rule.k;
    Candidate<T>* list = lists_.at(r, basket);
    const int64_t size = lists_.size(r, basket);
    std::sort(list, list + size, better<T>);
    const int64_t skip = exclusions_.skip(r, basket, problem_.rule.skip);
    const int64_t at = (rows_.source[r] * problem_.baskets + basket) * k;
    for (int64_t n = skip; n < size && n < skip + k; ++n) {
      out_.mined_idx[at + n - skip] = list[n].centre;
      out_.mined_cos[at + n - skip] = list[n].cos;
      if (!problem_.mined_in_lse) continue;
      const double cos = list[n].cos;
      if (cos > top) {
        sum = sum > 0.0 ? sum * std::exp(problem_.scale * (top - cos)) : 0.0;
        top = cos;
      }
      sum += std::exp(problem_.scale * (cos - top));
    }
  }

  const Problem& problem_;
  const Parallel& parallel_;
  const ForwardOut<T>& out_;
  const MicroKernels<T>& micro_ = micro_kernels<T>();
  Rows<T> rows_;
  Exclusions exclusions_;
  std::vector<T> cos_target_;
  std::vector<T> guard_;
  Stash<T> stash_;
  RowState<T> total_;
  MinedLists<T> lists_;
};

}  // namespace

template <class T>
void cos_lse_forward(const Problem& problem, const Parallel& parallel, const ForwardOut<T>& out) {
  Forward<T>(problem, parallel, out).run();
}

template <class T>
void target_cosines(const Problem& problem, const Parallel& parallel, T* cos_target) {
  const Rows<T> rows = pack_rows<T>(problem, parallel);
  const std::vector<T> packed = packed_target_cosines(problem, parallel, rows);
  std::fill(cos_target, cos_target + problem.x.rows, T(0));
  for (int64_t r = 0; r < rows.count; ++r) cos_target[rows.source[r]] = packed[r];
}

template void cos_lse_forward(const Problem&, const Parallel&, const ForwardOut<float>&);
template void cos_lse_forward(const Problem&, const Parallel&, const ForwardOut<double>&);
template void target_cosines(const Problem&, const Parallel&, float*);
template void target_cosines(const Problem&, const Parallel&, double*);

}  // namespace bbs::cpu
