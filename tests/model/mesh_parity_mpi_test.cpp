// A toy of 8 heads on every mesh of the ranks that run this, against one rank that has everything.

#include <cmath>
#include <map>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/canary_communicator.h"
#include "../support/test_mesh.h"
#include "integer_hash.h"
#include "model/discriminator.h"
#include "model/tmd_student.h"
#include "mpi_main.h"
#include "sharding/adamw.h"
#include "sharding/initialise.h"

namespace tmd::model {
namespace {

using sharding::MeshShape;
using sharding::ShardedNetwork;

constexpr int64_t kBatch = 24;  // rows; divisible by every number of data ranks

TmdStudentConfig toy() {
  TmdStudentConfig config;
  config.wan.heads = 8;
  config.wan.head_dim = 6;
  config.wan.ffn = 80;
  config.wan.layers = 4;
  config.wan.channels = 3;
  config.wan.text_dim = 10;
  config.wan.text_length = 5;
  config.wan.freq_dim = 16;
  config.head_blocks = 1;
  return config;
}

DiscriminatorConfig toy_discriminator() {
  DiscriminatorConfig config;
  config.channels = toy().wan.width() / 4;
  config.heads = 3;
  config.scales = {1, 2};
  config.hidden = 20;
  config.dropout = 0;
  return config;
}

std::vector<MeshShape> meshes(int64_t ranks) {
  std::vector<MeshShape> list;
  for (int64_t replicate = 1; replicate <= ranks; ++replicate) {
    for (int64_t sequence = 1; sequence <= ranks; ++sequence) {
      for (int64_t tensor = 1; tensor <= ranks; ++tensor) {
        const int64_t rest = replicate * sequence * tensor;
        if (ranks % rest != 0 || 8 % (sequence * tensor) != 0) continue;
        list.push_back({replicate, ranks / rest, sequence, tensor});
        // The optimizer's pieces do not know of sequences.
        if (replicate > 1 && sequence == 1)
          list.push_back({replicate, ranks / rest, 1, tensor, /*two_level=*/true});
      }
    }
  }
  return list;
}

// Where a case is about more than the numbers of each mesh: every axis alone, and all together.
std::vector<MeshShape> few_meshes(int64_t ranks) {
  if (ranks < 4) return meshes(ranks);
  if (ranks == 4)
    return {{1, 4, 1, 1}, {1, 1, 2, 2}, {2, 1, 1, 2}, {1, 2, 2, 1}, {2, 1, 1, 2, true}, {2, 2, 1, 1, true}};
  return {{1, 2, 2, 2}, {2, 1, 2, 2}, {1, 1, 8, 1}, {2, 2, 1, 2, true}};
}

/// What a pass gives: losses, outputs, gradients; on whole tensors.
using Results = std::map<std::string, at::Tensor>;

/// Student and fake score with a discriminator on `mesh`, trained on a fixed batch whose latents make an odd
/// number of tokens: 3 x 3 x 5.
class Nets {
 public:
  Nets(const sharding::Mesh& mesh, at::ScalarType type, int64_t keep = 0)
      : mesh_(mesh),
        wide_(type == at::kBFloat16 ? at::kFloat : type),
        student_net_("student", tmd_student_units(toy()), mesh, type, true, buffers_, &arena_),
        fake_net_("fake", wan_units(toy().wan), mesh, type, true, buffers_, &arena_),
        disc_net_("disc", discriminator_units(toy_discriminator()), mesh, wide_, true, buffers_),
        student_(toy(), student_net_),
        fake_(toy().wan, fake_net_),
        disc_(toy_discriminator(), disc_net_) {
    if (keep > 0) student_net_.keep_units(1, static_cast<int>(keep)), fake_net_.keep_units(3, 1);
    for (ShardedNetwork* net : nets()) {
      sharding::initialise(*net, 7);
      sharding::fill_slices(*net, [](const sharding::Slice& slice, at::Tensor out) {
        if (slice.name != "head.head.weight" && slice.name.find("tmd.delta_") == std::string::npos) return;
        for (int64_t i = 0; i < out.numel(); ++i) {  // nothing of it may stay zero
          out[i] = 0.2 * std::sin(0.7 * static_cast<double>(slice.place_in_tensor(slice.flat_begin + i)));
        }
      });
    }
  }

  std::vector<ShardedNetwork*> nets() { return {&student_net_, &fake_net_, &disc_net_}; }
  sharding::GatherBuffers& buffers() { return buffers_; }

