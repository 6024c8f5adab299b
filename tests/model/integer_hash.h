#pragma once

#include <cmath>
#include <cstdint>

#include <ATen/ATen.h>

namespace tmd::test {

/// Numbers in [-1, 1) from an integer hash: element i of tensor k is the same in every language, so reference
/// values computed elsewhere need no files.
inline double hashed(uint64_t k, uint64_t i) {
  uint64_t z = (k << 32) + (i + 1);
  z *= 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  return static_cast<double>(z >> 40) / 16777216.0 * 2 - 1;
}

inline at::Tensor hashed_tensor(uint64_t k, at::IntArrayRef shape, double scale = 1) {
  at::Tensor out = at::empty(shape, at::kDouble);
  for (int64_t i = 0; i < out.numel(); ++i)
    out.data_ptr<double>()[i] = scale * hashed(k, static_cast<uint64_t>(i));
  return out;
}

}  // namespace tmd::test
