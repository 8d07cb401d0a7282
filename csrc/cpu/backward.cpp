// Backward: cosines are recomputed tile by tile, turned into dS in place of the softmax, and used at once for both
// gradients. Only tiles of a row's own basket are dense (all of them under `all` and `below`); mined pairs come from
// the forward's list. With S_ij = dL/dc_ij / |w_j|:
//   dX_i = (sum_j S_ij w_j - its component along x_i) / |x_i|        added up per chunk, chunks in order
//   dW_j =  sum_i S_ij x_i/|x_i| - its component along w_j           each class is owned by one chunk
#include <cmath>

#include "exclusions.h"
#include "row_sums.h"
#include "scatter.h"
#include "sgd.h"
#include "stash.h"
#include "sweep.h"
#include "tasks.h"

namespace bbs::cpu {
namespace {

constexpr int64_t kTileCentres = 96;        // more per tile than forward: dX rows are loaded and stored once per tile
constexpr int64_t kStreamBytes = 32 << 20;  // a larger dW is not in the caches any more when the optimiser reads it
constexpr int64_t kBlockPanels = 16;        // 256 rows: S of a tile and a block is 100 KiB in fp32

template <class T>
class Backward {
 public:
  Backward(const Problem& problem, const Parallel& parallel, const BackwardIn<T>& in, const OutMatrix& dx,
           const OutMatrix& dw, const SgdStep* sgd)
      : problem_(problem),
        parallel_(parallel),
        in_(in),
        dx_(dx),
        dw_(dw),
        sgd_(sgd),
        need_dw_(dw.data || sgd),
        dw_in_place_(dw.data && dw.col_stride == 1 && dw.dtype == (sizeof(T) == 8 ? DType::f64 : DType::f32)),
        depth_(problem.x.cols),
        stride_((depth_ + kLanes - 1) / kLanes * kLanes),
        rows_(pack_rows<T>(problem, parallel)),
        exclusions_(problem, rows_),
        pairs_(sorted_pairs(problem, rows_, in)),
        stash_(problem, rows_, in.stash, in.stash_size),
        unit_rows_(rows_.count * (stride_ + kLanes)),
        unit_row_(rows_.panels * kLanes),
        factor_(rows_.panels * kLanes, T(0)),
        lse_(rows_.panels * kLanes, std::numeric_limits<T>::infinity()),
        cos_target_(rows_.count),
        dx_total_(dx.data ? rows_.count : 0, stride_) {
    for (int64_t r = 0; r < rows_.count; ++r) {
      const int64_t i = rows_.source[r];
      factor_[r] = in.grad_lse[i] * static_cast<T>(problem.scale);
      // A row without negatives has no weight anywhere: +inf gives exp(-inf) = 0, -inf would give NaN at excluded
      // classes.
      lse_[r] = std::isinf(in.lse[i]) ? std::numeric_limits<T>::infinity() : in.lse[i];
      cos_target_[r] = in.cos_target[i];
    }
    guard_ = packed_guards(problem, rows_, cos_target_);
    for_each_task(parallel, rows_.panels, [&](int64_t p) { unpack(p); });
  }

  void run() {
    const ChunkPlan plan = plan_chunks(problem_.classes());
    const int64_t tile_classes = problem_.tile_classes(kTileCentres);
    Turns turns;
    for_each_worker(parallel_, plan.count, [&](int64_t, auto next) {
      Worker worker(*this);
      for (int64_t chunk = next(); chunk >= 0; chunk = next()) {
        Turns::Turn turn(turns, chunk);
        for_each_tile(problem_, plan.begin(chunk), plan.end(chunk), tile_classes,
                      [&](const TileRange& range) { tile(worker, range); });
        if (dx_.data) turn.take([&] { worker.dx.add_to(dx_total_); });
      }
    });
    if (dx_.data) write_dx();
  }

