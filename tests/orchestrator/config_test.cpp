#include "configs/config.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "base/error.h"
#include "configs/ini.h"
#include "orchestrator/load_config.h"

namespace tmd::orchestrator {
namespace {

void expect_refused(const std::vector<std::string>& words, const std::string& text) {
  try {
    load_config({}, words);
    ADD_FAILURE() << "accepted " << words[0];
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kConfig) << e.what();
    EXPECT_NE((std::string(e.what()) + e.hint()).find(text), std::string::npos)
        << e.what() << " | " << e.hint();
  }
}

}  // namespace

TEST(Config, defaults_are_those_of_the_paper_for_the_small_model) {
  const auto loaded = load_config({}, {});
  const configs::Config& c = loaded->config;

  EXPECT_EQ(c.stages.method.outer_steps, 2);
  EXPECT_EQ(c.stages.method.inner_steps, 2);
  EXPECT_EQ(c.student.head_blocks, 5);
  EXPECT_EQ(c.feature_blocks, (std::vector<int64_t>{15, 22, 29}));
  EXPECT_EQ(c.stages.stage1.optimizer.lr, 3e-5);
  EXPECT_EQ(c.stages.stage1.iterations, 3000);
  EXPECT_EQ(c.stages.stage2.iterations, 4000);
  EXPECT_EQ(c.stages.stage2.student_every, 5);
  EXPECT_EQ(c.stages.stage2.equation.gan_weight, 0.03);
  EXPECT_EQ(c.stages.stage2.equation.cfg, 5);
  EXPECT_EQ(c.stages.stage2.optimizer.beta2, 0.99);
  EXPECT_EQ(c.train.global_batch, 64);
  EXPECT_EQ(c.stages.stage1.equation.grid_t, (std::vector<double>{0, 0.908, 0.999}));
  EXPECT_EQ(c.stages.stage1.equation.grid_s, (std::vector<double>{0, 0.908, 0.999}));
  EXPECT_EQ(c.stages.stage1.equation.s_shift, 3);
  EXPECT_EQ(c.stages.stage1.equation.delta, 5e-3);
  EXPECT_EQ(c.stages.stage1.equation.cfg, 3);
  EXPECT_EQ(c.stages.stage1.c_per_element, 1);
  EXPECT_EQ(c.stages.stage1.shares.flow_matching, 0.75);
  EXPECT_EQ(c.stages.stage1.shares.condition_drop, 0.1);
  EXPECT_EQ(c.stages.stage2.equation.td_shift, 5);
  EXPECT_EQ(c.stages.stage2.equation.r1_weight, 0);
  EXPECT_EQ(c.stages.stage2.lr_fake, 1e-5);
  EXPECT_EQ(c.stages.stage2.lr_discriminator, 1e-5);
  for (const workers::OptimizerOptions& o : {c.stages.stage1.optimizer, c.stages.stage2.optimizer}) {
    EXPECT_EQ(o.beta1, 0.9);
    EXPECT_EQ(o.beta2, 0.99);
    EXPECT_EQ(o.epsilon, 1e-8);
    EXPECT_EQ(o.weight_decay, 0.01);
    EXPECT_EQ(o.clip, 10);
    EXPECT_EQ(o.warmup, 0);
    EXPECT_EQ(o.ema, 0);
  }
  EXPECT_EQ(c.student.gate_start, -4);
  EXPECT_EQ(c.student.gate_lr_multiplier, 100);
  EXPECT_EQ(c.discriminator.scales, (std::vector<int64_t>{1, 2, 4, 8, 16}));
  EXPECT_EQ(c.discriminator.hidden, 1024);
}

TEST(Config, stages_must_fit_the_method_and_each_other) {
  expect_refused({"--run.stages=stage2,stage1"}, "cannot follow");
  expect_refused({"--run.stages=stage3"}, "stage3");
  expect_refused({"--method.name=dmd2v", "--run.stages=stage1"}, "no flow head");
  expect_refused({"--method.name=tm", "--run.stages=stage1,stage2"}, "no stage2");
}

