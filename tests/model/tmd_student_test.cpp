#include "model/tmd_student.h"

#include <cmath>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"
#include "integer_hash.h"
#include "model/wan_ops.h"
#include "sharding/adamw.h"
#include "sharding/initialise.h"

namespace tmd::model {
namespace {

using sharding::ShardedNetwork;

TmdStudentConfig tiny(Fusion fusion) {
  TmdStudentConfig config;
  config.wan.heads = 2;
  config.wan.head_dim = 12;
  config.wan.ffn = 48;
  config.wan.layers = 3;
  config.wan.channels = 4;
  config.wan.text_dim = 8;
  config.wan.text_length = 4;
  config.head_blocks = 1;
  config.fusion = fusion;
  return config;
}

class TmdStudentCase : public testing::TestWithParam<Fusion> {
 protected:
  TmdStudentCase()
      : config_(tiny(GetParam())),
        teacher_network_("teacher", wan_units(config_.wan), one_.mesh, at::kFloat, false, one_.buffers),
        student_network_("student", tmd_student_units(config_), one_.mesh, at::kFloat, true, one_.buffers),
        teacher_(config_.wan, teacher_network_),
        student_(config_, student_network_) {
    sharding::initialise(teacher_network_, 1);
    // The head of a new network is zero: comparisons would be of zero with zero.
    sharding::fill_slices(teacher_network_, [](const sharding::Slice& slice, at::Tensor out) {
      if (slice.name == "head.head.weight") out.copy_(test::hashed_tensor(5, {out.numel()}, 0.1));
    });
    sharding::initialise(student_network_, 1);
    sharding::copy_parameters(teacher_network_, student_network_);
  }

  void set(const std::string& name, double value) {
    sharding::fill_slices(student_network_, [&](const sharding::Slice& slice, at::Tensor out) {
      if (slice.name == name) out.fill_(value);
    });
  }

  at::Tensor latent(uint64_t k) const { return test::hashed_tensor(k, {2, 4, 2, 4, 4}).to(at::kFloat); }
  at::Tensor text() const { return test::hashed_tensor(9, {2, 4, 8}).to(at::kFloat); }
  static at::Tensor time(double t) { return at::full({2}, t, at::kDouble); }

  test::SingleMesh one_;
  TmdStudentConfig config_;
  ShardedNetwork teacher_network_, student_network_;
  WanDit teacher_;
  TmdStudent student_;
};

INSTANTIATE_TEST_SUITE_P(Fusions, TmdStudentCase, testing::Values(Fusion::kGated, Fusion::kConcat));

// With the fusion closed, the delta branch at its zero start and s = t, the head continues where the backbone
// ended.
TEST_P(TmdStudentCase, closed_student_equals_its_teacher_bit_for_bit) {
  if (GetParam() == Fusion::kGated) {
    set("tmd.fusion.gate", -1000);  // sigmoid is exactly 0
  } else {
    sharding::fill_slices(student_network_, [&](const sharding::Slice& slice, at::Tensor out) {
      if (slice.name != "tmd.fusion.concat.weight") return;
      const int64_t width = config_.wan.width();
      out.copy_(at::cat({at::eye(width, at::kFloat), at::zeros({width, width}, at::kFloat)}, 1).flatten());
    });
  }
  const auto m = student_.backbone(latent(1), time(999), text(), false);

  const at::Tensor head = student_.head(latent(2), time(999), time(999), m, false);

  EXPECT_TRUE(head.equal(teacher_.forward(latent(1), time(999), text(), {}).velocity));
}

TEST_P(TmdStudentCase, fresh_student_is_near_its_teacher) {
  const auto m = student_.backbone(latent(1), time(999), text(), false);

  const at::Tensor head = student_.head(latent(2), time(999), time(91), m, false);
  const at::Tensor velocity = teacher_.forward(latent(1), time(999), text(), {}).velocity;

  EXPECT_LT((head - velocity).norm().item<double>(), 0.2 * velocity.norm().item<double>());
}

// Eq. 16 counts L - H blocks for the backbone and H for each head call: a poisoned block shows who runs it.
TEST_P(TmdStudentCase, backbone_and_head_share_the_blocks_at_l_minus_h) {
  const auto clean = student_.backbone(latent(1), time(999), text(), false);
  for (int64_t block = 0; block < config_.wan.layers; ++block) {
    const std::string name = "blocks." + std::to_string(block) + ".ffn.2.bias";
    set(name, NAN);
    const bool in_backbone =
        student_.backbone(latent(1), time(999), text(), false).tokens.isnan().any().item<bool>();
    const bool in_head =
        student_.head(latent(2), time(999), time(91), clean, false).isnan().any().item<bool>();
    EXPECT_EQ(in_backbone, block < config_.wan.layers - config_.head_blocks) << name;
    EXPECT_EQ(in_head, !in_backbone) << name;
    set(name, 0);
  }
}

// Zero in every layer of the branch would keep it at zero for ever; only its last layers start at zero.
TEST_P(TmdStudentCase, delta_embedder_and_fusion_receive_gradient_and_move) {
  sharding::AdamW adamw(student_network_);
  const auto before = [this](const char* name) { return student_network_.full_parameter(name); };
  const at::Tensor gate =
      GetParam() == Fusion::kGated ? before("tmd.fusion.gate") : before("tmd.fusion.concat.bias");
  const at::Tensor embedder = before("tmd.delta_embedding.0.weight");
  const auto answer = [this](double step) {
    const auto m = student_.backbone(latent(1), time(908), text(), true);
    return student_.head(latent(2), time(908), time(step), m, true);
  };
  const at::Tensor same = answer(908).detach(), other = answer(0).detach();
  EXPECT_TRUE(same.equal(other)) << "the branch starts blind to s - r";

  for (int i = 0; i < 4; ++i) {
    student_network_.zero_gradients();
    const at::Tensor loss = (answer(908) - latent(3)).square().sum() + (answer(0) + latent(3)).square().sum();
    loss.backward();
    if (i == 1) {  // in the first step the zero layers still hide the one in front of them
      for (const char* name : {"tmd.delta_embedding.0.weight", "tmd.delta_embedding.2.weight",
                               "tmd.delta_projection.1.weight"}) {
        EXPECT_GT(student_network_.full_gradient(name).norm().item<double>(), 1e-6) << name;
      }
    }
    adamw.step({.lr = 1e-2}, 1);
  }

  const at::Tensor now =
      GetParam() == Fusion::kGated ? before("tmd.fusion.gate") : before("tmd.fusion.concat.bias");
  EXPECT_GT((now - gate).abs().max().item<double>(), 1e-3);
  EXPECT_GT((before("tmd.delta_embedding.0.weight") - embedder).abs().max().item<double>(), 1e-3);
  EXPECT_GT(before("tmd.delta_projection.1.weight").abs().max().item<double>(), 1e-4);
  EXPECT_GT((answer(908) - answer(0)).norm().item<double>(), 1e-3) << "the head has learned to see s - r";
}

}  // namespace
}  // namespace tmd::model
