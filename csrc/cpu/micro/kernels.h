// The inner loops, as a table of functions per instruction set. A row panel is 16 batch rows side by side ("lanes"):
// panel[d][lane]. Cosines of a tile are cos[class][lane], so every epilogue runs over contiguous lanes.
// Each function does the same operations in the same order for every lane and class, wherever they stand in a tile:
// that is why a cosine's bits depend on its row, its centre and D alone.
#pragma once

#include <cstdint>

namespace bbs::cpu {

constexpr int kLanes = 16;      // rows per panel: one cache line of fp32
constexpr int kDotClasses = 6;  // classes per dot call: with 16 lanes, 12 accumulators of 8 fp32 fill AVX2's registers
constexpr int kOutRows = 6;     // rows per accumulate call, for the same reason

// What one row of SGD needs to know; values already in the compute type.
template <class T>
struct SgdFactors {
  T rate;  // -lr
  T momentum;
  T fresh;  // 1 - dampening
  T decay;
  bool first_step;
  bool nesterov;
};

template <class T>
struct MicroKernels {
  const char* name;

  // Sum of squares of row[0..n).
  T (*sum_squares)(const T* row, int64_t n);

  // cos[c][lane] = (sum_d w[c][d] * panel[d][lane]) * inv_norm[c], for 6 classes; -0 becomes +0.
  void (*dot)(const T* const* w, const T* inv_norm, const T* panel, int64_t depth, T* cos);

  // out[class][lane] = the largest of cos[class * subcenters ...][lane]; NaN if one of them is.
  void (*nearest)(const T* cos, int64_t classes, int64_t subcenters, T* out);

  // Weights of classes to those of their centres: out[c * stride + lane] = weight[class][lane] * inv_norm[c] for the
  // first centre c of the class with cos[c][lane] == nearest[class][lane], 0 for the others.
  void (*to_nearest)(const T* cos, const T* nearest, const T* weight, int64_t classes, int64_t subcenters,
                     const T* inv_norm, T* out, int64_t stride);

  // nan[lane] |= any class of the tile has a NaN cosine in this lane; whether there is any.
  bool (*mark_nan)(const T* cos, int64_t classes, uint8_t* nan);

  // out[c][lane] = cos[c][lane] where it is <= limit[lane], -inf elsewhere.
  void (*admit)(const T* cos, int64_t classes, const T* limit, T* out);

  // Online log-sum-exp: (max, sum) of each lane take in the tile; max in cosine units, sum relative to exp(scale*max).
  void (*lse_update)(const T* cos, int64_t classes, T scale, T* max, double* sum);

  // out[c * stride + lane] = factor[lane] * exp(scale * cos[c][lane] - lse[lane]) * inv_norm[c]; 0 where cos is -inf.
  void (*weights)(const T* cos, int64_t classes, T scale, const T* factor, const T* lse, const T* inv_norm, T* out,
                  int64_t stride);

  // Bit `lane` of mask[c]: cos[c][lane] >= threshold[lane]; whether there is any. Without one, mask is not written.
  bool (*at_least)(const T* cos, int64_t classes, const T* threshold, uint16_t* mask);

  // out[r][0..width) += sum_k a[r * a_row + k * a_depth] * b[k][0..width), for 6 rows; width a multiple of 16.
  void (*accumulate)(const T* a, int64_t a_row, int64_t a_depth, const T* const* b, int64_t depth, int64_t width,
                     T* const* out);

  // out[0..n) += weight * row[0..n).
  void (*add_scaled)(T* out, const T* row, T weight, int64_t n);

  // gradient -= <gradient, u> u with u = row * inv_norm: the Jacobian of normalisation, less the factor 1 / norm.
  void (*remove_component)(T* gradient, const T* row, T inv_norm, int64_t n);

  // out[r] = gradient[r] less its component along rows[r], as above, for `count` rows. `stream`: the stores go past the
  // caches, which neither reads out first nor drives what is in use from them.
  void (*finish_rows)(const T* gradient, int64_t gradient_stride, const T* const* rows, const T* inv_norm,
                      int64_t count, int64_t n, T* out, int64_t out_stride, bool stream);

  // torch.optim.SGD's update of one row, each loop one of its tensor operations with the same roundings; momentum may
  // be null. Overwrites gradient.
  void (*sgd)(T* w, T* momentum, T* gradient, int64_t n, const SgdFactors<T>& factors);

  // Multiply-adds on registers alone, for measuring what the processor can do at most; returns the flops done.
  int64_t (*fma_burst)(int64_t rounds);
};

// The table for this processor: the widest instruction set that it has and that was built, or the one named by the
// environment variable BBS_CPU_ISA (generic, avx2, avx512).
template <class T>
const MicroKernels<T>& micro_kernels();

}  // namespace bbs::cpu
