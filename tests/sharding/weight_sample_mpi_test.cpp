// Remembered weights: the same elements on every mesh.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "mpi_main.h"
#include "sharding/initialise.h"
#include "sharding/weight_sample.h"

namespace tmd::sharding {
namespace {

std::vector<UnitSpec> units() {
  std::vector<UnitSpec> units;
  for (const char* name : {"a", "b"}) {
    const std::string prefix = std::string(name) + ".";
    UnitSpec& unit = units.emplace_back(UnitSpec{.name = name, .params = {}});
    unit.params.push_back({.name = prefix + "w", .shape = {36, 24}, .init = Initialiser::normal(1)});
    unit.params.back().split_dim = 1;
    unit.params.push_back({.name = prefix + "v", .shape = {24, 5}, .init = Initialiser::normal(1)});
    unit.params.back().split_dim = 0;
    unit.params.push_back({.name = prefix + "scale", .shape = {41}, .init = Initialiser::normal(1)});
    unit.params.back().wide = true;
  }
  return units;
}

std::vector<MeshShape> shapes() {
  const int64_t n = test::world().size();
  std::vector<MeshShape> list = {{1, n, 1, 1}, {n, 1, 1, 1}, {1, 1, n, 1}, {1, 1, 1, n}};
  if (n > 1) list.push_back({n, 1, 1, 1, true});
  if (n == 4) list.push_back({2, 1, 1, 2, true});
  return list;
}

// All elements of all parameters, in order.
at::Tensor all_weights(ShardedNetwork& network) {
  std::vector<at::Tensor> flat;
  for (const UnitSpec& unit : units()) {
    for (const ParamSpec& param : unit.params)
      flat.push_back(network.full_parameter(param.name).flatten().to(at::kDouble));
  }
  return at::cat(flat);
}

TEST(WeightSample, as_many_as_there_are_is_all_of_them_in_order) {
  for (const MeshShape& shape : shapes()) {
    Mesh mesh(shape, test::world());
    GatherBuffers buffers;
    ShardedNetwork network("network", units(), mesh, at::kFloat, true, buffers);
    initialise(network, 5);
    EXPECT_TRUE(at::equal(sample_weights(network, 1 << 20), all_weights(network))) << shape.to_string();
    mesh.close();
  }
}

TEST(WeightSample, few_are_spread_evenly_and_the_same_on_every_mesh) {
  at::Tensor expected;
  for (const MeshShape& shape : shapes()) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Mesh mesh(shape, test::world());
      GatherBuffers buffers;
      ShardedNetwork network("network", units(), mesh, type, true, buffers);
      initialise(network, 5);
      const at::Tensor found = sample_weights(network, 100), all = all_weights(network);
      ASSERT_EQ(found.numel(), 100);
      for (int64_t k = 0; k < 100; ++k) {
        const int64_t begin = k * all.numel() / 100, end = (k + 1) * all.numel() / 100;
        EXPECT_TRUE((all.slice(0, begin, end) == found[k]).any().item<bool>())
            << shape.to_string() << " " << k;
      }
      if (!expected.defined()) expected = found;
      EXPECT_TRUE(at::equal(found, expected)) << shape.to_string();
      mesh.close();
    }
  }
}

TEST(ShareMoved, counts_what_bfloat16_would_notice) {
  const at::Tensor before = at::tensor({1.0, 1.0, 0.0, 0.0, -2.0}, at::kDouble);
  const at::Tensor after = at::tensor({1.001, 1.01, 0.0, 1e-9, 2.0}, at::kDouble);
  EXPECT_DOUBLE_EQ(share_moved(before, after), 0.6);
  EXPECT_DOUBLE_EQ(share_moved(before, before), 0);
}

}  // namespace
}  // namespace tmd::sharding
