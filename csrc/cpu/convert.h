// Strided matrix rows of any dtype into the compute type, and back with one rounding at the end.
#pragma once

#include "half.h"
#include "types.h"

namespace bbs::cpu {

template <class T, class Load>
inline void load_strided(Load load, int64_t n, int64_t stride, T* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(load(i * stride));
}

// Row `row` of `m` as n = m.cols values of T.
template <class T>
inline void load_row(const ConstMatrix& m, int64_t row, T* out) {
  const int64_t at = row * m.row_stride;
  switch (m.dtype) {
    case DType::f64: {
      const double* p = static_cast<const double*>(m.data) + at;
      return load_strided([p](int64_t i) { return p[i]; }, m.cols, m.col_stride, out);
    }
    case DType::f32: {
      const float* p = static_cast<const float*>(m.data) + at;
      return load_strided([p](int64_t i) { return p[i]; }, m.cols, m.col_stride, out);
    }
    case DType::f16: {
      const uint16_t* p = static_cast<const uint16_t*>(m.data) + at;
      return load_strided([p](int64_t i) { return fp16_to_float(p[i]); }, m.cols, m.col_stride, out);
    }
    case DType::bf16: {
      const uint16_t* p = static_cast<const uint16_t*>(m.data) + at;
      return load_strided([p](int64_t i) { return bf16_to_float(p[i]); }, m.cols, m.col_stride, out);
    }
  }
}

// Values as the 16-bit type would hold them: fp32 centres meet 16-bit embeddings at the embeddings' precision.
inline void round_to(DType dtype, int64_t n, float* values) {
  if (dtype == DType::f16) {
    for (int64_t i = 0; i < n; ++i) values[i] = fp16_to_float(float_to_fp16(values[i]));
  } else if (dtype == DType::bf16) {
    for (int64_t i = 0; i < n; ++i) values[i] = bf16_to_float(float_to_bf16(values[i]));
  }
}
inline void round_to(DType, int64_t, double*) {}

template <class T, class Store>
inline void store_strided(Store store, int64_t n, int64_t stride, const T* values) {
  for (int64_t i = 0; i < n; ++i) store(i * stride, values[i]);
}

template <class T>
inline void store_row(const OutMatrix& m, int64_t row, const T* values) {
  const int64_t at = row * m.row_stride;
  switch (m.dtype) {
    case DType::f64: {
      double* p = static_cast<double*>(m.data) + at;
      return store_strided([p](int64_t i, T v) { p[i] = v; }, m.cols, m.col_stride, values);
    }
    case DType::f32: {
      float* p = static_cast<float*>(m.data) + at;
      return store_strided([p](int64_t i, T v) { p[i] = static_cast<float>(v); }, m.cols, m.col_stride, values);
    }
    case DType::f16: {
      uint16_t* p = static_cast<uint16_t*>(m.data) + at;
      return store_strided([p](int64_t i, T v) { p[i] = float_to_fp16(static_cast<float>(v)); }, m.cols, m.col_stride,
                           values);
    }
    case DType::bf16: {
      uint16_t* p = static_cast<uint16_t*>(m.data) + at;
      return store_strided([p](int64_t i, T v) { p[i] = float_to_bf16(static_cast<float>(v)); }, m.cols, m.col_stride,
                           values);
    }
  }
}

}  // namespace bbs::cpu
