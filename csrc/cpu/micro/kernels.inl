// Bodies of micro/kernels.h in gcc/clang vector extensions. Included once per instruction set, with BBS_ISA naming it;
// everything lives in an unnamed namespace and calls no inline function of the standard library, so that the linker
// can never pick a copy compiled for a newer processor.
#include "kernels.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifndef BBS_ISA
#error "define BBS_ISA before including kernels.inl"
#endif

namespace bbs::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Vec;
template <>
struct Vec<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t mask __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Vec<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t mask __attribute__((vector_size(kVectorBytes)));
};

template <class T>
using vec = typename Vec<T>::type;
template <class T>
constexpr int kWidth = kVectorBytes / static_cast<int>(sizeof(T));
template <class T>
constexpr int kVecs = kLanes / kWidth<T>;  // vectors per panel row
static_assert(kLanes % kWidth<float> == 0 && kLanes % kWidth<double> == 0, "a panel row is whole vectors");

template <class T>
inline vec<T> load(const T* p) {
  vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline void store(T* p, vec<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}
template <class T>
inline vec<T> broadcast(T value) {
  return value - vec<T>{};  // value + 0 would turn -0 into +0
}

// exp(z) for z <= 0 or slightly above. fp32: z = n*ln2 + r with |r| <= ln2/2, a polynomial fitted for the relative
// error (3e-9 before rounding, 6.4e-8 after), and 2^n through the exponent bits. NaN stays NaN, -inf gives 0.
inline vec<float> exp_vec(vec<float> z) {
  typedef Vec<float>::mask mask;
  const vec<float> clamped = z < -87.0f ? broadcast(-87.0f) : (z > 88.0f ? broadcast(88.0f) : z);
  const float magic = 0x1.8p23f;  // adding it rounds to an integer in the low mantissa bits
  const vec<float> shifted = clamped * 0x1.715476p0f + magic;
  const vec<float> n = shifted - magic;
  const vec<float> r = (clamped - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  vec<float> q = r * 0x1.6a2434p-10f + 0x1.1239e2p-7f;
  q = q * r + 0x1.5558f2p-5f;
  q = q * r + 0x1.555492p-3f;
  q = q * r + 0x1.fffffcp-2f;
  const vec<float> p = (q * (r * r) + r) + 1.0f;
  mask bits;
  mask exponent;
  __builtin_memcpy(&bits, &p, sizeof bits);
  __builtin_memcpy(&exponent, &shifted, sizeof exponent);
  bits += exponent << 23;
  vec<float> value;
  __builtin_memcpy(&value, &bits, sizeof value);
  value = z < -87.0f ? vec<float>{} : value;
  return z == z ? value : z;
}

inline vec<double> exp_vec(vec<double> z) {
  vec<double> value = {};
  for (int i = 0; i < kWidth<double>; ++i) value[i] = __builtin_exp(z[i]);
  return value;
}

// sum_d a[d] * b[d] in 16 chains and a tree.
template <class T>
T inner_product(const T* a, const T* b, int64_t n) {
  vec<T> sum[kVecs<T>] = {};
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes)
    for (int v = 0; v < kVecs<T>; ++v) sum[v] += load(a + d + v * kWidth<T>) * load(b + d + v * kWidth<T>);
  T lanes[kLanes];
  for (int v = 0; v < kVecs<T>; ++v) store(lanes + v * kWidth<T>, sum[v]);
  for (int l = 0; d < n; ++d, ++l) lanes[l] += a[d] * b[d];
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int l = 0; l < step; ++l) lanes[l] += lanes[l + step];
  return lanes[0];
}

template <class T>
T sum_squares(const T* row, int64_t n) {
  return inner_product(row, row, n);
}

// One chain of D additions in fp32 would round a cosine near 1 by up to 1e-6; chains of 64, then one of D/64, keep it
// near 1e-7 at no visible cost.
constexpr int64_t kChain = 64;

