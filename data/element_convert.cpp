#include "data/element_convert.h"

#include <bit>

#include "base/error.h"

namespace tmd::data {
namespace {

// Exponents are re-biased from 15 to 127 by adding 112. A subnormal half is read as 2^-14 (1 + mantissa /
// 1024) and loses the 2^-14 again, so that no subnormal float ever appears in between.
inline float float_from_half(uint16_t half) {
  constexpr uint32_t kRebias = 112u << 23;
  constexpr uint32_t kSmallestNormal = 113u << 23;  // 2^-14
  const uint32_t magnitude = half & 0x7fffu;
  const uint32_t shifted = magnitude << 13;
  const uint32_t normal = shifted + kRebias + (magnitude >= 0x7c00u ? kRebias : 0u);
  const float small = std::bit_cast<float>(shifted + kSmallestNormal) - std::bit_cast<float>(kSmallestNormal);
  const uint32_t bits = magnitude < 0x400u ? std::bit_cast<uint32_t>(small) : normal;
  return std::bit_cast<float>(bits | (half & 0x8000u) << 16);
}

}  // namespace

void float_from_half(std::span<const uint16_t> half, std::span<float> out) {
  ensure(half.size() == out.size(), "as many floats as halves");
  for (size_t i = 0; i < half.size(); ++i) out[i] = float_from_half(half[i]);
}

void float_from_bfloat16(std::span<const uint16_t> bfloat16, std::span<float> out) {
  ensure(bfloat16.size() == out.size(), "as many floats as bfloat16 numbers");
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = std::bit_cast<float>(static_cast<uint32_t>(bfloat16[i]) << 16);
}

bool is_finite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000u;
  uint32_t bad = 0;
  for (const float value : values) bad |= (std::bit_cast<uint32_t>(value) & kExponent) == kExponent ? 1u : 0u;
  return bad == 0;
}

bool is_zero(std::span<const float> values) {
  uint32_t bits = 0;
  for (const float value : values) bits |= std::bit_cast<uint32_t>(value);
  return (bits & 0x7fffffffu) == 0;
}

}  // namespace tmd::data
