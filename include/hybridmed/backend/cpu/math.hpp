#pragma once
// Branch-free exp, erf and tanh for float that compilers turn into vector code; double goes to the
// standard library. Errors: exp 2 ulp, erf 2e-7 absolute.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hybridmed/core/shape.hpp"

namespace hybridmed::cpu {

/// exp(x), x clamped to [-87, 88].
inline float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;  // round to the nearest whole power of two
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;  // exp(r) on |r| <= ln 2 / 2 (Cephes expf)
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto exponent = (std::bit_cast<std::int32_t>(shifted) + 127) << 23;
  return p * std::bit_cast<float>(exponent);
}
inline double fast_exp(double x) { return std::exp(x); }

/// erf(x): x P(x^2) / Q(x^2), a weighted least-squares fit on |x| <= 3.92, where erf reaches 1 -
/// 3e-8.
inline float fast_erf(float x) {
  x = x < -3.92f ? -3.92f : x > 3.92f ? 3.92f : x;
  const float u = x * x;
  float p = 1.9920673111073484e-08f;
  p = p * u - 1.9577087178916952e-06f;
  p = p * u + 0.00014186296903062612f;
  p = p * u + 0.00370244518853724f;
  p = p * u + 0.05057617649435997f;
  p = p * u + 0.1999462991952896f;
  p = p * u + 1.1283791065216064f;
  float q = 0.000956216361373663f;
  q = q * u + 0.014354998245835304f;
  q = q * u + 0.11500737071037292f;
  q = q * u + 0.5105294585227966f;
  q = q * u + 1.0f;
  return x * p / q;
}
inline double fast_erf(double x) { return std::erf(x); }

inline float fast_tanh(float x) {
  const float e = fast_exp(2.0f * (x < -9.0f ? -9.0f : x > 9.0f ? 9.0f : x));
  return (e - 1.0f) / (e + 1.0f);
}
inline double fast_tanh(double x) { return std::tanh(x); }

/// Largest element of x, n >= 1; -inf for n = 0. Sixteen lanes: vector code without -ffast-math.
template <class T>
T lane_max(Index n, const T* x) {
  T lane[16];
  for (T& l : lane) l = -std::numeric_limits<T>::infinity();
  Index i = 0;
  for (; i + 16 <= n; i += 16)
    for (Index l = 0; l < 16; ++l) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
  for (; i < n; ++i) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
  T top = lane[0];
  for (T l : lane) top = l > top ? l : top;
  return top;
}

/// A number in the type that sums are kept in.
template <class T>
double wide(T x) {
  return static_cast<double>(x);
}

/// Sum of f(i) over [0, n) in double.
template <class F>
double lane_sum(Index n, F&& f) {
  double lane[8] = {};
  Index i = 0;
  for (; i + 8 <= n; i += 8)
    for (Index l = 0; l < 8; ++l) lane[l] += f(i + l);
  for (; i < n; ++i) lane[0] += f(i);
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

}  // namespace hybridmed::cpu
