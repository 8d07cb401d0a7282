// The main loop: tiles of 128 classes stream past a block's 128 rows through a ring of stages. Copies run ahead
// across tile boundaries, so the ring stays full while an epilogue works.
//
//   MainLoop<Product, Rows> loop(ring, x, w, depth);    Product: products.cuh; Rows: AsyncRows or AnyRows
//   loop.start(x_index, source)                         x_index(r): row of x for r in [0, 128), or -1
//   while there is a tile: loop.tile<kNorms>(acc, squares, row, col, source); ...epilogue...
//
// `source` names the centres of the tiles to copy, and runs ahead of the epilogue's own cursor: done(), index(r) (row
// of w, or -1), advance(). acc[kI][kJ][4] must be zero on entry: rows row + 16 i, classes col + 8 j of the block's
// tile. With kNorms, `squares` of thread n is the sum of squares of class n / 2, the same in both threads of a pair.
// All threads call everything. Between the return of tile() and its next call nothing in the ring may be touched; after
// finish() the ring's memory is free.
#pragma once

#include "loaders.cuh"
#include "products.cuh"
#include "shape.h"

namespace bbs::cuda {

template <class Product, template <class, int> class Rows>
class MainLoop {
 public:
  using XTile = OperandTile<Product::kXBytes>;
  using WTile = OperandTile<Product::kWBytes>;
  static constexpr int kXStage = kTileM * Product::kXBytes;
  static constexpr int kStage = kXStage + kTileN * Product::kWBytes;
  static constexpr int kStages = Product::kStages;
  static constexpr int kRingBytes = kStages * kStage;

  __device__ MainLoop(void* ring, const Matrix& x, const Matrix& w, int depth)
      : ring_(shared_address(ring)), x_(x), w_(w), depth_(depth) {}

  template <class Index, class Source>
  __device__ void start(Index&& x_index, Source& source) {
    x_rows_.bind(x_, x_index);
    ahead_ = 0;
    fill_ = 0;
    use_ = 0;
    bind(source);
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s) copy_ahead(source);
  }

  template <bool kNorms, int kI, int kJ, class Source>
  __device__ void tile(float (&acc)[kI][kJ][4], float& squares, int row, int col, Source& source) {
    squares = 0.0f;
    for (int d = 0; d < depth_; d += Product::kTileK) {
      cp_async_wait<kStages - 2>();
      __syncthreads();  // this step's copies are seen by all, and the stage of the step before is free
      copy_ahead(source);
      const uint32_t stage = ring_ + use_ * kStage;
      Product::template step<kI, kJ>(acc, stage, stage + kXStage, row, col);
      if (kNorms) squares += step_squares(stage + kXStage);
      use_ = use_ + 1 == kStages ? 0 : use_ + 1;
    }
    if (kNorms) squares += __shfl_xor_sync(0xffffffffu, squares, 1);
  }

  __device__ void finish() {
    cp_async_wait<0>();
    __syncthreads();
  }

 private:
  template <class Source>
  __device__ void bind(Source& source) {
    if (!source.done()) w_rows_.bind(w_, [&](int r) { return source.index(r); });
  }

  // One group per call, empty at the end, so that wait_group counts steps.
  template <class Source>
  __device__ void copy_ahead(Source& source) {
    if (!source.done()) {
      const uint32_t stage = ring_ + fill_ * kStage;
      x_rows_.copy(stage, ahead_, depth_);
      w_rows_.copy(stage + kXStage, ahead_, depth_);
      ahead_ += Product::kTileK;
      if (ahead_ >= depth_) {
        ahead_ = 0;
        source.advance();
        bind(source);
      }
    }
    cp_async_commit();
    fill_ = fill_ + 1 == kStages ? 0 : fill_ + 1;
  }

  // Half a row each for two threads; a step's squares are summed by themselves first, to keep the chains short.
  __device__ static float step_squares(uint32_t w_tile) {
    constexpr int kMine = WTile::kChunks / 2;
    const int cls = static_cast<int>(threadIdx.x) / 2;
    float sum = 0.0f;
#pragma unroll
    for (int c = 0; c < kMine; ++c) {
      const int half = static_cast<int>(threadIdx.x) % 2;
      const int chunk = kMine == 2 ? half * kMine + c : 2 * c + half;  // whichever is free of bank conflicts
      sum += Product::squares(load_shared_u4(w_tile + WTile::offset(cls, chunk)));
    }
    return sum;
  }

  uint32_t ring_;
  Matrix x_, w_;
  int depth_;
  Rows<typename Product::X, Product::kXBytes> x_rows_;
  Rows<typename Product::W, Product::kWBytes> w_rows_;
  int ahead_;  // position along D of the next copy
  int fill_;   // stage of the next copy
  int use_;    // stage of the next product
};

}  // namespace bbs::cuda
