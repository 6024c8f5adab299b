#include "base/philox.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace tmd {

// The published test vector of Philox4x32-10 for counter 0 and key 0 (Random123, kat_vectors).
TEST(PhiloxStream, first_words_are_the_published_ones) {
  const PhiloxStream stream(0, 0, 0, static_cast<Purpose>(0));

  EXPECT_EQ(stream.bits(0), 0x6627e8d5u);
  EXPECT_EQ(stream.bits(1), 0xe169c58du);
  EXPECT_EQ(stream.bits(2), 0xbc57ac4cu);
  EXPECT_EQ(stream.bits(3), 0x9b00dbd8u);
}

TEST(PhiloxStream, filling_equals_single_draws) {
  const PhiloxStream stream(7, 3, 11, Purpose::kOuterNoise);
  std::vector<float> normal(13);
  std::vector<double> uniform(13);

  stream.fill_normal(std::span(normal));
  stream.fill_uniform(uniform);

  for (size_t i = 0; i < normal.size(); ++i) {
    EXPECT_EQ(normal[i], static_cast<float>(stream.normal(i)));
    EXPECT_EQ(uniform[i], stream.uniform(i));
    EXPECT_GE(uniform[i], 0);
    EXPECT_LT(uniform[i], 1);
  }
}

TEST(PhiloxStream, bounded_integers_reach_both_ends) {
  const PhiloxStream stream(7, 3, 11, Purpose::kOrder);
  bool low = false, high = false;
  for (uint64_t i = 0; i < 1000; ++i) {
    const uint64_t value = stream.below(i, 5);
    ASSERT_LT(value, 5u);
    low |= value == 0;
    high |= value == 4;
  }
  EXPECT_TRUE(low && high);
}

TEST(NormalQuantile, inverts_the_distribution_function) {
  for (double x : {-6.0, -2.5, -1.0, -0.1, 0.0, 0.3, 1.5, 3.0, 5.5}) {
    const double p = 0.5 * std::erfc(-x / std::sqrt(2.0));
    EXPECT_NEAR(normal_quantile(p), x, 2e-8 * (1 + std::abs(x))) << x;
  }
  EXPECT_EQ(normal_quantile(0.5), 0);
}

TEST(PortableLog, agrees_with_the_library_to_the_last_bits) {
  for (double x : {1e-300, 1e-9, 0.02, 0.5, 0.70710678, 1.0, 1.41421356, 2.0, 10.0, 1e9}) {
    EXPECT_NEAR(portable_log(x), std::log(x), 4e-16 * (1 + std::abs(std::log(x)))) << x;
  }
}

}  // namespace tmd
