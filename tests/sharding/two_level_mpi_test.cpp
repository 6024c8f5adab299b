// Weights over the inner group, the optimizer over all: against the same replicas with whole optimizers.

#include <optional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "mpi_main.h"
#include "sharding/adamw.h"
#include "sharding/gradient_sink.h"
#include "sharding/initialise.h"
#include "sharding/network_bytes.h"

namespace tmd::sharding {
namespace {

std::vector<UnitSpec> units() {
  std::vector<UnitSpec> units;
  for (const char* name : {"a", "b"}) {
    const std::string prefix = std::string(name) + ".";
    UnitSpec& unit = units.emplace_back(UnitSpec{.name = name, .params = {}});
    unit.params.push_back({.name = prefix + "w", .shape = {37, 11}, .init = Initialiser::normal(1)});
    unit.params.push_back({.name = prefix + "scale", .shape = {41}, .init = Initialiser::normal(1)});
    unit.params.back().wide = true;
    unit.params.back().lr_multiplier = 3;
    unit.params.push_back({.name = prefix + "b", .shape = {5}, .init = Initialiser::normal(1)});
    unit.params.back().weight_decay = false;
  }
  return units;
}

std::vector<MeshShape> shapes() {
  const int64_t n = test::world().size();
  if (n == 4) return {{4, 1, 1, 1, true}, {2, 2, 1, 1, true}};
  return {{n, 1, 1, 1, true}};
}

/// A network with what trains it, on gradients that are small whole numbers: sums are exact in every order.
struct Trained {
  Trained(const Mesh& mesh, at::ScalarType type)
      : network("network", units(), mesh, type, true, buffers), optimizer(network) {
    initialise(network, 11);
    average.emplace(network);
  }

  void step() {
    const int64_t rank = network.mesh().world().rank();
    for (int unit = 0; unit < network.units(); ++unit) {
      std::vector<at::Tensor> gradients;
      for (const ParamSpec& param : network.spec(unit).params) {
        const at::Tensor n = at::arange(param.elements(), at::kFloat).view(param.shape);
        gradients.push_back(at::remainder(n * (rank + 3) + unit, 7) - 3);
      }
      GradientSink sink(network, unit);
      for (size_t i = 0; i < gradients.size(); ++i) sink.put(static_cast<int>(i), gradients[i]);
      sink.finish();
    }
    network.reduce_over_replicas();
    norm = gradient_norm({&network});
    optimizer.step({.lr = 1e-2}, clip_factor(norm, 5), &*average, 0.75);
  }

  std::vector<at::Tensor> all_values() {
    std::vector<at::Tensor> values;
    const auto add = [&] {
      for (const UnitSpec& unit : units()) {
        for (const ParamSpec& param : unit.params) values.push_back(network.full_parameter(param.name));
      }
      for (int unit = 0; unit < network.units(); ++unit) {
        const auto gathered = network.gather(unit);
        for (const at::Tensor& param : gathered.params) values.push_back(param.clone());
      }
    };
    add();
    average->swap(network);
    add();
    average->swap(network);
    for (int unit = 0; unit < network.units(); ++unit) {
      for (at::Tensor& gradient : network.full_gradients(unit)) values.push_back(std::move(gradient));
    }
    return values;
  }

  GatherBuffers buffers;
  ShardedNetwork network;
  AdamW optimizer;
  std::optional<ExponentialAverage> average;
  double norm = 0;
};

void expect_same(const std::vector<at::Tensor>& expected, const std::vector<at::Tensor>& actual,
                 const std::string& where) {
  EXPECT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < std::min(expected.size(), actual.size()); ++i)
    EXPECT_TRUE(expected[i].equal(actual[i])) << "value " << i << " on " << where;
}

}  // namespace

TEST(TwoLevels, steps_have_the_bits_of_whole_optimizers) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const MeshShape& shape : shapes()) {
      MeshShape one_level = shape;
      one_level.two_level = false;
      Mesh mesh(shape, test::world()), plain_mesh(one_level, test::world());
      {
        Trained trained(mesh, type), plain(plain_mesh, type);
        expect_same(plain.all_values(), trained.all_values(), shape.to_string() + " at the start");
        for (int step = 0; step < 3; ++step) {
          for (Trained* one : {&trained, &plain}) {
            one->step();
            if (step < 2) one->network.zero_gradients();
          }
          EXPECT_NEAR(plain.norm, trained.norm, 1e-12 * plain.norm);
        }
        expect_same(plain.all_values(), trained.all_values(), shape.to_string());
      }
      plain_mesh.close();
      mesh.close();
    }
  }
}

