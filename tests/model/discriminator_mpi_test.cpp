// Branches of every kind, dealt over sample groups and cut over shards, against one rank.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"
#include "model/discriminator.h"
#include "mpi_main.h"
#include "toy_discriminator.h"

namespace tmd::model {
namespace {

using sharding::MeshShape;

constexpr int64_t kBatch = 12;

DiscriminatorConfig three_branches(DiscriminatorKind kind) {
  DiscriminatorConfig config = test::toy_discriminator(kind);
  config.heads = 3;
  return config;
}

std::vector<MeshShape> meshes(int64_t ranks) {
  std::vector<MeshShape> list = {{1, ranks, 1, 1}, {1, 1, ranks, 1}, {1, 1, 1, ranks}, {ranks, 1, 1, 1}};
  if (ranks == 4) {
    list.push_back({1, 2, 2, 1});
    list.push_back({2, 1, 1, 2});
  }
  return list;
}

/// What one pass gives on the rows of a mesh's rank.
struct Pass {
  Pass(const DiscriminatorConfig& config, const sharding::Mesh& mesh)
      : each(kBatch / mesh.data_ranks()), first(mesh.data_rank() * each) {
    sharding::GatherBuffers buffers;
    sharding::ShardedNetwork network("disc", discriminator_units(config), mesh, at::kDouble, true, buffers);
    test::fill_discriminator(network);
    std::vector<at::Tensor> maps, keep;
    for (uint64_t k = 0; k < 3; ++k) {
      maps.push_back(rows(test::hashed_tensor(k, {kBatch, 8, 3, 4, 6})).clone().requires_grad_(true));
      keep.push_back(rows(test::hashed_tensor(10 + k, {kBatch, config.hidden}).gt(0).to(at::kDouble)));
    }
    logits = Discriminator(config, network).forward(maps, keep, true);
    (logits.square().sum() / kBatch).backward();
    for (const at::Tensor& map : maps) {
      map_gradients.push_back(map.grad().defined() ? map.grad() : at::zeros_like(map));
      mesh.sample_group().all_reduce(map_gradients.back(), comm::ReduceOp::kSum).wait();
    }
    network.reduce_over_replicas();
    for (int unit = 0; unit < network.units(); ++unit) {
      for (const at::Tensor& gradient : network.full_gradients(unit)) gradients.push_back(gradient.clone());
      for (const sharding::ParamSpec& param : network.spec(unit).params) names.push_back(param.name);
    }
  }

  at::Tensor rows(const at::Tensor& all) const { return all.narrow(0, first, each); }

  int64_t each, first;
  at::Tensor logits;
  std::vector<at::Tensor> map_gradients, gradients;
  std::vector<std::string> names;
};

double relative(const at::Tensor& expected, const at::Tensor& actual) {
  return (expected - actual).norm().item<double>() / (expected.norm().item<double>() + 1e-30);
}

void expect_same(const Pass& one, const Pass& many, const std::string& where) {
  EXPECT_LT(relative(many.rows(one.logits), many.logits), 1e-12) << where;
  for (size_t i = 0; i < one.map_gradients.size(); ++i) {
    EXPECT_LT(relative(many.rows(one.map_gradients[i]), many.map_gradients[i]), 1e-11)
        << "map " << i << " on " << where;
  }
  for (size_t i = 0; i < one.gradients.size(); ++i) {
    if (one.names[i].ends_with(".k.bias")) continue;  // zero but for rounding
    EXPECT_GT(one.gradients[i].norm().item<double>(), 0) << one.names[i];
    EXPECT_LT(relative(one.gradients[i], many.gradients[i]), 1e-11) << one.names[i] << " on " << where;
  }
}

}  // namespace

TEST(DiscriminatorMpi, every_kind_on_every_mesh_is_that_of_one_rank) {
  for (const auto kind :
       {DiscriminatorKind::kConv3d, DiscriminatorKind::kConv1d2d, DiscriminatorKind::kAttention}) {
    test::SingleMesh alone;
    const Pass one(three_branches(kind), alone.mesh);
    for (const MeshShape& shape : meshes(test::world().size())) {
      sharding::Mesh mesh(shape, test::world());
      expect_same(one, Pass(three_branches(kind), mesh), test::kind_name(kind) + " on " + shape.to_string());
      mesh.close();
    }
  }
}

}  // namespace tmd::model
