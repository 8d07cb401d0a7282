// The inner product of one tile_k step, in four arithmetics behind one interface:
//   X, W             element types in memory
//   Rounded          the type whose values W's norm is taken of
//   kTileK           elements along D of a step; kXBytes, kWBytes: their bytes in a row
//   kStages          of the ring
//   step(acc, x_tile, w_tile, row, col)   acc[i][j][.] += X[row + 16 i ...] . W[col + 8 j ...]
// acc[i][j] is an accumulator of mma.m16n8. Every element sums over D in the same order, wherever it lies in the tile.
#pragma once

#include "element.cuh"
#include "operand_tile.cuh"
#include "ptx.cuh"

namespace bbs::cuda {

// What a lane gives ldmatrix, for operands with 64-byte rows. `row` and `col` are multiples of 8, and eight rows
// further down the chunks are permuted alike, so that one offset per lane serves all fragments.
struct MatrixAddress {
  // Rows row .. row+15, chunks chunk, chunk+1, in the order of an A fragment.
  __device__ static uint32_t a(uint32_t tile, int row, int chunk) {
    const int lane = threadIdx.x % 32;
    return tile + row * 64 + OperandTile<64>::offset(lane % 16, chunk + lane / 16);
  }
  // Columns col .. col+15: two B fragments one after the other.
  __device__ static uint32_t b(uint32_t tile, int col, int chunk) {
    const int lane = threadIdx.x % 32;
    return tile + col * 64 + OperandTile<64>::offset(lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2);
  }
};

// bf16 and fp16 on tensor cores.
template <class T>
struct Mma16 {
  using X = T;
  using W = T;
  using Rounded = T;
  static constexpr int kTileK = 32, kXBytes = 64, kWBytes = 64, kStages = 4;

  template <int kI, int kJ>
  __device__ static void step(float (&acc)[kI][kJ][4], uint32_t x_tile, uint32_t w_tile, int row, int col) {
#pragma unroll
    for (int chunk = 0; chunk < 4; chunk += 2) {
      uint32_t a[kI][4], b[kJ / 2][4];
#pragma unroll
      for (int i = 0; i < kI; ++i) ldmatrix_x4(a[i], MatrixAddress::a(x_tile, row + 16 * i, chunk));
#pragma unroll
      for (int j = 0; j < kJ / 2; ++j) ldmatrix_x4(b[j], MatrixAddress::b(w_tile, col + 16 * j, chunk));
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int j = 0; j < kJ; ++j) Element<T>::mma(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
  __device__ static float squares(uint4 chunk) { return chunk_squares<T>(chunk); }
};

// 16-bit rows against fp32 centres, rounded on the way from shared memory to the fragments.
template <class T>
struct MmaMixed {
  using X = T;
  using W = float;
  using Rounded = T;
  static constexpr int kTileK = 32, kXBytes = 64, kWBytes = 128, kStages = 3;

  template <int kI, int kJ>
  __device__ static void step(float (&acc)[kI][kJ][4], uint32_t x_tile, uint32_t w_tile, int row, int col) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int chunk = 0; chunk < 4; chunk += 2) {
      uint32_t a[kI][4], b[kJ][2];
#pragma unroll
      for (int i = 0; i < kI; ++i) ldmatrix_x4(a[i], MatrixAddress::a(x_tile, row + 16 * i, chunk));
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half) {  // elements 16 * (chunk / 2) + 8 * half + 2 * (lane % 4) and the next
          const int at = 2 * (chunk + half) + lane % 4 / 2;
          const uint32_t from = w_tile + (col + 8 * j) * 128 + OperandTile<128>::offset(lane / 4, at) + lane % 2 * 8;
          b[j][half] = Element<T>::pack(load_shared_f2(from));
        }
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int j = 0; j < kJ; ++j) Element<T>::mma(acc[i][j], a[i], b[j][0], b[j][1]);
    }
  }
  __device__ static float squares(uint4 chunk) {
    const float2 low = Element<T>::unpack(Element<T>::pack({__uint_as_float(chunk.x), __uint_as_float(chunk.y)}));
    const float2 high = Element<T>::unpack(Element<T>::pack({__uint_as_float(chunk.z), __uint_as_float(chunk.w)}));
    return fmaf(low.x, low.x, low.y * low.y) + fmaf(high.x, high.x, high.y * high.y);
  }
};

// fp32 rounded to tf32 on tensor cores; an 8 x 16-byte matrix is 8 x 4 floats, which is just a tf32 fragment.
struct MmaTf32 {
  using X = float;
  using W = float;
  using Rounded = float;
  static constexpr int kTileK = 16, kXBytes = 64, kWBytes = 64, kStages = 4;

  template <int kI, int kJ>
  __device__ static void step(float (&acc)[kI][kJ][4], uint32_t x_tile, uint32_t w_tile, int row, int col) {
#pragma unroll
    for (int chunk = 0; chunk < 4; chunk += 2) {
      uint32_t a[kI][4], b[kJ / 2][4];
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        ldmatrix_x4(a[i], MatrixAddress::a(x_tile, row + 16 * i, chunk));
        round(a[i]);
      }
#pragma unroll
      for (int j = 0; j < kJ / 2; ++j) {
        ldmatrix_x4(b[j], MatrixAddress::b(w_tile, col + 16 * j, chunk));
        round(b[j]);
      }
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int j = 0; j < kJ; ++j) mma(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
  __device__ static float squares(uint4 chunk) { return chunk_squares<float>(chunk); }

 private:
  // Half an ulp of tf32; the tensor cores drop what is below. cvt.rna does the same in three instructions, because it
  // keeps NaN, which here only the norms have to.
  __device__ static void round(uint32_t (&r)[4]) {
#pragma unroll
    for (uint32_t& v : r) v += 0x1000u;
  }
  __device__ static void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

// Exact fp32 multiply-adds in the ownership of the tensor-core accumulators. A step's 16 products are summed by
// themselves before they are added: one chain of D links would lose three bits at D = 512.
struct Simt {
  using X = float;
  using W = float;
  using Rounded = float;
  static constexpr int kTileK = 16, kXBytes = 64, kWBytes = 64, kStages = 4;

  template <int kI, int kJ>
  __device__ static void step(float (&acc)[kI][kJ][4], uint32_t x_tile, uint32_t w_tile, int row, int col) {
    const int lane = threadIdx.x % 32;
    float part[kI][kJ][4] = {};
#pragma unroll 1  // unrolled, the loads of the next chunk come so early that registers spill
    for (int chunk = 0; chunk < 4; ++chunk) {
      float4 w[kJ][2];
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          w[j][e] = load_shared_f4(w_tile + OperandTile<64>::offset(col + 8 * j + lane % 4 * 2 + e, chunk));
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float4 x = load_shared_f4(x_tile + OperandTile<64>::offset(row + 16 * i + 8 * h + lane / 4, chunk));
#pragma unroll
          for (int j = 0; j < kJ; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              float& to = part[i][j][2 * h + e];
              to = fmaf(x.x, w[j][e].x, to);
              to = fmaf(x.y, w[j][e].y, to);
              to = fmaf(x.z, w[j][e].z, to);
              to = fmaf(x.w, w[j][e].w, to);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][j][e] += part[i][j][e];
  }
  __device__ static float squares(uint4 chunk) { return chunk_squares<float>(chunk); }
};

}  // namespace bbs::cuda