 private:
  struct Worker {
    explicit Worker(Backward& b)
        : tile(b.problem_, b.problem_.tile_classes(kTileCentres), true),
          dx(b.dx_.data ? b.rows_.count : 0, b.stride_),
          dw((kTileCentres + kOutRows) * b.stride_),
          cos((kTileCentres + kDotClasses) * kLanes),
          nearest(kTileCentres * kLanes),
          class_weights(kTileCentres * kLanes),
          weights((kTileCentres + kOutRows) * kWeightStride),
          unused(b.stride_) {
      weights.zero();
      unused.zero();
    }
    ClassTile<T> tile;
    RowSums<T> dx;
    std::vector<Exclusion> excluded;  // of the current tile
    Aligned<T> dw;                    // [tile centres][stride]
    Aligned<T> cos;                   // [tile centres][16]
    Aligned<T> nearest;               // [tile classes][16] the largest of each class, where it has several centres
    Aligned<T> class_weights;         // [tile classes][16] likewise
    Aligned<T> weights;               // S: [tile centres][rows of the block]
    Aligned<T> unused;                // where the last group of six writes what nobody wants
  };

  // Rows of a block plus a group of six that may run over; not a power of two, which would map columns to one set.
  static constexpr int64_t kWeightStride = kBlockPanels * kLanes + kLanes;

  // Unit rows in row-major order, for dW's product.
  void unpack(int64_t p) {
    const T* panel = rows_.panel_at(p, depth_);
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const int64_t r = p * kLanes + lane;
      if (r >= rows_.count) continue;
      T* row = unit_rows_.get() + r * (stride_ + kLanes);
      for (int64_t d = 0; d < depth_; ++d) row[d] = panel[d * kLanes + lane];
      for (int64_t d = depth_; d < stride_; ++d) row[d] = T(0);
      unit_row_[r] = row;
    }
  }

  void tile(Worker& worker, const TileRange& range) {
    const bool everywhere = problem_.rule.dense_in_other_baskets();
    const int64_t row_first = everywhere ? 0 : rows_.begin[range.basket];
    const int64_t row_last = everywhere ? rows_.count : rows_.begin[range.basket + 1];
    const int64_t first_centre = range.first * problem_.subcenters;
    const int64_t count = (range.last - range.first) * problem_.subcenters;
    const auto [pair, pair_end] = pairs_between(pairs_, first_centre, first_centre + count);
    if (row_first == row_last && pair == pair_end) {
      for (int64_t c = 0; need_dw_ && c < count; ++c) {
        worker.unused.zero();  // the SGD step leaves its own numbers in the gradient that it is given
        deliver(first_centre + c, worker.unused.get());
      }
      worker.unused.zero();
      return;
    }
    worker.tile.load(range.first, range.last - range.first);
    exclusions_.collect(range.first, range.last, worker.excluded);
    if (need_dw_) std::memset(static_cast<void*>(worker.dw.get()), 0, sizeof(T) * static_cast<size_t>(count * stride_));
    const int64_t block_rows = kBlockPanels * kLanes;
    for (int64_t first = row_first / block_rows * block_rows; first < row_last; first += block_rows)
      dense_block(worker, range, first, std::max(first, row_first), std::min(first + block_rows, row_last));
    for (auto at = pair; at != pair_end; ++at) sparse(worker, first_centre, *at);
    if (need_dw_) write_dw(worker, first_centre);
  }

