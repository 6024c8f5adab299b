#include "data/element_convert.h"

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace tmd::data {
namespace {

std::vector<uint16_t> all_words() {
  std::vector<uint16_t> words(65536);
  std::iota(words.begin(), words.end(), uint16_t{0});
  return words;
}

float half_value(uint16_t half) {
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const float sign = half & 0x8000 ? -1.f : 1.f;
  if (exponent == 31) return mantissa ? std::nanf("") : sign * std::numeric_limits<float>::infinity();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

TEST(ElementConvert, float_from_half_of_every_word) {
  const std::vector<uint16_t> words = all_words();
  std::vector<float> values(words.size());
  float_from_half(words, values);
  for (uint16_t word : words) {
    const float expected = half_value(word);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(values[word])) << word;
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(values[word]), std::bit_cast<uint32_t>(expected)) << word;
    }
  }
  EXPECT_EQ(values[1], 0x1p-24f) << "the smallest subnormal";
  EXPECT_TRUE(std::signbit(values[0x8000]));
}

TEST(ElementConvert, float_from_bfloat16_of_every_word) {
  const std::vector<uint16_t> words = all_words();
  std::vector<float> values(words.size());
  float_from_bfloat16(words, values);
  for (uint16_t word : words) ASSERT_EQ(std::bit_cast<uint32_t>(values[word]) >> 16, word);
  EXPECT_EQ(values[0x3f80], 1.f);
  EXPECT_EQ(values[0x0001], std::bit_cast<float>(0x00010000u)) << "a subnormal";
}

TEST(ElementConvert, is_finite_sees_one_bad_value) {
  std::vector<float> values(1001, -std::numeric_limits<float>::max());
  EXPECT_TRUE(is_finite(values));
  for (float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::nanf("")}) {
    values[1000] = bad;
    EXPECT_FALSE(is_finite(values));
  }
}

TEST(ElementConvert, is_zero_takes_both_signs) {
  std::vector<float> values = {0.f, -0.f, 0.f};
  EXPECT_TRUE(is_zero(values));
  EXPECT_TRUE(is_zero({}));
  values[1] = std::numeric_limits<float>::denorm_min();
  EXPECT_FALSE(is_zero(values));
}

}  // namespace
}  // namespace tmd::data