// Networks that share the memory of their gradients: looking at one leaves the other's alone.
TEST(Gradients, of_a_network_that_has_none_are_zero_and_take_nothing_from_another) {
  for (const bool two_level : {false, true}) {
    Mesh mesh({test::world().size(), 1, 1, 1, two_level}, test::world());
    {
      GatherBuffers buffers;
      GradientArena arena;
      ShardedNetwork first("first", units(), mesh, at::kFloat, true, buffers, &arena);
      ShardedNetwork second("second", units(), mesh, at::kFloat, true, buffers, &arena);
      const auto pass = [](ShardedNetwork& network, double value) {
        for (int unit = 0; unit < network.units(); ++unit) {
          GradientSink sink(network, unit);
          for (size_t i = 0; i < network.spec(unit).params.size(); ++i)
            sink.put(static_cast<int>(i), at::full(network.spec(unit).params[i].shape, value));
          sink.finish();
        }
        network.reduce_over_replicas();
      };
      const double ranks = test::world().size();
      pass(first, 2);
      EXPECT_EQ(second.full_gradient("a.w").abs().max().item<double>(), 0);
      EXPECT_EQ(first.full_gradient("a.w").min().item<double>(), 2 * ranks);
      first.zero_gradients();
      EXPECT_EQ(first.full_gradients(0)[0].abs().max().item<double>(), 0);
      pass(second, 3);
      pass(first, 5);
      EXPECT_EQ(first.full_gradient("b.scale").max().item<double>(), 5 * ranks)
          << "what another left was added";
      first.zero_gradients();
    }
    mesh.close();
  }
}

TEST(TwoLevels, networks_are_copied_between_trained_and_frozen_ones) {
  for (const MeshShape& shape : shapes()) {
    Mesh mesh(shape, test::world());
    {
      GatherBuffers buffers;
      ShardedNetwork trained("trained", units(), mesh, at::kBFloat16, true, buffers);
      ShardedNetwork frozen("frozen", units(), mesh, at::kBFloat16, false, buffers);
      ShardedNetwork exact("exact", units(), mesh, at::kFloat, false, buffers);
      initialise(exact, 2);
      initialise(trained, 9);
      EXPECT_EQ(copy_parameters(exact, trained), 0);
      EXPECT_EQ(copy_parameters(trained, frozen), 0);
      const at::Tensor w = exact.full_parameter("b.w");
      EXPECT_TRUE(trained.full_parameter("b.w").equal(w));
      EXPECT_TRUE(frozen.full_parameter("b.w").equal(w.to(at::kBFloat16)));
      EXPECT_TRUE(trained.gather(1).params[0].equal(w.to(at::kBFloat16)));
    }
    mesh.close();
  }
}

TEST(TwoLevels, the_optimizer_is_cut_over_all_ranks_and_bytes_are_foretold) {
  for (const MeshShape& shape : shapes()) {
    Mesh mesh(shape, test::world());
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      GatherBuffers buffers;
      ShardedNetwork network("network", units(), mesh, type, true, buffers);
      const NetworkBytes bytes = network_bytes(units(), mesh.extents(), type, true);
      int64_t kept = 0;
      for (int unit = 0; unit < network.units(); ++unit) {
        const UnitShard& shard = network.shard(unit);
        EXPECT_EQ(shard.master.numel() * shape.replicate, network.layout(unit).shard_elements());
        std::vector<at::Tensor> all = {shard.master, shard.gradient};
        if (shape.replicate > 1) {
          all.push_back(shard.piece_gradient);
          all.insert(all.end(), shard.parts.begin(), shard.parts.end());
        }
        for (const at::Tensor& one : all) kept += static_cast<int64_t>(one.nbytes());
      }
      EXPECT_EQ(bytes.kept, kept);
      EXPECT_EQ(bytes.buffers, buffers.bytes());
    }
    mesh.close();
  }
}

}  // namespace tmd::sharding