  // Rows [row_first, row_last) of the block that begins at `block` against the tile.
  void dense_block(Worker& worker, const TileRange& range, int64_t block, int64_t row_first, int64_t row_last) {
    const int64_t count = worker.tile.count();
    const bool several = problem_.subcenters > 1;
    for (int64_t p = row_first / kLanes; p * kLanes < row_last; ++p) {
      const int64_t panel_first = p * kLanes;
      const T* cos = worker.cos.get();
      if (stash_.holds(range.basket, range.last))
        cos = stash_.recall(range.basket, p, range.first);
      else
        worker.tile.cosines(micro_, rows_.panel_at(p, depth_), worker.cos.get());
      alignas(64) T limit[kLanes];
      dense_limits(problem_, rows_, guard_, range.basket, p, limit);
      if (several) {
        weigh_nearest(worker, range, p, cos, limit, worker.weights.get() + panel_first - block);
        continue;
      }
      micro_.admit(cos, count, limit, worker.cos.get());
      micro_.weights(worker.cos.get(), count, static_cast<T>(problem_.scale), &factor_[panel_first], &lse_[panel_first],
                     worker.tile.inv_norm(), worker.weights.get() + panel_first - block, kWeightStride);
    }
    for (const Exclusion& e : worker.excluded) {
      if (several || e.row < row_first || e.row >= row_last) continue;
      const int64_t c = e.cls - range.first;
      const T upstream = e.target ? in_.grad_cos_target[rows_.source[e.row]] : T(0);
      worker.weights[c * kWeightStride + e.row - block] = upstream * worker.tile.inv_norm()[c];
    }
    if (dx_.data) add_to_dx(worker, block, row_first, row_last);
    if (need_dw_) add_to_dw(worker, block, row_first, row_last);
  }

  // S of one panel where classes have several centres: what belongs to a class goes to its nearest.
  void weigh_nearest(Worker& worker, const TileRange& range, int64_t p, const T* centres, const T* limit, T* out) {
    const int64_t classes = worker.tile.classes(), first_row = p * kLanes;
    T* nearest = worker.nearest.get();
    T* weights = worker.class_weights.get();
    micro_.nearest(centres, classes, problem_.subcenters, nearest);
    micro_.admit(nearest, classes, limit, weights);
    micro_.weights(weights, classes, static_cast<T>(problem_.scale), &factor_[first_row], &lse_[first_row],
                   ones_.data(), weights, kLanes);
    for (const Exclusion& e : worker.excluded)
      if (e.row >= first_row && e.row < first_row + kLanes)
        weights[(e.cls - range.first) * kLanes + e.row - first_row] =
            e.target ? in_.grad_cos_target[rows_.source[e.row]] : T(0);
    micro_.to_nearest(centres, nearest, weights, classes, problem_.subcenters, worker.tile.inv_norm(), out,
                      kWeightStride);
  }

  void add_to_dx(Worker& worker, int64_t block, int64_t row_first, int64_t row_last) {
    for (int64_t r = row_first; r < row_last; r += kOutRows) {
      T* out[kOutRows];
      for (int64_t i = 0; i < kOutRows; ++i) out[i] = r + i < row_last ? worker.dx.touch(r + i) : worker.unused.get();
      micro_.accumulate(worker.weights.get() + r - block, 1, kWeightStride, worker.tile.rows(), worker.tile.count(),
                        stride_, out);
    }
    worker.unused.zero();
  }

  void add_to_dw(Worker& worker, int64_t block, int64_t row_first, int64_t row_last) {
    for (int64_t c = 0; c < worker.tile.count(); c += kOutRows) {
      T* out[kOutRows];
      for (int64_t i = 0; i < kOutRows; ++i)
        out[i] = c + i < worker.tile.count() ? worker.dw.get() + (c + i) * stride_ : worker.unused.get();
      micro_.accumulate(worker.weights.get() + c * kWeightStride + row_first - block, kWeightStride, 1,
                        unit_row_.data() + row_first, row_last - row_first, stride_, out);
    }
    worker.unused.zero();
  }

  void sparse(Worker& worker, int64_t first_centre, const MinedPair<T>& pair) {
    const int64_t c = pair.centre - first_centre;
    const T z = static_cast<T>(problem_.scale) * pair.cos - lse_[pair.row];
    const T weight = factor_[pair.row] * std::exp(z) * worker.tile.inv_norm()[c];
    if (dx_.data) micro_.add_scaled(worker.dx.touch(pair.row), worker.tile.rows()[c], weight, depth_);
    if (need_dw_) micro_.add_scaled(worker.dw.get() + c * stride_, unit_row_[pair.row], weight, depth_);
  }

