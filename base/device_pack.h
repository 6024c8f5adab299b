#pragma once

#include <cstdint>
#include <cstring>

#include "base/bfloat16.h"
#include "base/host_device.h"

// Elements as device kernels read, compute and write them: a thread works on packs of N neighbours, which are
// computed wide (Compute<X>) and travel 16 bytes at a time where they lie on an address that allows it. How
// they travel changes no value.

namespace tmd::device {

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

TMD_HOST_DEVICE inline float widened(float x) { return x; }
TMD_HOST_DEVICE inline double widened(double x) { return x; }
TMD_HOST_DEVICE inline float widened(Bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// To the nearest bfloat16, ties to even; NaN becomes 0x7fc0, as in ATen.
TMD_HOST_DEVICE inline Bfloat16 to_bfloat16(float x) {
  uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  return {static_cast<uint16_t>(x != x ? 0x7fc0U : rounded)};
}

/// `x` as an element of type X.
template <class X>
TMD_HOST_DEVICE inline X narrowed(Compute<X> x) {
  return x;
}
template <>
TMD_HOST_DEVICE inline Bfloat16 narrowed<Bfloat16>(float x) {
  return to_bfloat16(x);
}

template <class T, int N>
struct Pack {
  T at[N];
};

/// Elements of a pack so that the narrower of the two types fills 16 bytes.
template <class X, class Y = X>
constexpr int kPack = 16 / static_cast<int>(sizeof(X) < sizeof(Y) ? sizeof(X) : sizeof(Y));

/// What one instruction moves of a pack of N.
template <class X, int N>
struct alignas(N * sizeof(X) < 16 ? N * sizeof(X) : 16) Chunk {
  static constexpr int kElements = N * sizeof(X) < 16 ? N : static_cast<int>(16 / sizeof(X));
  X element[kElements];
  TMD_HOST_DEVICE static bool fits(const X* p) {
    return reinterpret_cast<uintptr_t>(p) % alignof(Chunk) == 0;
  }
};

/// The first `count` of N elements at `p`, more than N counting as N; zeros behind them.
template <int N, class X>
TMD_HOST_DEVICE inline Pack<Compute<X>, N> load(const X* p, int count = N) {
  using C = Chunk<X, N>;
  Pack<Compute<X>, N> pack;
  if (count >= N && C::fits(p)) {
    for (int k = 0; k < N / C::kElements; ++k) {
      const C chunk = reinterpret_cast<const C*>(p)[k];
      for (int j = 0; j < C::kElements; ++j) pack.at[k * C::kElements + j] = widened(chunk.element[j]);
    }
  } else {
    for (int j = 0; j < N; ++j) pack.at[j] = j < count ? widened(p[j]) : Compute<X>{0};
  }
  return pack;
}

/// Writes the first `count` elements, rounded to X, more than N counting as N.
template <class X, int N>
TMD_HOST_DEVICE inline void store(X* p, const Pack<Compute<X>, N>& pack, int count = N) {
  using C = Chunk<X, N>;
  if (count >= N && C::fits(p)) {
    for (int k = 0; k < N / C::kElements; ++k) {
      C chunk;
      for (int j = 0; j < C::kElements; ++j) chunk.element[j] = narrowed<X>(pack.at[k * C::kElements + j]);
      reinterpret_cast<C*>(p)[k] = chunk;
    }
  } else {
    for (int j = 0; j < N; ++j) {
      if (j < count) p[j] = narrowed<X>(pack.at[j]);
    }
  }
}

/// A flat range cut into packs of N so that all but the first begin where the range's own pointer is aligned.
struct FlatCut {
  int64_t n;
  int lead;  ///< elements by which the first pack is short
  int64_t packs;
};
template <int N, class X>
inline FlatCut cut_flat(const X* p, int64_t n) {
  const int lead = static_cast<int>(reinterpret_cast<uintptr_t>(p) / sizeof(X) % N);
  return {n, lead, n == 0 ? 0 : (n + lead + N - 1) / N};
}
/// Pack `number` of a cut: `count` elements from `begin` on; none if it lies behind the range.
template <int N>
struct FlatPack {
  int64_t begin;
  int count;
  TMD_HOST_DEVICE FlatPack(const FlatCut& cut, int64_t number) {
    const int64_t first = number * N - cut.lead, end = first + N < cut.n ? first + N : cut.n;
    begin = first < 0 ? 0 : first;
    count = end > begin ? static_cast<int>(end - begin) : 0;
  }
};

}  // namespace tmd::device
