#pragma once

#include <cstdint>
#include <span>

// Stored element types to float32, as plain loops that compilers vectorise. Subnormal numbers, infinities and
// NaN keep their values whatever the processor's flush-to-zero setting is.
namespace tmd::data {

/// IEEE half precision. Throws kInternal when the spans differ in size.
void float_from_half(std::span<const uint16_t> half, std::span<float> out);
/// bfloat16: the upper half of a float. Throws kInternal when the spans differ in size.
void float_from_bfloat16(std::span<const uint16_t> bfloat16, std::span<float> out);

/// True when no element is infinite or NaN.
bool is_finite(std::span<const float> values);
/// True when every element is zero (of either sign).
bool is_zero(std::span<const float> values);

}  // namespace tmd::data