  void write_dw(Worker& worker, int64_t first_centre) {
    if (dw_in_place_) {
      const bool stream = dw_.rows * dw_.cols >= kStreamBytes / static_cast<int64_t>(sizeof(T));
      micro_.finish_rows(worker.dw.get(), stride_, worker.tile.rows(), worker.tile.inv_norm(), worker.tile.count(),
                         depth_, static_cast<T*>(dw_.data) + first_centre * dw_.row_stride, dw_.row_stride, stream);
      return;
    }
    for (int64_t c = 0; c < worker.tile.count(); ++c) {
      T* gradient = worker.dw.get() + c * stride_;
      micro_.remove_component(gradient, worker.tile.rows()[c], worker.tile.inv_norm()[c], depth_);
      deliver(first_centre + c, gradient);
    }
  }

  // The finished gradient of one centre: stored, or spent at once. Nobody reads this centre any more: all that this
  // step needs of it was in this tile.
  void deliver(int64_t centre, T* gradient) {
    if (!sgd_)
      store_row(dw_, centre, gradient);
    else
      SgdRows<T>(micro_, *sgd_).update(problem_.row_of_centre(centre), gradient);
  }

  void write_dx() {
    Aligned<T> zero(stride_);
    zero.zero();
    for (int64_t i = 0; i < dx_.rows; ++i)
      if (problem_.ignored(i)) store_row(dx_, i, zero.get());
    for_each_task(parallel_, rows_.count, [&](int64_t r) {
      T* gradient = dx_total_.touch(r);
      micro_.remove_component(gradient, unit_row_[r], T(1), depth_);
      // A row that met a NaN in a class it only looked at has no dense term from it, and is NaN all the same.
      const T scale = std::isnan(lse_[r]) ? std::numeric_limits<T>::quiet_NaN() : rows_.inv_norm[r];
      for (int64_t d = 0; d < depth_; ++d) gradient[d] *= scale;
      store_row(dx_, rows_.source[r], gradient);
    });
  }

  const Problem& problem_;
  const Parallel& parallel_;
  const BackwardIn<T>& in_;
  const OutMatrix& dx_;
  const OutMatrix& dw_;
  const SgdStep* sgd_;
  const bool need_dw_;
  const bool dw_in_place_;  // of the compute type and with contiguous rows
  const MicroKernels<T>& micro_ = micro_kernels<T>();
  const int64_t depth_;
  const int64_t stride_;  // depth rounded up to whole panels' width
  Rows<T> rows_;
  Exclusions exclusions_;
  std::vector<MinedPair<T>> pairs_;
  Stash<T> stash_;
  Aligned<T> unit_rows_;            // [count][stride + 16]: padded, or equal columns would fall into one cache set
  std::vector<const T*> unit_row_;  // [count]
  std::vector<T> factor_;           // upstream gradient of lse times scale, 0 in unused lanes
  std::vector<T> lse_;              // +inf in unused lanes: exp gives 0
  std::vector<T> cos_target_;
  std::vector<T> guard_;
  RowSums<T> dx_total_;
  const std::vector<T> ones_ = std::vector<T>(kTileCentres, T(1));
};

}  // namespace

template <class T>
void cos_lse_backward(const Problem& problem, const Parallel& parallel, const BackwardIn<T>& in, const OutMatrix& dx,
                      const OutMatrix& dw, const SgdStep* sgd) {
  Backward<T>(problem, parallel, in, dx, dw, sgd).run();
}

template void cos_lse_backward(const Problem&, const Parallel&, const BackwardIn<float>&, const OutMatrix&,
                               const OutMatrix&, const SgdStep*);
template void cos_lse_backward(const Problem&, const Parallel&, const BackwardIn<double>&, const OutMatrix&,
                               const OutMatrix&, const SgdStep*);

}  // namespace bbs::cpu