template <class T>
void dot(const T* const* w, const T* inv_norm, const T* panel, int64_t depth, T* cos) {
  const T* w0 = w[0];
  const T* w1 = w[1];
  const T* w2 = w[2];
  const T* w3 = w[3];
  const T* w4 = w[4];
  const T* w5 = w[5];
  vec<T> total[kDotClasses][kVecs<T>] = {};
  for (int64_t begin = 0; begin < depth; begin += kChain) {
    const int64_t end = begin + kChain < depth ? begin + kChain : depth;
    for (int v0 = 0; v0 < kVecs<T>; v0 += 2) {  // two vectors a step: 12 accumulators in registers
      constexpr int kStep = kVecs<T> < 2 ? 1 : 2;
      vec<T> sum[kDotClasses][kStep] = {};
      for (int64_t d = begin; d < end; ++d) {
        vec<T> x[kStep];
        for (int v = 0; v < kStep; ++v) x[v] = load(panel + d * kLanes + (v0 + v) * kWidth<T>);
        const T value[kDotClasses] = {w0[d], w1[d], w2[d], w3[d], w4[d], w5[d]};
#pragma GCC unroll 6
        for (int c = 0; c < kDotClasses; ++c)
#pragma GCC unroll 2
          for (int v = 0; v < kStep; ++v) sum[c][v] += x[v] * value[c];
      }
      for (int c = 0; c < kDotClasses; ++c)
        for (int v = 0; v < kStep; ++v) total[c][v0 + v] += sum[c][v];
    }
  }
  for (int c = 0; c < kDotClasses; ++c)
    for (int v = 0; v < kVecs<T>; ++v) {
      const vec<T> value = total[c][v] * inv_norm[c];
      // Not `value + 0`: contracted into a multiply-add, it would keep the -0 of a product that underflows.
      store(cos + c * kLanes + v * kWidth<T>, value == T(0) ? vec<T>{} : value);
    }
}

template <class T>
void nearest(const T* cos, int64_t classes, int64_t subcenters, T* out) {
  for (int64_t c = 0; c < classes; ++c, cos += subcenters * kLanes, out += kLanes)
    for (int v = 0; v < kVecs<T>; ++v) {
      vec<T> top = load(cos + v * kWidth<T>);
      for (int64_t q = 1; q < subcenters; ++q) {
        const vec<T> x = load(cos + q * kLanes + v * kWidth<T>);
        top = x <= top ? top : (top == top ? x : top);  // a NaN, on either side, stays
      }
      store(out + v * kWidth<T>, top);
    }
}

template <class T>
void to_nearest(const T* cos, const T* nearest, const T* weight, int64_t classes, int64_t subcenters, const T* inv_norm,
                T* out, int64_t stride) {
  for (int64_t c = 0; c < classes; ++c, nearest += kLanes, weight += kLanes)
    for (int v = 0; v < kVecs<T>; ++v) {
      const vec<T> top = load(nearest + v * kWidth<T>);
      const vec<T> whole = load(weight + v * kWidth<T>);
      typename Vec<T>::mask open = top == top;
      for (int64_t q = 0; q < subcenters; ++q) {
        const int64_t centre = c * subcenters + q;
        const typename Vec<T>::mask hit = (load(cos + centre * kLanes + v * kWidth<T>) == top) & open;
        store(out + centre * stride + v * kWidth<T>, hit ? whole * inv_norm[centre] : vec<T>{});
        open &= ~hit;
      }
    }
}

template <class T>
inline bool any_set(typename Vec<T>::mask mask) {
  uint64_t words[kVectorBytes / 8];
  __builtin_memcpy(words, &mask, sizeof words);
  uint64_t all = 0;
  for (uint64_t word : words) all |= word;
  return all != 0;
}

template <class T>
bool mark_nan(const T* cos, int64_t classes, uint8_t* nan) {
  typename Vec<T>::mask any[kVecs<T>] = {};
  for (int64_t c = 0; c < classes; ++c)
    for (int v = 0; v < kVecs<T>; ++v) {
      const vec<T> x = load(cos + c * kLanes + v * kWidth<T>);
      any[v] |= x != x;
    }
  bool found = false;
  for (int v = 0; v < kVecs<T>; ++v) {
    if (!any_set<T>(any[v])) continue;
    found = true;
    for (int i = 0; i < kWidth<T>; ++i) nan[v * kWidth<T> + i] |= any[v][i] != 0;
  }
  return found;
}

template <class T>
void admit(const T* cos, int64_t classes, const T* limit, T* out) {
  const vec<T> none = broadcast(-static_cast<T>(__builtin_inf()));
  for (int v = 0; v < kVecs<T>; ++v) {
    const vec<T> bound = load(limit + v * kWidth<T>);
    for (int64_t c = 0; c < classes; ++c) {
      const int64_t at = c * kLanes + v * kWidth<T>;
      const vec<T> x = load(cos + at);
      store(out + at, x <= bound ? x : none);
    }
  }
}