  // Two phases as in stage 2: each updates its networks, and the student's goes through the fake score.
  Results student_pass() {
    Results results;
    buffers_.begin_phase("student");
    const at::Tensor y = rows(test::hashed_tensor(3, {kBatch, 3, 3, 6, 10})).to(wide_);
    const auto m = student_.backbone(latents(1), time(400), text(), true);
    const at::Tensor x = student_.head(y, time(900), time(300), m, true);
    const WanDit::Output out = fake_.forward(x, time(600), text(), {false, {1, 2, 3}, false});
    const at::Tensor loss = out.velocity.square().flatten(1).sum(1) / 100 +
                            disc_.forward(out.features, {}, false).sum(1) + x.sum({1, 2, 3, 4}) / 10;
    (loss.sum() / kBatch).backward();
    buffers_.end_phase();
    results["x"] = collect(x);
    results["loss"] = collect(loss.unsqueeze(1));
    collect_gradients(student_net_, results);
    return results;
  }
  Results critic_pass() {
    Results results;
    buffers_.begin_phase("critic");
    at::Tensor x = latents(2).requires_grad_(true);
    const at::Tensor keep = at::ones({x.size(0), toy_discriminator().hidden}, wide_);
    const WanDit::Output out = fake_.forward(x, time(700), text(), {true, {0, 1, 3}, false});
    const at::Tensor loss = (out.velocity - x).square().flatten(1).sum(1) / 50 +
                            disc_.forward(out.features, {keep, keep, keep}, true).square().sum(1);
    (loss.sum() / kBatch).backward();
    buffers_.end_phase();
    results["critic loss"] = collect(loss.unsqueeze(1));
    results["grad x"] = collect(x.grad());
    collect_gradients(fake_net_, results);
    collect_gradients(disc_net_, results);
    return results;
  }

 private:
  at::Tensor rows(const at::Tensor& all) const {
    const int64_t each = kBatch / mesh_.data_ranks();
    return all.narrow(0, mesh_.data_rank() * each, each);
  }
  at::Tensor latents(uint64_t k) const {
    return rows(test::hashed_tensor(k, {kBatch, 3, 3, 6, 10})).to(wide_).clone();
  }
  at::Tensor text() const { return rows(test::hashed_tensor(9, {kBatch, 5, 10})).to(wide_); }
  at::Tensor time(double t) const { return rows(at::arange(kBatch, at::kDouble) * 7 + t); }
  at::Tensor collect(const at::Tensor& local) const {
    const at::Tensor mine = local.detach().contiguous();
    std::vector<int64_t> shape = mine.sizes().vec();
    shape.insert(shape.begin(), {mesh_.data_ranks(), mesh_.sample_group().size()});
    const at::Tensor all = at::empty(shape, mine.options());
    mesh_.world().all_gather(mine, all).wait();
    for (int64_t k = 1; k < all.size(1); ++k) {
      EXPECT_TRUE(all.select(1, k).equal(all.select(1, 0))) << "ranks of a sample group differ";
    }
    return all.select(1, 0).flatten(0, 1);
  }
  void collect_gradients(ShardedNetwork& net, Results& results) {
    net.reduce_over_replicas();
    for (int unit = 0; unit < net.units(); ++unit) {
      const std::vector<at::Tensor> gradients = net.full_gradients(unit);
      for (size_t i = 0; i < gradients.size(); ++i) {
        results["grad " + net.name() + "." + net.spec(unit).params[i].name] = gradients[i];
      }
    }
  }

