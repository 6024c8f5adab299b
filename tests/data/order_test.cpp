#include "data/order.h"

#include <algorithm>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::data {
namespace {

std::vector<int64_t> epoch_of(uint64_t seed, int64_t epoch, int64_t n) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < n; ++i) order.push_back(permuted(seed, epoch, n, i));
  return order;
}

TEST(Order, permuted_is_a_permutation_for_any_n) {
  for (int64_t n : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 257, 600, 1023, 4099}) {
    for (int64_t epoch : {0, 1, 5}) {
      std::vector<int64_t> order = epoch_of(3, epoch, n);
      std::ranges::sort(order);
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(order[i], i) << "n " << n << " epoch " << epoch;
    }
  }
}

TEST(Order, permuted_differs_by_seed_and_epoch) {
  const auto order = epoch_of(1, 0, 600);
  EXPECT_NE(order, epoch_of(2, 0, 600));
  EXPECT_NE(order, epoch_of(1, 1, 600));
  EXPECT_EQ(order, epoch_of(1, 0, 600));
  EXPECT_FALSE(std::ranges::is_sorted(order));
}

TEST(Order, permuted_spreads_evenly) {
  // Each of 5 positions lands on each of 5 samples in about a fifth of the epochs; chi-square with 16 degrees
  // of freedom exceeds 45 with probability 1e-4.
  constexpr int kEpochs = 5000;
  int counts[5][5] = {};
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    for (int i = 0; i < 5; ++i) ++counts[i][permuted(9, epoch, 5, i)];
  }
  double chi_square = 0;
  for (const auto& row : counts) {
    for (int count : row) chi_square += (count - kEpochs / 5.0) * (count - kEpochs / 5.0) / (kEpochs / 5.0);
  }
  EXPECT_LT(chi_square, 45);
}

TEST(Order, permuted_has_no_runs_of_neighbours) {
  const auto order = epoch_of(4, 0, 10000);
  int neighbours = 0;
  for (size_t i = 1; i < order.size(); ++i) neighbours += order[i] == order[i - 1] + 1;
  EXPECT_LE(neighbours, 8) << "one is expected";
}

TEST(Order, sample_at_runs_through_epochs) {
  constexpr int64_t kCount = 33;
  for (int64_t position = 0; position < 3 * kCount; ++position) {
    EXPECT_EQ(sample_at(7, kCount, position), permuted(7, position / kCount, kCount, position % kCount));
  }
  const int64_t far = int64_t{1} << 60;
  EXPECT_LT(sample_at(7, int64_t{1} << 40, far), int64_t{1} << 40);
}

// The order that a trainer sees when `bad` samples are quarantined.
std::vector<int64_t> order_without(const std::set<int64_t>& bad, int64_t n) {
  std::vector<int64_t> order;
  for (int64_t position = 0; position < 2 * n; ++position) {
    int64_t sample = sample_at(5, n, position);
    for (int64_t attempt = 1; bad.contains(sample); ++attempt)
      sample = replacement_at(5, n, position, attempt);
    order.push_back(sample);
  }
  return order;
}

TEST(Order, replacement_at_moves_no_other_position) {
  constexpr int64_t kCount = 50;
  const auto clean = order_without({}, kCount), one = order_without({17}, kCount),
             two = order_without({17, 23}, kCount);
  for (size_t i = 0; i < clean.size(); ++i) {
    EXPECT_NE(one[i], 17);
    if (clean[i] != 17) {
      EXPECT_EQ(one[i], clean[i]);
    }
    if (one[i] != 23) {
      EXPECT_EQ(two[i], one[i]);
    }
  }
}

TEST(Order, replacement_at_depends_on_position_epoch_and_attempt) {
  std::set<int64_t> seen;
  for (int64_t position : {0, 1, 1000000, 2000000}) {
    for (int64_t attempt : {1, 2, 3}) {
      const int64_t sample = replacement_at(5, 1000000, position, attempt);
      EXPECT_GE(sample, 0);
      EXPECT_LT(sample, 1000000);
      seen.insert(sample);
    }
  }
  EXPECT_EQ(seen.size(), 12u);
  EXPECT_NE(replacement_at(5, 1000000, 0, 1), replacement_at(6, 1000000, 0, 1));
}

TEST(Order, misuse) {
  EXPECT_THROW(permuted(0, 0, 5, 5), Error);
  EXPECT_THROW(sample_at(0, 0, 0), Error);
  EXPECT_THROW(sample_at(0, 5, -1), Error);
  EXPECT_THROW(replacement_at(0, 5, 0, 0), Error);
}

}  // namespace
}  // namespace tmd::data
