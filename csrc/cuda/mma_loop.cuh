// Tensor-core main loop of a 128 x 128 tile: four warps of 64 x 64, each 4 x 8 mma of m16n8. The interface is shared
// with simt_loop.cuh: load fragments, multiply, then ask for a thread's rows, columns, products and squared norms.
// The squared norms of the classes come from the same registers as the products. The two warps that hold the same
// classes share that work: they take their pairs of 8 classes in opposite order, and each sums the even ones.
#pragma once

#include "tile_layout.cuh"

namespace bbs::cuda {

template <class Types, bool with_norms>
struct MmaLoop {
  using Op = typename Types::Op;
  using Layout = typename Types::WLayout;
  static constexpr bool kRounds = Same<Op, Tf32>::value;
  static_assert(with_norms || !kRounds, "the norms keep the NaN that rounding loses");
  static constexpr int kWarpRows = 2, kWarpColumns = 2;
  static constexpr int kM = 4, kN = 8;           // mma tiles of a warp
  static constexpr int kThreadRows = 2 * kM;     // rows of the tile of which a thread holds products
  static constexpr int kThreadColumns = 2 * kN;  // and classes
  static constexpr int kRowLanes = 4;            // lanes of a warp that share a row, differing in the lowest bits
  static constexpr int kAdjacent = 2;            // columns that lie side by side, from a j that is a multiple of it

  struct Fragments {
    uint32_t a[kM][4];
    uint32_t b[kN][2];
  };

  float acc[kM][kN][4];
  float squares[kN / 2];
  int warp_m, warp_n, lane;
  uint32_t x_lane, w_lane;  // this lane's offset in a tile; what else enters an address is a constant, added or XORed

  __device__ __forceinline__ MmaLoop() {
    const int warp = threadIdx.x / 32;
    warp_m = warp / kWarpColumns;
    warp_n = warp % kWarpColumns;
    lane = threadIdx.x % 32;
    x_lane = NarrowRows::offset(warp_m * 64 + (lane & 15), lane >> 4);
    // The class of this lane's matrix of an ldmatrix, or of its own element, among the first 16 of the warp.
    const int matrix = warp_n * 64 + (((lane >> 4) ^ warp_m) * 8), own = warp_n * 64 + warp_m * 8 + (lane >> 2);
    const int half = (lane >> 3) & 1;
    if constexpr (!Types::kTransposed)
      w_lane = Layout::offset(matrix + (lane & 7), half);
    else if constexpr (Op::kBytes == 2)
      w_lane = Layout::offset(half * 8 + (lane & 7), matrix / 8);
    else
      w_lane = Layout::offset(lane & 3, own / 4) + own % 4 * 4;
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int q = 0; q < 4; ++q) acc[m][n][q] = 0.0f;
#pragma unroll
    for (int n = 0; n < kN / 2; ++n) squares[n] = 0.0f;
  }

  __device__ __forceinline__ void load(Fragments& f, uint32_t x_tile, uint32_t w_tile, int step) const {
#pragma unroll
    for (int m = 0; m < kM; ++m) ldmatrix4(f.a[m], x_tile + (x_lane ^ (step * 32)) + m * 16 * NarrowRows::kRow);
#pragma unroll
    for (int n = 0; n < kN; n += 2) load_pair(f.b[n], f.b[n + 1], w_tile, n, step);
    if constexpr (kRounds) {
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int r = 0; r < 4; ++r) f.a[m][r] = Tf32::round_upper(f.a[m][r]);
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int r = 0; r < 2; ++r) f.b[n][r] = Tf32::round_upper(f.b[n][r]);
    }
  }

  __device__ __forceinline__ void multiply(const Fragments& f) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n) Op::mma(acc[m][n], f.a[m], f.b[n]);
    if constexpr (with_norms) {
#pragma unroll
      for (int n = 0; n < kN; n += 2) add_squares<Op>(squares[n / 2], f.b[n]);
    }
  }

  // Who this thread is, found again: what follows from it is then not kept in registers through the products.
  __device__ __forceinline__ void find_thread() {
    const int t = thread_again(), warp = t / 32;
    warp_m = warp / kWarpColumns;
    warp_n = warp % kWarpColumns;
    lane = t % 32;
  }
  __device__ __forceinline__ int row(int i) const { return warp_m * 64 + (i >> 1) * 16 + (i & 1) * 8 + (lane >> 2); }
  __device__ __forceinline__ int column(int j) const {
    return warp_n * 64 + (((j >> 1) ^ warp_m) * 8) + (lane & 3) * 2 + (j & 1);
  }
  __device__ __forceinline__ float& product(int i, int j) { return acc[i >> 1][j >> 1][(i & 1) * 2 + (j & 1)]; }
  __device__ __forceinline__ int column_group() const { return warp_n; }

  // Calls put(column, squared norm) once per class of the tile, over all threads.
  template <class Put>
  __device__ __forceinline__ void norms(Put put) const {
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      float sum = squares[n / 2];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if ((lane & 3) == 0) put(warp_n * 64 + ((n ^ warp_m) * 8) + (lane >> 2), sum);
    }
  }

 private:
  // Fragments of the classes 8 n .. 8 n + 15; b0 has the lower eight, or in the second row of warps the upper eight.
  __device__ __forceinline__ void load_pair(uint32_t (&b0)[2], uint32_t (&b1)[2], uint32_t w_tile, int n,
                                            int step) const {
    if constexpr (Types::kTransposed && Op::kBytes == 4) {  // ldmatrix transposes 16-bit elements only
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t at = w_tile + (step * 2 + half) * 4 * Layout::kRow;
        b0[half] = __float_as_uint(load_shared_float(at + (w_lane ^ (n * 32))));
        b1[half] = __float_as_uint(load_shared_float(at + (w_lane ^ ((n + 1) * 32))));
      }
    } else {
      uint32_t r[4];
      if constexpr (Types::kTransposed)
        ldmatrix4_transposed(r, w_tile + (w_lane ^ (n * 16)) + step * 16 * Layout::kRow);
      else
        ldmatrix4(r, w_tile + (w_lane ^ (step * 32)) + n * 8 * Layout::kRow);
      b0[0] = r[0], b0[1] = r[1], b1[0] = r[2], b1[1] = r[3];
    }
  }
};

}  // namespace bbs::cuda