  const sharding::Mesh& mesh_;
  at::ScalarType wide_;
  sharding::GatherBuffers buffers_;
  sharding::GradientArena arena_;
  ShardedNetwork student_net_, fake_net_, disc_net_;
  TmdStudent student_;
  WanDit fake_;
  Discriminator disc_;
};

Results both_passes(Nets& nets) {
  Results results = nets.student_pass();
  nets.nets()[0]->zero_gradients();
  for (auto& [name, value] : nets.critic_pass()) results[name] = value;
  for (ShardedNetwork* net : nets.nets()) net->zero_gradients();
  return results;
}

double relative(const at::Tensor& expected, const at::Tensor& actual) {
  const double norm = expected.to(at::kDouble).norm().item<double>();
  return (expected.to(at::kDouble) - actual.to(at::kDouble)).norm().item<double>() / std::max(norm, 1e-30);
}

void expect_near(const Results& expected, const Results& actual, double limit, double gradient_limit,
                 const std::string& where) {
  for (const auto& [name, value] : expected) {
    EXPECT_GT(value.norm().item<double>(), 0) << name << ": zero against zero";
    const bool is_gradient = name.starts_with("grad");
    EXPECT_LT(relative(value, actual.at(name)), is_gradient ? gradient_limit : limit)
        << name << " on " << where;
  }
}

void expect_equal(const Results& expected, const Results& actual, const std::string& where) {
  for (const auto& [name, value] : expected) {
    EXPECT_TRUE(value.equal(actual.at(name))) << name << " differs on " << where;
  }
}

Results of_one_rank(at::ScalarType type) {
  test::SingleMesh one;
  Nets nets(one.mesh, type);
  return both_passes(nets);
}

}  // namespace

TEST(MeshParity, float64_is_one_rank) {
  const Results expected = of_one_rank(at::kDouble);
  // Eight ranks make 26 meshes: float32 below sees them all.
  const int64_t ranks = test::world().size();
  for (const MeshShape& shape : ranks < 8 ? meshes(ranks) : few_meshes(ranks)) {
    sharding::Mesh mesh(shape, test::world());
    {
      Nets nets(mesh, at::kDouble);
      expect_near(expected, both_passes(nets), 1e-12, 1e-10, shape.to_string());
    }
    mesh.close();
  }
}

TEST(MeshParity, float32_on_every_mesh_is_one_rank_and_repeats_its_bits) {
  const Results expected = of_one_rank(at::kFloat);
  for (const MeshShape& shape : meshes(test::world().size())) {
    sharding::Mesh mesh(shape, test::world());
    {
      Nets nets(mesh, at::kFloat);
      const Results first = both_passes(nets);
      expect_near(expected, first, 1e-5, 1e-5, shape.to_string());
      expect_equal(first, both_passes(nets), shape.to_string() + ", by a recorded schedule");
    }
    mesh.close();
  }
}

TEST(MeshParity, bfloat16_is_near_one_rank) {
  const Results expected = of_one_rank(at::kBFloat16);
  for (const MeshShape& shape : few_meshes(test::world().size())) {
    sharding::Mesh mesh(shape, test::world());
    {
      Nets nets(mesh, at::kBFloat16);
      expect_near(expected, both_passes(nets), 6e-3, 4e-2, shape.to_string());
    }
    mesh.close();
  }
}

TEST(MeshParity, kept_blocks_give_the_same_bits) {
  for (const MeshShape& shape : few_meshes(test::world().size())) {
    sharding::Mesh mesh(shape, test::world());
    {
      Nets plain(mesh, at::kFloat), kept(mesh, at::kFloat, /*keep=*/2);
      const Results expected = both_passes(plain);
      expect_equal(expected, both_passes(kept), shape.to_string());
      expect_equal(expected, both_passes(kept), shape.to_string() + ", again");
    }
    mesh.close();
  }
}

TEST(MeshParity, late_and_early_communication_gives_the_same_bits) {
  for (const MeshShape& shape : few_meshes(test::world().size())) {
    Results expected;
    {
      sharding::Mesh mesh(shape, test::world());
      {
        Nets nets(mesh, at::kFloat);
        expected = both_passes(nets);
      }
      mesh.close();
    }
    test::CanaryCommunicator canary(test::world(), 3);
    sharding::Mesh mesh(shape, canary);
    {
      Nets nets(mesh, at::kFloat);
      for (int pass = 0; pass < 3; ++pass) expect_equal(expected, both_passes(nets), shape.to_string());
    }
    mesh.close();
  }
}

TEST(MeshParity, what_is_gathered_ahead_is_all_but_the_first_unit_of_a_phase) {
  sharding::Mesh mesh({1, test::world().size(), 1, 1}, test::world());
  {
    Nets nets(mesh, at::kFloat);
    both_passes(nets);
    const auto before = nets.buffers().counts();
    both_passes(nets);
    const auto after = nets.buffers().counts();
    EXPECT_EQ(after.deviations, before.deviations);
    EXPECT_EQ(after.gathers - before.gathers, after.ahead - before.ahead);
    EXPECT_LT(after.gathers - before.gathers, after.uses - before.uses) << "a turning point needs no gather";
  }
  mesh.close();
}

TEST(MeshParity, ten_steps_give_the_weights_of_one_rank) {
  const auto train = [](const sharding::Mesh& mesh) {
    Nets nets(mesh, at::kFloat);
    std::vector<sharding::AdamW> optimizers;
    for (ShardedNetwork* net : nets.nets()) optimizers.emplace_back(*net);
    std::vector<double> norms;
    const auto update = [&](size_t i) {
      ShardedNetwork* net = nets.nets()[i];
      norms.push_back(sharding::gradient_norm({net}));
      optimizers[i].step({.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 0.01},
                         sharding::clip_factor(norms.back(), 1.0));
      net->zero_gradients();
    };
    for (int step = 0; step < 5; ++step) {
      nets.student_pass();
      update(0);
      nets.critic_pass();
      update(1), update(2);
    }
    Results weights;
    for (ShardedNetwork* net : nets.nets()) {
      std::vector<at::Tensor> flat;
      for (int unit = 0; unit < net->units(); ++unit) {
        const auto gathered = net->gather_master(unit);
        for (size_t i = 0; i < gathered.params.size(); ++i) {
          flat.push_back(
              net->whole_parameter(unit, static_cast<int>(i), gathered.params[i]).flatten().clone());
        }
      }
      weights[net->name()] = at::cat(flat);
    }
    weights["norms"] = at::tensor(norms, at::kDouble);
    return weights;
  };
  test::SingleMesh one;
  const Results expected = train(one.mesh);
  for (const MeshShape& shape : few_meshes(test::world().size())) {
    sharding::Mesh mesh(shape, test::world());
    expect_near(expected, train(mesh), 1e-4, 1e-4, shape.to_string());
    mesh.close();
  }
}

}  // namespace tmd::model