TEST(Config, contradictions_are_refused) {
  expect_refused({"--model.head_dim=7"}, "even");
  expect_refused({"--method.head_blocks=30"}, "backbone");
  expect_refused({"--method.feature_blocks=3,40"}, "block 40");
  expect_refused({"--run.stages=stage1", "--stage1.objective=tm"}, "method.name = tm");
  expect_refused({"--method.feature_blocks=5,5"}, "ascend");
  expect_refused({"--stage2.gan_weight=0", "--stage2.r1_weight=1"}, "discriminator");
  expect_refused({"--model.kind=mlp"}, "gan_weight");
  expect_refused({"--stage1.delta=0.7"}, "stage1.delta");
  expect_refused({"--method.discriminator_reduction=5"}, "384 channels");
  expect_refused({"--method.discriminator=attention", "--method.discriminator_attention_heads=3"},
                 "attention_width = 512");
  expect_refused({"--method.discriminator=conv2d"}, "conv1d_2d");
}

TEST(Config, a_discriminator_of_one_kind_does_not_mind_the_sizes_of_the_others) {
  const auto kind = [](const std::vector<std::string>& words) {
    return load_config({}, words)->config.discriminator.kind;
  };
  EXPECT_EQ(kind({"--method.discriminator_attention_heads=3"}), model::DiscriminatorKind::kConv3d);
  EXPECT_EQ(kind({"--method.discriminator=conv1d_2d", "--method.discriminator_reduction=5"}),
            model::DiscriminatorKind::kConv1d2d);
  EXPECT_EQ(kind({"--method.discriminator=attention", "--method.discriminator_reduction=5"}),
            model::DiscriminatorKind::kAttention);
}

// Lists can be empty in files only.
TEST(Config, a_discriminator_without_scales_or_widths_is_refused) {
  configs::Config c;
  c.discriminator.scales.clear();
  EXPECT_THROW(configs::complete(c), Error);
  c.discriminator.kind = model::DiscriminatorKind::kConv1d2d;
  EXPECT_NO_THROW(configs::complete(c));
  c.discriminator.conv_widths.clear();
  EXPECT_THROW(configs::complete(c), Error);
}

TEST(Config, shipped_recipes_are_legal) {
  int recipes = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs")) {
    // that of the study says what scripts/study runs
    if (entry.path().extension() != ".ini" || entry.path().stem() == "study") continue;
    ++recipes;
    EXPECT_NO_THROW(load_config({entry.path().string()}, {})) << entry.path();
  }
  EXPECT_EQ(recipes, 9);
}

TEST(Config, wan_recipes_have_the_sizes_of_the_published_models) {
  struct Published {
    std::string file;
    model::WanConfig model;
    int64_t parameters;
    double discriminator;
  };
  const Published small{"configs/wan1.3b-tmd.ini", model::WanConfig::wan_1_3b(), 1418996800, 67.87e6};
  const Published large{"configs/wan14b-tmd.ini", model::WanConfig::wan_14b(), 14288491584, 147.5e6};
  for (const Published& wan : {small, large}) {
    const auto loaded = load_config({wan.file}, {});
    const workers::NetworkPlan plan = configs::network_plan(loaded->config);
    EXPECT_EQ(loaded->config.model.wan, wan.model) << wan.file;
    EXPECT_EQ(sharding::count_elements(plan.velocity_units()), wan.parameters) << wan.file;
    EXPECT_NEAR(static_cast<double>(sharding::count_elements(plan.discriminator_units())), wan.discriminator,
                1e-3 * wan.discriminator)
        << wan.file;
  }
}

TEST(Config, recipes_of_one_model_agree_in_what_they_share) {
  for (const std::string model : {"configs/wan1.3b-", "configs/wan14b-"}) {
    const auto whole = load_config({model + "tmd.ini"}, {});
    for (const char* part : {"dmd2v.ini", "stage1.ini"}) {
      const auto loaded = load_config({model + part}, {});
      for (const configs::Setting& setting : configs::read_ini(model + part)) {
        if (setting.name == "run.stages" || setting.name == "method.name") continue;
        EXPECT_EQ(loaded->table->value(setting.name), whole->table->value(setting.name))
            << model << part << ": " << setting.name;
      }
    }
  }
}

TEST(Config, a_block_to_leave_out_is_one_of_the_network) {
  EXPECT_EQ(load_config({}, {"--sampler.skip_block=29"})->config.sampler.skip_block, 29);
  expect_refused({"--sampler.skip_block=30"}, "sampler.skip_block = 30 of a network with 30 blocks");
  expect_refused({"--sampler.skip_block=-2"}, "sampler.skip_block");
  expect_refused({"--sampler.skip_block=10", "--sampler.cfg=1"}, "sampler.cfg = 1 has none");
  expect_refused({"--sampler.skip_block=0", "--model.kind=mlp", "--stage2.gan_weight=0"},
                 "a perceptron has no transformer blocks");
}

}  // namespace tmd::orchestrator
