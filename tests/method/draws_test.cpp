#include "method/draws.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "method/flow.h"

namespace tmd::method {
namespace {

std::vector<int64_t> slots(int64_t first, int64_t count) {
  std::vector<int64_t> list;
  for (int64_t i = 0; i < count; ++i) list.push_back(first + i);
  return list;
}

}  // namespace

TEST(Draws, parts_of_a_batch_draw_what_the_whole_draws) {
  const auto all = slots(0, 6), front = slots(0, 2), back = slots(2, 4);
  const at::Tensor whole = draw_normal({3, 9, all}, Purpose::kOuterNoise, {2, 1, 2, 2}, at::kFloat);
  const at::Tensor parts =
      at::cat({draw_normal({3, 9, front}, Purpose::kOuterNoise, {2, 1, 2, 2}, at::kFloat),
               draw_normal({3, 9, back}, Purpose::kOuterNoise, {2, 1, 2, 2}, at::kFloat)});
  EXPECT_TRUE(whole.equal(parts));
}

TEST(Draws, seed_iteration_slot_and_purpose_all_matter) {
  const auto one = slots(0, 1), other = slots(1, 1);
  const auto value = [](uint64_t seed, uint64_t iteration, std::span<const int64_t> s, Purpose purpose) {
    return draw_normal({seed, iteration, s}, purpose, {1}, at::kDouble).item<double>();
  };
  const double base = value(1, 1, one, Purpose::kOuterNoise);
  EXPECT_NE(base, value(2, 1, one, Purpose::kOuterNoise));
  EXPECT_NE(base, value(1, 2, one, Purpose::kOuterNoise));
  EXPECT_NE(base, value(1, 1, other, Purpose::kOuterNoise));
  EXPECT_NE(base, value(1, 1, one, Purpose::kInnerNoise));
  EXPECT_EQ(base, value(1, 1, one, Purpose::kOuterNoise));
}

TEST(Draws, normal_numbers_have_the_moments_of_a_normal_distribution) {
  const auto one = slots(0, 1);
  const at::Tensor x = draw_normal({5, 1, one}, Purpose::kOuterNoise, {1'000'000}, at::kDouble);
  EXPECT_NEAR(x.mean().item<double>(), 0, 0.004);
  EXPECT_NEAR(x.std().item<double>(), 1, 0.003);
  EXPECT_NEAR(x.pow(4).mean().item<double>(), 3, 0.03);
}

TEST(Draws, shares_and_indices_are_as_asked) {
  const auto many = slots(0, 50'000);
  const DrawKey key{5, 1, many};
  EXPECT_NEAR(draw_bernoulli(key, Purpose::kFlowMatching, 0.75).to(at::kDouble).mean().item<double>(), 0.75,
              0.01);
  const at::Tensor index = draw_index(key, Purpose::kOuterTime, 4);
  EXPECT_EQ(index.min().item<int64_t>(), 1);
  EXPECT_EQ(index.max().item<int64_t>(), 4);
  EXPECT_NEAR(index.to(at::kDouble).mean().item<double>(), 2.5, 0.02);
}

// t_d = clamp(shift(U; 5)): the distribution function of shift(U; g) at t is the inverse shift, t / (g - (g -
// 1) t).
TEST(Draws, diffusion_times_follow_their_shift) {
  const auto many = slots(0, 50'000);
  const at::Tensor u = draw_uniform({5, 1, many}, Purpose::kDiffusionTime, 0.001, 0.999);
  const at::Tensor td = shifted_time(u, 5, 0.001, 0.999);
  EXPECT_GE(td.min().item<double>(), 0.001);
  EXPECT_LE(td.max().item<double>(), 0.999);
  EXPECT_GT(td.eq(0.999).sum().item<int64_t>(), 0) << "the clamp is reached";
  const auto below = [](double t) { return t / (5 - 4 * t); };
  for (int bin = 0; bin < 10; ++bin) {
    const double low = bin / 10.0, high = (bin + 1) / 10.0;
    const double share = td.ge(low).logical_and(td.lt(high)).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(share, below(high) - below(low), 0.006) << "bin " << bin;
  }
}

TEST(Draws, dropout_masks_of_heads_differ_and_keep_their_share) {
  const auto many = slots(0, 2000);
  const at::Tensor a = draw_keep_mask({5, 1, many}, Purpose::kDropoutFake, 0, 16, 0.1, at::kFloat);
  const at::Tensor b = draw_keep_mask({5, 1, many}, Purpose::kDropoutFake, 1, 16, 0.1, at::kFloat);
  EXPECT_FALSE(a.equal(b));
  EXPECT_NEAR(a.mean().item<double>(), 0.9, 0.01);
}

}  // namespace tmd::method
