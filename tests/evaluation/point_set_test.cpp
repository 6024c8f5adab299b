#include "evaluation/point_set.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::evaluation {
namespace {

TEST(PointSet, samples_become_rows_of_doubles) {
  const at::Tensor samples = at::arange(12, at::kFloat).view({2, 3, 2}).transpose(1, 2);
  const at::Tensor points = point_set(samples, "samples");
  EXPECT_EQ(points.sizes(), at::IntArrayRef({2, 6}));
  EXPECT_EQ(points.scalar_type(), at::kDouble);
  EXPECT_TRUE(points.is_contiguous());
  EXPECT_EQ(points[0][1].item<double>(), 2);
}

TEST(PointSet, graph_is_left_behind) {
  EXPECT_FALSE(point_set(at::ones({2, 2}).requires_grad_(true), "samples").requires_grad());
}

TEST(PointSet, infinite_value_is_an_error_with_name_count_and_place) {
  at::Tensor samples = at::ones({4, 2});
  samples[2][0] = samples[3][1] = INFINITY;
  try {
    point_set(samples, "samples of the student");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDiverged);
    EXPECT_STREQ(error.what(),
                 "samples of the student: 2 of 4 hold values that are not finite, the first is number 2");
  }
}

TEST(PointSet, nothing_is_an_internal_error) { EXPECT_THROW(point_set(at::empty({0, 3}), "none"), Error); }

}  // namespace
}  // namespace tmd::evaluation