template <class T>
void lse_update(const T* cos, int64_t classes, T scale, T* max, double* sum) {
  const T none = -static_cast<T>(__builtin_inf());
  for (int v = 0; v < kVecs<T>; ++v) {
    const int at = v * kWidth<T>;
    const vec<T> before = load(max + at);
    vec<T> top = before;
    for (int64_t c = 0; c < classes; ++c) {
      const vec<T> x = load(cos + c * kLanes + at);
      top = x > top ? x : top;
    }
    // A lane that has seen nothing yet: any finite shift makes exp(scale * (-inf - shift)) = 0 instead of NaN.
    const vec<T> shift = top == none ? vec<T>{} : top;
    vec<T> tile = {};
    for (int64_t c = 0; c < classes; ++c) tile += exp_vec((load(cos + c * kLanes + at) - shift) * scale);
    const vec<T> keep = exp_vec((before - shift) * scale);
    store(max + at, top);
    for (int i = 0; i < kWidth<T>; ++i)
      sum[at + i] = sum[at + i] * static_cast<double>(keep[i]) + static_cast<double>(tile[i]);
  }
}

template <class T>
void weights(const T* cos, int64_t classes, T scale, const T* factor, const T* lse, const T* inv_norm, T* out,
             int64_t stride) {
  for (int v = 0; v < kVecs<T>; ++v) {
    const int at = v * kWidth<T>;
    const vec<T> f = load(factor + at);
    const vec<T> l = load(lse + at);
    for (int64_t c = 0; c < classes; ++c) {
      const vec<T> z = load(cos + c * kLanes + at) * scale - l;
      store(out + c * stride + at, exp_vec(z) * f * inv_norm[c]);
    }
  }
}

// Bit i: a[i] >= b[i].
template <class T>
inline unsigned at_least_bits(const T* a, const T* b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_cmp_ps_mask(_mm512_loadu_ps(a), _mm512_loadu_ps(b), _CMP_GE_OQ);
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4)
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(a), _mm256_loadu_ps(b), _CMP_GE_OQ)));
#endif
  unsigned bits = 0;
  for (int i = 0; i < kWidth<T>; ++i) bits |= static_cast<unsigned>(a[i] >= b[i]) << i;
  return bits;
}

template <class T>
bool at_least(const T* cos, int64_t classes, const T* threshold, uint16_t* mask) {
  typename Vec<T>::mask any = {};  // one horizontal test for the tile
  for (int v = 0; v < kVecs<T>; ++v) {
    const vec<T> bound = load(threshold + v * kWidth<T>);
    for (int64_t c = 0; c < classes; ++c) any |= load(cos + c * kLanes + v * kWidth<T>) >= bound;
  }
  if (!any_set<T>(any)) return false;
  for (int64_t c = 0; c < classes; ++c) {
    unsigned bits = 0;
    for (int v = 0; v < kVecs<T>; ++v)
      bits |= at_least_bits(cos + c * kLanes + v * kWidth<T>, threshold + v * kWidth<T>) << (v * kWidth<T>);
    mask[c] = static_cast<uint16_t>(bits);
  }
  return true;
}

template <class T>
void accumulate(const T* a, int64_t a_row, int64_t a_depth, const T* const* b, int64_t depth, int64_t width,
                T* const* out) {
  constexpr int kStep = kVecs<T> < 2 ? 1 : 2;
  constexpr int kColumns = kStep * kWidth<T>;
  for (int64_t column = 0; column < width; column += kColumns) {
    vec<T> sum[kOutRows][kStep];
    for (int r = 0; r < kOutRows; ++r)
      for (int v = 0; v < kStep; ++v) sum[r][v] = load(out[r] + column + v * kWidth<T>);
    const T* value = a;
    for (int64_t k = 0; k < depth; ++k, value += a_depth) {
      vec<T> x[kStep];
      for (int v = 0; v < kStep; ++v) x[v] = load(b[k] + column + v * kWidth<T>);
#pragma GCC unroll 6
      for (int r = 0; r < kOutRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kStep; ++v) sum[r][v] += x[v] * value[r * a_row];
    }
    for (int r = 0; r < kOutRows; ++r)
      for (int v = 0; v < kStep; ++v) store(out[r] + column + v * kWidth<T>, sum[r][v]);
  }
}

template <class T>
void add_scaled(T* out, const T* row, T weight, int64_t n) {
  for (int64_t d = 0; d < n; ++d) out[d] += weight * row[d];
}

