// The operand types of the main loops: how 32 bits of an operand become numbers, and the mma that multiplies them.
// Every type sees a k-step of 32 bytes: 16 elements of 16 bits or 8 of 32 bits, so that layouts and ldmatrix are the
// same for all.
//
// kOne: what a coefficient p = 1 is multiplied as. Over many classes most p are tiny, and fp16 has nothing below 6e-8:
// there they are scaled by 2^14, which leaves room for four times the largest p, and the factors that follow undo it.
#pragma once

#include "ptx.cuh"

namespace bbs::cuda {

struct Bf16 {
  static constexpr int kBytes = 2;
  static constexpr bool kTensorCore = true;
  static constexpr float kOne = 1.0f;

  static __device__ __forceinline__ float low(uint32_t pair) { return __uint_as_float(pair << 16); }
  static __device__ __forceinline__ float high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct Fp16 {
  static constexpr int kBytes = 2;
  static constexpr bool kTensorCore = true;
  static constexpr float kOne = 16384.0f;

  static __device__ __forceinline__ float low(uint32_t pair) {
    float r;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l;}" : "=f"(r) : "r"(pair));
    return r;
  }
  static __device__ __forceinline__ float high(uint32_t pair) {
    float r;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h;}" : "=f"(r) : "r"(pair));
    return r;
  }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct Tf32 {
  static constexpr int kBytes = 4;
  static constexpr bool kTensorCore = true;
  static constexpr float kOne = 1.0f;
  static constexpr uint32_t kHalf = 0x1000;  // of the last bit that is kept

  // To nearest. The tensor core ignores the low 13 bits: without rounding it would truncate, a bias towards zero.
  static __device__ __forceinline__ uint32_t round(uint32_t bits) {
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(bits)));
    return r;
  }
  // The same for the tensor core alone, by one addition: before sm_100 a conversion takes as long as a product. The low
  // bits stay, and a few NaN become numbers; the norm of their row or class is NaN, by which a cosine is multiplied.
  static __device__ __forceinline__ uint32_t round_upper(uint32_t bits) { return bits + kHalf; }
  static __device__ __forceinline__ float rounded(uint32_t upper) { return __uint_as_float(upper & 0xffffe000u); }
  static __device__ __forceinline__ float original(uint32_t upper) { return __uint_as_float(upper - kHalf); }
  static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

// Exact fp32 on the ordinary cores.
struct Fp32 {
  static constexpr int kBytes = 4;
  static constexpr bool kTensorCore = false;
  static constexpr float kOne = 1.0f;
};

// A number as the main loop multiplies it.
template <class Op>
__device__ __forceinline__ float round_operand(float v) {
  if constexpr (Op::kBytes == 2)
    return Op::low(Op::pack(v, 0.0f));
  else if constexpr (Op::kTensorCore)
    return __uint_as_float(Op::round(__float_as_uint(v)));
  else
    return v;
}

template <class T, class U>
struct Same {
  static constexpr bool value = false;
};
template <class T>
struct Same<T, T> {
  static constexpr bool value = true;
};

// Adds the squares of the numbers in two 32-bit registers of a fragment: the norms come from the values multiplied.
// Those of tf32 are what round_upper made, and a NaN stays one.
template <class Op>
__device__ __forceinline__ void add_squares(float& sum, const uint32_t (&b)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if constexpr (Op::kBytes == 2) {
      const float low = Op::low(b[r]), high = Op::high(b[r]);
      sum = __fmaf_rn(low, low, sum);
      sum = __fmaf_rn(high, high, sum);
    } else {
      const float v = Op::rounded(b[r]);
      sum = __fmaf_rn(v, v, sum);
      sum = __fmaf_rn(Op::original(b[r]), 0.0f, sum);
    }
  }
}

// NaN where the squared norm is not finite, 0 where the norm is below 1e-12, else its inverse, to about one ulp: the
// fast approximation and one Newton step. The exactly rounded functions are calls, and calls cost the sweep registers.
__device__ __forceinline__ float inverse_norm(float squares) {
  const float guess = rsqrt_approx(squares);
  const float miss = __fmaf_rn(-__fmul_rn(squares, guess), guess, 1.0f);
  const float inverse = __fmaf_rn(__fmul_rn(0.5f, guess), miss, guess);
  if (!(squares <= 3.402823466e38f)) return __int_as_float(0x7fc00000);
  return squares < 1e-24f ? 0.0f : inverse;
}

// The one way a cosine is made from a dot product. Intrinsics, so that nothing is contracted and every kernel that
// meets a pair gets the same bits; the sum turns -0 into +0, whose key is larger.
__device__ __forceinline__ float cosine(float dot, float x_inverse, float w_inverse) {
  return __fadd_rn(__fmul_rn(__fmul_rn(dot, x_inverse), w_inverse), 0.0f);
}

}  // namespace bbs::cuda
