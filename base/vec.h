#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "base/bfloat16.h"

// Vectors of 64 bytes for the sources that are compiled once for each instruction set (cmake/Targets.cmake,
// tmd_kernels). The width is the same for all of them, in one, two or four registers, and nothing is
// contracted, so the results have the same bits whatever the machine offers. Everything here lies in a
// namespace of the instruction set, or the linker would take one copy of an inline function for all; for the
// same reason these sources call no function of the library but memcpy.

// Vectors are passed between functions that are all inlined: their calling convention does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

#ifndef TMD_KERNELS
#define TMD_KERNELS plain
#endif
#define TMD_INLINE [[gnu::always_inline]] inline

namespace tmd {

namespace TMD_KERNELS {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif
constexpr int kRegisters = 64 / kRegisterBytes;

template <class T, int bytes>
struct RegisterOf {
  typedef T type __attribute__((vector_size(bytes)));
};
/// As many T as fit into `bytes`; by default, what the machine computes with at once.
template <class T, int bytes = kRegisterBytes>
using Register = typename RegisterOf<T, bytes>::type;

/// 16 float or 8 double.
template <class T>
struct Vec {
  Register<T> part[kRegisters];
};
template <class T>
constexpr int64_t kLanes = 64 / sizeof(T);

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

/// The vector whose register i is f(i).
template <class T, class F>
TMD_INLINE Vec<T> each(F f) {
  Vec<T> v;
  for (int i = 0; i < kRegisters; ++i) v.part[i] = f(i);
  return v;
}
template <class T>
TMD_INLINE Vec<T> all(T value) {
  return each<T>([&](int) { return Register<T>{} + value; });
}

template <class T>
TMD_INLINE Vec<T> operator+(Vec<T> a, Vec<T> b) {
  return each<T>([&](int i) { return a.part[i] + b.part[i]; });
}
template <class T>
TMD_INLINE Vec<T> operator-(Vec<T> a, Vec<T> b) {
  return each<T>([&](int i) { return a.part[i] - b.part[i]; });
}
template <class T>
TMD_INLINE Vec<T> operator*(Vec<T> a, Vec<T> b) {
  return each<T>([&](int i) { return a.part[i] * b.part[i]; });
}
template <class T>
TMD_INLINE Vec<T> operator/(Vec<T> a, Vec<T> b) {
  return each<T>([&](int i) { return a.part[i] / b.part[i]; });
}
template <class T>
TMD_INLINE Vec<T> operator+(Vec<T> a, T b) {
  return a + all(b);
}
template <class T>
TMD_INLINE Vec<T> operator-(Vec<T> a, T b) {
  return a - all(b);
}
template <class T>
TMD_INLINE Vec<T> operator*(Vec<T> a, T b) {
  return a * all(b);
}
template <class T>
TMD_INLINE void operator+=(Vec<T>& a, Vec<T> b) {
  a = a + b;
}

/// How much of a vector is in memory: all of it, or the first 0 < n < lanes elements. The other lanes are
/// read as zero and not written.
struct All {};
struct First {
  int64_t n;
};

using BfloatLanes = Register<uint16_t, kRegisterBytes / 2>;
using BitLanes = Register<uint32_t>;

TMD_INLINE Register<float> widen(BfloatLanes bits) {
  return (Register<float>)(__builtin_convertvector(bits, BitLanes) << 16);
}

/// To the nearest, ties to even; NaN stays NaN.
TMD_INLINE BfloatLanes narrow(Register<float> v) {
  const BitLanes bits = (BitLanes)v;
  const BitLanes rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const BitLanes nan = BitLanes{} + 0x7fc0U;
  return __builtin_convertvector(v != v ? nan : rounded, BfloatLanes);
}

/// Register i of what stands at `p`.
template <class R>
TMD_INLINE R register_at(const void* p, int i) {
  R r;
  std::memcpy(&r, static_cast<const char*>(p) + i * static_cast<int>(sizeof r), sizeof r);
  return r;
}
TMD_INLINE Vec<float> load(const float* p, All) {
  return each<float>([&](int i) { return register_at<Register<float>>(p, i); });
}
TMD_INLINE Vec<double> load(const double* p, All) {
  return each<double>([&](int i) { return register_at<Register<double>>(p, i); });
}
TMD_INLINE Vec<float> load(const Bfloat16* p, All) {
  return each<float>([&](int i) { return widen(register_at<BfloatLanes>(p, i)); });
}
template <class X>
TMD_INLINE Vec<Compute<X>> load(const X* p, First first) {
  X padded[kLanes<Compute<X>>] = {};
  for (int64_t i = 0; i < first.n; ++i) padded[i] = p[i];
  return load(padded, All{});
}

TMD_INLINE void store(float* p, Vec<float> v, All) { std::memcpy(p, &v, sizeof v); }
TMD_INLINE void store(double* p, Vec<double> v, All) { std::memcpy(p, &v, sizeof v); }
TMD_INLINE void store(Bfloat16* p, Vec<float> v, All) {
  for (int i = 0; i < kRegisters; ++i) {
    const BfloatLanes bits = narrow(v.part[i]);
    std::memcpy(reinterpret_cast<char*>(p) + i * static_cast<int>(sizeof bits), &bits, sizeof bits);
  }
}
template <class X>
TMD_INLINE void store(X* p, Vec<Compute<X>> v, First first) {
  X padded[kLanes<Compute<X>>];
  store(padded, v, All{});
  for (int64_t i = 0; i < first.n; ++i) p[i] = padded[i];
}

/// `v` with zeros in the lanes that are not in memory.
template <class T>
TMD_INLINE Vec<T> keep(Vec<T> v, All) {
  return v;
}
template <class T>
TMD_INLINE Vec<T> keep(Vec<T> v, First first) {
  T lanes[kLanes<T>];
  store(lanes, v, All{});
  return load(lanes, first);
}

/// v rounded as if it had been stored as bfloat16.
TMD_INLINE Vec<float> round_to_bfloat16(Vec<float> v) {
  return each<float>([&](int i) { return widen(narrow(v.part[i])); });
}

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

template <class T>
using LaneNumbers = std::make_index_sequence<kRegisterBytes / sizeof(T)>;

template <class R, size_t... i>
TMD_INLINE R evens_twice(R r, std::index_sequence<i...>) {
  return __builtin_shufflevector(r, r, (i & ~size_t{1})...);
}
template <class R, size_t... i>
TMD_INLINE R odds_twice(R r, std::index_sequence<i...>) {
  return __builtin_shufflevector(r, r, (i | 1)...);
}
template <class R, size_t... i>
TMD_INLINE R neighbours(R r, std::index_sequence<i...>) {
  return __builtin_shufflevector(r, r, (i ^ 1)...);
}
/// Lanes 0 0 2 2 4 4 ...
template <class T>
TMD_INLINE Vec<T> even_lanes_twice(Vec<T> v) {
  return each<T>([&](int i) { return evens_twice(v.part[i], LaneNumbers<T>{}); });
}
/// Lanes 1 1 3 3 5 5 ...
template <class T>
TMD_INLINE Vec<T> odd_lanes_twice(Vec<T> v) {
  return each<T>([&](int i) { return odds_twice(v.part[i], LaneNumbers<T>{}); });
}
/// Lanes 1 0 3 2 5 4 ...
template <class T>
TMD_INLINE Vec<T> pairs_swapped(Vec<T> v) {
  return each<T>([&](int i) { return neighbours(v.part[i], LaneNumbers<T>{}); });
}
/// -value in even lanes, value in odd ones.
template <class T>
TMD_INLINE Vec<T> alternating(T value) {
  Register<T> signs{};
  for (size_t i = 0; i < kRegisterBytes / sizeof(T); ++i) signs[i] = i % 2 ? value : -value;
  return each<T>([&](int) { return signs; });
}

/// e^x to 2 units in the last place; x is cut to [-87, 87], where e^x is a normal number. NaN stays NaN.
TMD_INLINE Register<float> exp_of(Register<float> x) {
  using F = Register<float>;
  const F limit = F{} + 87.0F;
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  // e^x = 2^n e^r with |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds to an integer, which then stands in the low
  // bits.
  const F magic = F{} + 12582912.0F;
  const F shifted = x * 1.44269504F + magic;
  const F n = shifted - magic;
  const F r = (x - n * 0.693359375F) - n * -2.12194440e-4F;  // the first factor has 10 bits: exact
  // Polynomial of Cephes' expf.
  F p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const BitLanes power = ((BitLanes)shifted - (BitLanes)magic + 127U) << 23;
  return p * (F)power;
}
TMD_INLINE Vec<float> exp_of(Vec<float> x) {
  return each<float>([&](int i) { return exp_of(x.part[i]); });
}

}  // namespace TMD_KERNELS
}  // namespace tmd
