#pragma once

#include <cstdint>
#include <cstring>

// Vectors of 64 bytes for the sources that are compiled once for each instruction set (cmake/Targets.cmake,
// tmd_kernels). The width is the same for all of them and nothing is contracted, so the results have the same
// bits whatever the machine offers. Everything here lies in a namespace of the instruction set, or the linker
// would take one copy of an inline function for all; for the same reason these sources include nothing of the
// library but the two headers above.

// Vectors are passed between functions that are all inlined: their calling convention does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

#ifndef TMD_KERNELS
#define TMD_KERNELS plain
#endif
#define TMD_INLINE [[gnu::always_inline]] inline

namespace tmd {

/// The bits of a bfloat16.
struct Bfloat16 {
  uint16_t bits;
};

namespace TMD_KERNELS {

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(64)));
};
/// Vector of float (16 lanes) or double (8).
template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
constexpr int64_t kLanes = 64 / sizeof(T);

typedef uint16_t BfloatLanes __attribute__((vector_size(32)));
typedef uint32_t BitLanes __attribute__((vector_size(64)));
typedef int32_t IntLanes __attribute__((vector_size(64)));

/// Type in which elements of type X are computed.
template <class X>
struct ComputeOf {
  using type = X;
};
template <>
struct ComputeOf<Bfloat16> {
  using type = float;
};
template <class X>
using Compute = typename ComputeOf<X>::type;

/// How much of a vector is in memory: all of it, or the first 0 < n < lanes elements. The other lanes are
/// read as zero and not written.
struct All {};
struct First {
  int64_t n;
};

TMD_INLINE Vec<float> widen(BfloatLanes bits) {
  return (Vec<float>)(__builtin_convertvector(bits, BitLanes) << 16);
}

/// To the nearest, ties to even; NaN stays NaN.
TMD_INLINE BfloatLanes narrow(Vec<float> v) {
  const BitLanes bits = (BitLanes)v;
  const BitLanes rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const BitLanes nan = BitLanes{} + 0x7fc0U;
  return __builtin_convertvector(v != v ? nan : rounded, BfloatLanes);
}

template <class V>
TMD_INLINE V read_as(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
TMD_INLINE Vec<float> load(const float* p, All) { return read_as<Vec<float>>(p); }
TMD_INLINE Vec<double> load(const double* p, All) { return read_as<Vec<double>>(p); }
TMD_INLINE Vec<float> load(const Bfloat16* p, All) { return widen(read_as<BfloatLanes>(p)); }
template <class X>
TMD_INLINE Vec<Compute<X>> load(const X* p, First first) {
  X padded[kLanes<Compute<X>>] = {};
  for (int64_t i = 0; i < first.n; ++i) padded[i] = p[i];
  return load(padded, All{});
}

TMD_INLINE void store(float* p, Vec<float> v, All) { std::memcpy(p, &v, sizeof v); }
TMD_INLINE void store(double* p, Vec<double> v, All) { std::memcpy(p, &v, sizeof v); }
TMD_INLINE void store(Bfloat16* p, Vec<float> v, All) {
  const BfloatLanes bits = narrow(v);
  std::memcpy(p, &bits, sizeof bits);
}
template <class X>
TMD_INLINE void store(X* p, Vec<Compute<X>> v, First first) {
  X padded[kLanes<Compute<X>>];
  store(padded, v, All{});
  for (int64_t i = 0; i < first.n; ++i) p[i] = padded[i];
}

/// `v` with zeros in the lanes that are not in memory.
template <class V>
TMD_INLINE V keep(V v, All) {
  return v;
}
template <class V>
TMD_INLINE V keep(V v, First first) {
  for (int64_t i = first.n; i < static_cast<int64_t>(sizeof(V) / sizeof(v[0])); ++i) v[i] = 0;
  return v;
}

/// v rounded as if it had been stored as bfloat16.
TMD_INLINE Vec<float> round_to_bfloat16(Vec<float> v) { return widen(narrow(v)); }

/// Calls f(i, All) for whole vectors of n elements of T and f(i, First) for the rest.
template <class T, class F>
TMD_INLINE void for_lanes(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) f(i, All{});
  if (i < n) f(i, First{n - i});
}

/// Sum of all lanes, halves first.
template <class T>
TMD_INLINE T sum_of(Vec<T> v) {
  T lanes[kLanes<T>];
  store(lanes, v, All{});
  for (int64_t half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

TMD_INLINE Vec<float> even_lanes_twice(Vec<float> v) {
  return __builtin_shufflevector(v, v, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14);
}
TMD_INLINE Vec<double> even_lanes_twice(Vec<double> v) {
  return __builtin_shufflevector(v, v, 0, 0, 2, 2, 4, 4, 6, 6);
}
TMD_INLINE Vec<float> odd_lanes_twice(Vec<float> v) {
  return __builtin_shufflevector(v, v, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15);
}
TMD_INLINE Vec<double> odd_lanes_twice(Vec<double> v) {
  return __builtin_shufflevector(v, v, 1, 1, 3, 3, 5, 5, 7, 7);
}
TMD_INLINE Vec<float> pairs_swapped(Vec<float> v) {
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
}
TMD_INLINE Vec<double> pairs_swapped(Vec<double> v) {
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
}

/// e^x to 2 units in the last place; x is cut to [-87, 87], where e^x is a normal number. NaN stays NaN.
TMD_INLINE Vec<float> exp_of(Vec<float> x) {
  const Vec<float> limit = Vec<float>{} + 87.0F;
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  // e^x = 2^n e^r with |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds to an integer, which then stands in the low
  // bits.
  const Vec<float> magic = Vec<float>{} + 12582912.0F;
  const Vec<float> shifted = x * 1.44269504F + magic;
  const Vec<float> n = shifted - magic;
  const Vec<float> r = (x - n * 0.693359375F) - n * -2.12194440e-4F;  // the first factor has 10 bits: exact
  // Polynomial of Cephes' expf.
  Vec<float> p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const IntLanes power = ((IntLanes)shifted - (IntLanes)magic + 127) << 23;
  return p * (Vec<float>)power;
}

}  // namespace TMD_KERNELS
}  // namespace tmd
