// Element types in shared memory and registers. 16-bit values travel as pairs in one register, the lower index in the
// lower half; Bf16 and Fp16 are names for those bits.
#pragma once

#include <cstdint>

namespace bbs::cuda {

struct Bf16 {
  uint16_t bits;
};
struct Fp16 {
  uint16_t bits;
};

template <class T>
struct Element;

template <>
struct Element<Bf16> {
  __device__ static float2 unpack(uint32_t pair) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
  }
  __device__ static uint32_t pack(float2 v) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(v.y), "f"(v.x));
    return pair;
  }
  __device__ static void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
  __device__ static float load(const Bf16* p) { return __uint_as_float(static_cast<uint32_t>(p->bits) << 16); }
};

template <>
struct Element<Fp16> {
  __device__ static float2 unpack(uint32_t pair) {
    float2 v;
    asm("{\n .reg .b16 lo, hi;\n mov.b32 {lo, hi}, %2;\n cvt.f32.f16 %0, lo;\n cvt.f32.f16 %1, hi;\n}"
        : "=f"(v.x), "=f"(v.y)
        : "r"(pair));
    return v;
  }
  __device__ static uint32_t pack(float2 v) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(v.y), "f"(v.x));
    return pair;
  }
  __device__ static void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
  __device__ static float load(const Fp16* p) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(p->bits));
    return v;
  }
};

template <>
struct Element<float> {
  __device__ static float load(const float* p) { return *p; }
};

// Sum of squares of one 16-byte chunk of T, in fp32.
template <class T>
__device__ inline float chunk_squares(uint4 chunk) {
  const uint32_t pairs[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
  float even = 0.0f, odd = 0.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 v = Element<T>::unpack(pairs[i]);
    even = fmaf(v.x, v.x, even);
    odd = fmaf(v.y, v.y, odd);
  }
  return even + odd;
}
template <>
__device__ inline float chunk_squares<float>(uint4 chunk) {
  const float a = __uint_as_float(chunk.x), b = __uint_as_float(chunk.y);
  const float c = __uint_as_float(chunk.z), d = __uint_as_float(chunk.w);
  return fmaf(a, a, b * b) + fmaf(c, c, d * d);
}

// 1 / norm; 0 below 1e-12 (cosine and gradient are then exactly 0); NaN when the squared norm is not finite.
__device__ inline float inverse_norm(float squares) {
  if (!(squares <= 3.402823466e38f)) return __int_as_float(0x7fffffff);
  return squares < 1e-24f ? 0.0f : 1.0f / sqrtf(squares);
}

}  // namespace bbs::cuda