// <gradient, row * inv_norm>. The inverse norm comes in before the sum: a row of norm 1e19 would overflow in
// <gradient, row>.
template <class T>
T component(const T* gradient, const T* row, T inv_norm, int64_t n) {
  T along = 0;
  constexpr int64_t kBlock = 512;
  T unit[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t size = n - begin < kBlock ? n - begin : kBlock;
    for (int64_t d = 0; d < size; ++d) unit[d] = row[begin + d] * inv_norm;
    along += inner_product(gradient + begin, unit, size);
  }
  return along;
}

template <class T>
void remove_component(T* gradient, const T* row, T inv_norm, int64_t n) {
  const T along = component(gradient, row, inv_norm, n);
  for (int64_t d = 0; d < n; ++d) gradient[d] -= along * (row[d] * inv_norm);
}

// `p` is aligned to whole vectors.
template <class T>
inline void store_past_caches(T* p, vec<T> v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
  store(p, v);
#endif
}

template <class T>
void finish_rows(const T* gradient, int64_t gradient_stride, const T* const* rows, const T* inv_norm, int64_t count,
                 int64_t n, T* out, int64_t out_stride, bool stream) {
  for (int64_t r = 0; r < count; ++r, gradient += gradient_stride, out += out_stride) {
    const T* row = rows[r];
    const T along = component(gradient, row, inv_norm[r], n);
    int64_t d = 0;
    if (stream && reinterpret_cast<uintptr_t>(out) % kVectorBytes == 0)
      for (; d + kWidth<T> <= n; d += kWidth<T>)
        store_past_caches(out + d, load(gradient + d) - along * (load(row + d) * inv_norm[r]));
    for (; d < n; ++d) out[d] = gradient[d] - along * (row[d] * inv_norm[r]);
  }
#if defined(__SSE2__)
  if (stream) _mm_sfence();  // such stores are ordered by nothing else
#endif
}

template <class T>
void sgd(T* w, T* momentum, T* gradient, int64_t n, const SgdFactors<T>& f) {
  if (f.decay != T(0))
    for (int64_t d = 0; d < n; ++d) gradient[d] = gradient[d] + f.decay * w[d];
  if (momentum) {
    if (f.first_step) {
      for (int64_t d = 0; d < n; ++d) momentum[d] = gradient[d];
    } else {
      // Two loops: in one, the compiler may fuse either product into the sum, and torch rounds this one first.
      for (int64_t d = 0; d < n; ++d) momentum[d] = momentum[d] * f.momentum;
      __asm__ volatile("" ::: "memory");
      for (int64_t d = 0; d < n; ++d) momentum[d] = momentum[d] + f.fresh * gradient[d];
    }
    if (f.nesterov)
      for (int64_t d = 0; d < n; ++d) gradient[d] = gradient[d] + f.momentum * momentum[d];
    else
      for (int64_t d = 0; d < n; ++d) gradient[d] = momentum[d];
  }
  __asm__ volatile("" ::: "memory");
  for (int64_t d = 0; d < n; ++d) w[d] = w[d] + f.rate * gradient[d];
}

#if defined(__x86_64__)
#define BBS_VECTOR_REGISTER "+x"
#else
#define BBS_VECTOR_REGISTER "+w"
#endif

template <class T>
int64_t fma_burst(int64_t rounds) {
  constexpr int kChains = 12;  // more than latency times issue rate on every processor so far
  vec<T> sum[kChains] = {};
  vec<T> a = broadcast(T(0.999));
  vec<T> b = broadcast(T(1e-9));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * a + b;
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i)
      __asm__ volatile("" : BBS_VECTOR_REGISTER(sum[i]));  // or the compiler drops the loop
  }
  return rounds * kChains * kWidth<T> * 2;
}

template <class T>
constexpr MicroKernels<T> table(const char* name) {
  return {name,          sum_squares<T>, dot<T>,      nearest<T>,    to_nearest<T>, mark_nan<T>,         admit<T>,
          lse_update<T>, weights<T>,     at_least<T>, accumulate<T>, add_scaled<T>, remove_component<T>, finish_rows<T>,
          sgd<T>,        fma_burst<T>};
}

}  // namespace

extern const MicroKernels<float> BBS_ISA_TABLE(float);
extern const MicroKernels<double> BBS_ISA_TABLE(double);
const MicroKernels<float> BBS_ISA_TABLE(float) = table<float>(BBS_ISA);
const MicroKernels<double> BBS_ISA_TABLE(double) = table<double>(BBS_ISA);

}  // namespace bbs::cpu
