// Loss of a row under the combined margin family, and its derivatives: loss = softplus(lse - s psi(c)), where
// psi(c) = cos(phi) - m3, phi = m1 theta + m2, theta = arccos(c) with c clamped to [-1, 1]. One formula for the CPU op
// and the CUDA merge; bbs_kernels/margins/combined.py is the same for autograd, case by case.
// Sources: SphereFace (Liu et al. 2017, eq. 7), CosFace (Wang et al. 2018), ArcFace (Deng et al. 2019, eq. 4).
#pragma once

#include "host_device.h"

#ifndef __CUDACC_RTC__
#include <math.h>  // not cmath: the overloads for float in the global namespace, where NVRTC has them
#endif

namespace bbs {

// What happens where phi passes pi; the codes are part of the op schema.
enum class Boundary : int32_t { hard = 0, easy = 1, none = 2 };
enum class TargetGrad : int32_t { exact = 0, straight_through = 1 };

template <class T>
struct CombinedMargin {
  T m1, m2, m3;
  T cos_m2, sin_m2;
  T linear;  // m2 sin(m2) + m3: psi is c - linear beyond the boundary when m1 = 1
  Boundary boundary;
  TargetGrad target_grad;
};

template <class T>
struct RowLoss {
  T loss;
  T grad_lse;    // dloss / dlse
  T grad_cos_t;  // dloss / dc
};

// d arccos(c) / dc = -1 / sin(theta) is cut here, as in margins/combined.py.
template <class T>
BBS_HOST_DEVICE constexpr T sin_floor() {
  return static_cast<T>(1e-3);
}

BBS_HOST_DEVICE CombinedMargin<double> combined_margin(double m1, double m2, double m3, Boundary boundary,
                                                       TargetGrad target_grad) {
  return {m1, m2, m3, cos(m2), sin(m2), m2 * sin(m2) + m3, boundary, target_grad};
}

// Constants are found in fp64 and rounded once, to the type in which the rows are computed.
template <class T>
BBS_HOST_DEVICE CombinedMargin<T> rounded(const CombinedMargin<double>& m) {
  return {static_cast<T>(m.m1),     static_cast<T>(m.m2),     static_cast<T>(m.m3), static_cast<T>(m.cos_m2),
          static_cast<T>(m.sin_m2), static_cast<T>(m.linear), m.boundary,           m.target_grad};
}

template <class T>
struct Psi {
  T value, slope;
};

template <class T>
BBS_HOST_DEVICE constexpr T pi() {
  return static_cast<T>(3.14159265358979323846);
}

// On a device by way of half turns: its functions of radians bring a stack, for the reduction of huge angles.
template <class T>
BBS_HOST_DEVICE void sin_cos(T angle, T* sine, T* cosine) {
#ifdef __CUDA_ARCH__
  sincospi(angle / pi<T>(), sine, cosine);
#else
  *sine = sin(angle);
  *cosine = cos(angle);
#endif
}

template <class T>
BBS_HOST_DEVICE Psi<T> combined_psi(const CombinedMargin<T>& m, T c) {
  const T one = 1;
  if (m.boundary == Boundary::easy && c <= 0) return {c, one};
  if (m.m1 == one && m.m2 == 0) return {c - m.m3, one};  // cos(arccos c) = c: no digits lost on the way
  const T inside = c < -one ? -one : c > one ? one : c;
  // (1 - c)(1 + c) and not 1 - c^2, which has lost its digits near the ends.
  const T sin_theta = sqrt((one - inside) * (one + inside));
  const T divisor = sin_theta < sin_floor<T>() ? sin_floor<T>() : sin_theta;
  if (m.m1 == one) {  // cos(theta + m2) by addition: half the error of the way through the angle
    if (m.boundary == Boundary::hard && c < -m.cos_m2) return {c - m.linear, one};
    return {inside * m.cos_m2 - sin_theta * m.sin_m2 - m.m3, (sin_theta * m.cos_m2 + inside * m.sin_m2) / divisor};
  }
  const T phi = m.m1 * acos(inside) + m.m2;
  T sine, cosine;
  sin_cos(phi, &sine, &cosine);
  const T slope = m.m1 * sine / divisor;
  if (m.boundary != Boundary::hard) return {cosine - m.m3, slope};
  const T n = floor(phi / pi<T>());
  const T sign = n == 2 * floor(n / 2) ? one : -one;  // (-1)^n
  return {sign * cosine - 2 * n - m.m3, sign * slope};
}

// lse = -inf, as of a row without negatives, gives zeros; NaN in either gives NaN.
template <class T>
BBS_HOST_DEVICE RowLoss<T> row_loss(const CombinedMargin<T>& m, T scale, T lse, T c) {
  const Psi<T> psi = combined_psi(m, c);
  const T z = lse - scale * psi.value;
  const T loss = (z > 0 ? z : 0) + log1p(exp(z > 0 ? -z : z));
  // The sigmoid of z. 1 - exp(-loss) as a difference would lose every digit of a row that is classified well.
  const T p = -expm1(-loss);
  return {loss, p, -scale * p * (m.target_grad == TargetGrad::exact ? psi.slope : T(1))};
}

}  // namespace bbs
