#include "orchestrator/operator_cost.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace tmd::orchestrator {

// 2 x weights x places of the result, whatever the stride, in both directions.
TEST(OperatorCost, convolution_costs_the_places_of_its_result) {
  at::Tensor map = at::ones({2, 3, 5, 6, 7}).requires_grad_(true);
  at::Tensor weight = at::ones({4, 3, 3, 3, 3}).requires_grad_(true);
  const double weights = 4 * 3 * 27;
  OperatorCost same, strided, passes;
  at::Tensor out;
  {
    const CountOperators count(same);
    at::conv3d(map, weight, {}, 1, 1);
  }
  {
    const CountOperators count(strided);
    out = at::conv3d(map, weight, {}, {2, 1, 2}, {1, 0, 1});
  }
  ASSERT_EQ(out.sizes(), (std::vector<int64_t>{2, 4, 3, 4, 4}));
  {
    const CountOperators count(passes);
    out.sum().backward();
  }

  EXPECT_EQ(same.product_flops, 2 * weights * 2 * 5 * 6 * 7);
  EXPECT_EQ(strided.product_flops, 2 * weights * 2 * 3 * 4 * 4);
  EXPECT_EQ(passes.product_flops, 2 * strided.product_flops);
}

}  // namespace tmd::orchestrator
