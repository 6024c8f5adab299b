#include "sharding/initialise.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"

namespace tmd::sharding {

TEST(Initialise, kinds_have_their_moments) {
  test::SingleMesh one;
  ShardedNetwork net("net",
                     {{"unit",
                       {{"normal", {200, 200}, Initialiser::normal(0.5)},
                        {"xavier", {100, 200}, Initialiser::xavier_uniform(200, 100)},
                        {"constant", {3}, Initialiser::constant(2)},
                        {"concat", {4, 8}, Initialiser::identity_then_normal(0.01)}}}},
                     one.mesh, at::kDouble, false, one.buffers);
  initialise(net, 1);

  EXPECT_NEAR(net.full_parameter("normal").std().item<double>(), 0.5, 0.01);
  const double bound = std::sqrt(6.0 / 300);
  EXPECT_LE(net.full_parameter("xavier").abs().max().item<double>(), bound);
  EXPECT_NEAR(net.full_parameter("xavier").std().item<double>(), bound / std::sqrt(3.0), 0.002);
  EXPECT_EQ(net.full_parameter("constant").sum().item<double>(), 6);
  EXPECT_TRUE(net.full_parameter("concat").narrow(1, 0, 4).equal(at::eye(4, at::kDouble)));
  EXPECT_LT(net.full_parameter("concat").narrow(1, 4, 4).abs().max().item<double>(), 0.1);
}

TEST(Initialise, values_depend_on_seed_and_name_only) {
  test::SingleMesh one;
  const auto make = [&one](const std::string& unit_name, std::vector<ParamSpec> params) {
    return ShardedNetwork("net", {{unit_name, std::move(params)}}, one.mesh, at::kFloat, false, one.buffers);
  };
  const ParamSpec w{"w", {5, 5}, Initialiser::normal(1)}, other{"other", {5, 5}, Initialiser::normal(1)};
  ShardedNetwork alone = make("a", {w}), second = make("b", {other, w}), reseeded = make("a", {w});
  initialise(alone, 1);
  initialise(second, 1);
  initialise(reseeded, 2);

  EXPECT_TRUE(alone.full_parameter("w").equal(second.full_parameter("w")));
  EXPECT_FALSE(second.full_parameter("w").equal(second.full_parameter("other")));
  EXPECT_FALSE(alone.full_parameter("w").equal(reseeded.full_parameter("w")));
}

TEST(CopyParameters, takes_equal_names_and_reports_what_is_missing) {
  test::SingleMesh one;
  const ParamSpec w{"w", {4}, Initialiser::normal(1)}, extra{"extra", {3}, Initialiser::normal(1)};
  ShardedNetwork source("source", {{"a", {w}}}, one.mesh, at::kFloat, false, one.buffers);
  ShardedNetwork target("target", {{"x", {extra}}, {"y", {w}}}, one.mesh, at::kFloat, false, one.buffers);
  initialise(source, 1);
  initialise(target, 2);

  EXPECT_EQ(copy_parameters(source, target), 3);
  EXPECT_TRUE(target.full_parameter("w").equal(source.full_parameter("w")));
}

TEST(BlendParameters, moves_the_units_that_are_taken_and_no_other) {
  test::SingleMesh one;
  const ParamSpec a{"a.w", {4}, Initialiser::normal(1)}, b{"b.w", {3}, Initialiser::normal(1)};
  ShardedNetwork source("source", {{"a", {a}}, {"b", {b}}}, one.mesh, at::kDouble, true, one.buffers);
  ShardedNetwork target("target", {{"b", {b}}, {"a", {a}}}, one.mesh, at::kDouble, true, one.buffers);
  initialise(source, 1);
  initialise(target, 2);
  const at::Tensor was = target.full_parameter("a.w").clone(), kept = target.full_parameter("b.w").clone();

  blend_parameters(source, target, 0.25, [](const std::string& unit) { return unit == "a"; });

  const at::Tensor expected = 0.75 * was + 0.25 * source.full_parameter("a.w");
  EXPECT_LT((target.full_parameter("a.w") - expected).abs().max().item<double>(), 1e-15);
  EXPECT_TRUE(target.full_parameter("b.w").equal(kept));
}

}  // namespace tmd::sharding
