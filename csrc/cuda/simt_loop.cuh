// Exact fp32 main loop of the same shape as mma_loop.cuh: 128 threads of 16 rows x 8 classes, products summed by fma
// in ascending k, so that a pair's bits depend on its own numbers only. A thread's classes are those that reads of 16
// bytes bring: every 16th where a chunk is four k of a class, twice four neighbours where it is four classes of a k.
#pragma once

#include "tile_layout.cuh"

namespace bbs::cuda {

template <class Types, bool with_norms>
struct SimtLoop {
  static constexpr int kWarpColumns = 1;
  static constexpr int kThreadRows = 16, kThreadColumns = 8;
  static constexpr int kRowLanes = 16;
  static constexpr int kAdjacent = Types::kTransposed ? 4 : 1;

  float acc[kThreadRows][kThreadColumns];
  float squares[4];  // of class threadIdx.x, k by k modulo 4
  int thread_m, thread_n;

  __device__ __forceinline__ SimtLoop() : thread_m(threadIdx.x / 16), thread_n(threadIdx.x % 16) {}

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) acc[i][j] = 0.0f;
#pragma unroll
    for (int e = 0; e < 4; ++e) squares[e] = 0.0f;
  }

  __device__ __forceinline__ void find_thread() {
    const int t = thread_again();
    thread_m = t / 16;
    thread_n = t % 16;
  }
  __device__ __forceinline__ int row(int i) const { return thread_m + i * 8; }
  __device__ __forceinline__ int column(int j) const {
    return Types::kTransposed ? thread_n * 4 + j / 4 * 64 + j % 4 : thread_n + j * 16;
  }
  __device__ __forceinline__ float& product(int i, int j) { return acc[i][j]; }
  __device__ __forceinline__ int column_group() const { return 0; }

  // Four k at a time of one k-tile.
  __device__ __forceinline__ void multiply(uint32_t x_tile, uint32_t w_tile, int chunk) {
    float4 b[kThreadColumns];
    load_classes(b, w_tile, chunk);
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      const float4 a = load_shared_float4(x_tile + NarrowRows::offset(row(i), chunk));
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) acc[i][j] = dot4(a, b[j], acc[i][j]);
    }
    if constexpr (with_norms) add_squares4(squares, own_class(w_tile, chunk));
  }

  static __device__ __forceinline__ float dot4(float4 a, float4 b, float sum) {
    sum = __fmaf_rn(a.x, b.x, sum);
    sum = __fmaf_rn(a.y, b.y, sum);
    sum = __fmaf_rn(a.z, b.z, sum);
    return __fmaf_rn(a.w, b.w, sum);
  }
  static __device__ __forceinline__ void add_squares4(float (&s)[4], float4 v) {
    s[0] = __fmaf_rn(v.x, v.x, s[0]);
    s[1] = __fmaf_rn(v.y, v.y, s[1]);
    s[2] = __fmaf_rn(v.z, v.z, s[2]);
    s[3] = __fmaf_rn(v.w, v.w, s[3]);
  }
  static __device__ __forceinline__ float squared_norm(const float (&s)[4]) { return (s[0] + s[1]) + (s[2] + s[3]); }

  template <class Put>
  __device__ __forceinline__ void norms(Put put) const {
    put(threadIdx.x, squared_norm(squares));
  }

 private:
  using Layout = typename Types::WLayout;

  // Four k of each of the thread's classes.
  __device__ __forceinline__ void load_classes(float4 (&b)[kThreadColumns], uint32_t w_tile, int chunk) const {
    if constexpr (Types::kTransposed) {
      w_tile += chunk * (4 * Layout::kRow);
#pragma unroll
      for (int j = 0; j < kThreadColumns; j += 4) {
        float4 k[4];  // of four classes each
#pragma unroll
        for (int e = 0; e < 4; ++e) k[e] = load_shared_float4(w_tile + Layout::offset(e, thread_n) + j * 64);
        b[j] = make_float4(k[0].x, k[1].x, k[2].x, k[3].x);
        b[j + 1] = make_float4(k[0].y, k[1].y, k[2].y, k[3].y);
        b[j + 2] = make_float4(k[0].z, k[1].z, k[2].z, k[3].z);
        b[j + 3] = make_float4(k[0].w, k[1].w, k[2].w, k[3].w);
      }
    } else {
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) b[j] = load_shared_float4(w_tile + Layout::offset(column(j), chunk));
    }
  }

  // Four k of the class whose squared norm is this thread's.
  static __device__ __forceinline__ float4 own_class(uint32_t w_tile, int chunk) {
    const int own = threadIdx.x;
    if constexpr (Types::kTransposed) {
      float v[4];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        v[e] = load_shared_float(w_tile + Layout::offset(chunk * 4 + e, own / 4) + own % 4 * 4);
      return make_float4(v[0], v[1], v[2], v[3]);
    } else {
      return load_shared_float4(w_tile + Layout::offset(own, chunk));
    }
  }
};

}  // namespace bbs::cuda
