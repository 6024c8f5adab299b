#include "method/flow.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace tmd::method {

TEST(Flow, shift_is_one_to_one_and_keeps_the_ends) {
  EXPECT_EQ(shift(0.0, 7), 0);
  EXPECT_EQ(shift(1.0, 7), 1);
  EXPECT_NEAR(shift(0.4995, 10), 0.908925, 1e-6);
  EXPECT_EQ(shift(0.3, 1), 0.3);
}

TEST(Flow, velocity_of_the_straight_path_leads_back_to_the_data) {
  const at::Tensor x = at::randn({3, 2, 1, 2, 2}), noise = at::randn_like(x);
  const at::Tensor t = at::tensor({0.1, 0.5, 0.999}, at::kDouble);

  const at::Tensor back = clean_of(interpolate(x, noise, t), t, noise - x);

  EXPECT_LT((back - x).abs().max().item<double>(), 1e-6);
}

TEST(Flow, guidance_of_one_is_the_condition) {
  const at::Tensor a = at::ones({2}), b = at::zeros({2});
  EXPECT_TRUE(guide(a, b, 1).equal(a));
  EXPECT_TRUE(guide(a, b, 3).equal(3 * a));
}

}  // namespace tmd::method
