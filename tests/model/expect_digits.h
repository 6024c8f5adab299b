#pragma once

#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace tmd::test {

/// What is written down of a reference tensor, to nine decimals; the sum, to six.
struct Digits {
  std::vector<double> first;
  double last, sum, sum_of_squares;
};

/// Expects that float64 `actual`, flattened, has all the digits.
inline void expect_digits(const at::Tensor& actual, const Digits& expected) {
  constexpr double kLastDigit = 1e-9;
  const at::Tensor flat = actual.flatten();
  for (size_t i = 0; i < expected.first.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected.first[i], kLastDigit) << i;
  }
  EXPECT_NEAR(flat[-1].item<double>(), expected.last, kLastDigit);
  EXPECT_NEAR(flat.sum().item<double>(), expected.sum, 5e-7);
  EXPECT_NEAR(flat.square().sum().item<double>(), expected.sum_of_squares, kLastDigit);
}

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace tmd::test
