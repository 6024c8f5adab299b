#include "orchestrator/plan.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "comm/single_communicator.h"
#include "model/meta_operators.h"
#include "model/wan_dit.h"
#include "orchestrator/load_config.h"

namespace tmd::orchestrator {
namespace {

using sharding::MemoryItem;

constexpr double kTera = 1e12, kGiga = 1e9;

class PlanTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { sharding::install_memory_counter(); }
};

const workers::SampleShape kVideo{.latent = {16, 21, 60, 104}, .text = {512, 4096}};  // 32,760 tokens
const workers::SampleShape kClip{.latent = {16, 3, 16, 16}, .text = {512, 4096}};     // quick to draw

double item(const PlannedPhase& phase, MemoryItem of) {
  return static_cast<double>(phase.need.peak.items[static_cast<int>(of)]);
}

const PlannedPhase& named(const Plan& plan, const std::string& name) {
  for (const PlannedPhase& phase : plan.phases) {
    if (phase.name == name) return phase;
  }
  throw Error(ErrorKind::kInternal, "the plan has no " + name);
}

Plan plan_of(const std::string& file, int ranks, at::ScalarType type,
             const workers::SampleShape& sample = kClip) {
  const auto loaded = load_config({file}, {"--train.global_batch=" + std::to_string(ranks)});
  const PlanInput input{loaded->config, ranks, sample, type};
  return make_plan(input, device_model("h100", ranks, type));
}

double state_bytes(const PlannedPhase& phase) {
  double sum = 0;
  for (MemoryItem of :
       {MemoryItem::kWeights, MemoryItem::kGradients, MemoryItem::kMoments, MemoryItem::kDiscriminator})
    sum += item(phase, of);
  return sum;
}

}  // namespace

// Wan 6.1: 283.0 TFLOP and 1,678 TFLOP of a forward pass over 32,760 tokens.
TEST_F(PlanTest, a_forward_pass_costs_what_its_layers_say) {
  model::register_meta_operators();
  for (const auto& [wan, products, attention] : {std::tuple{model::WanConfig::wan_1_3b(), 82.1, 200.9},
                                                 std::tuple{model::WanConfig::wan_14b(), 785.0, 893.0}}) {
    comm::SingleCommunicator world("test");
    const sharding::Mesh mesh({.replicate = 1, .shard = 1, .sequence = 1, .tensor = 1}, world);
    sharding::GatherBuffers buffers(at::kMeta);
    sharding::ShardedNetwork network("wan", model::wan_units(wan), mesh, at::kFloat, false, buffers);
    const auto meta = at::TensorOptions(at::kFloat).device(at::kMeta);
    OperatorCost cost;
    {
      const CountOperators count(cost);
      const at::NoGradGuard no_grad;
      model::WanDit(wan, network)
          .forward(at::empty({1, 16, 21, 60, 104}, meta), at::full({1}, 500.0, at::kDouble),
                   at::empty({1, 512, 4096}, meta), {});
    }
    EXPECT_NEAR(cost.product_flops / kTera, products, 0.01 * products);
    // Wan 6.1 counts the cross scores to the attention; text keys and values are products.
    EXPECT_NEAR(cost.attention_flops / kTera, attention, 0.02 * attention);
  }
}

// Wan 6.2 and 6.4 with bfloat16: 50.0 GB and 493.8 GB of state, over all ranks. Here student and fake score
// share their gradients: 4 bytes for each of the fake score's parameters less.
TEST_F(PlanTest, state_in_bfloat16_is_that_of_the_published_sizes) {
  const Plan small = plan_of("configs/wan1.3b-tmd.ini", 8, at::kBFloat16);
  EXPECT_NEAR(8 * state_bytes(named(small, "student step")) / kGiga, 50.0 - 4 * 1.42, 0.02 * 50);
  const Plan large = plan_of("configs/wan14b-tmd.ini", 16, at::kBFloat16);
  EXPECT_NEAR(16 * state_bytes(named(large, "student step")) / kGiga, 493.8 - 4 * 14.29, 0.02 * 493.8);
}

// Wan 6.1: 2.95 and 16.9 PFLOP a sample; here with the flow head's second step and the discriminator.
TEST_F(PlanTest, a_student_step_costs_the_passes_of_its_method) {
  const Plan small = plan_of("configs/wan1.3b-dmd2v.ini", 1, at::kFloat, kVideo);
  const OperatorCost cost = named(small, "student step").need.cost;
  EXPECT_NEAR((cost.product_flops + cost.attention_flops) / kTera, 2950, 0.1 * 2950);
}

TEST_F(PlanTest, shards_divide_the_state_and_nothing_else) {
  const Plan four = plan_of("configs/wan1.3b-tmd.ini", 4, at::kFloat),
             eight = plan_of("configs/wan1.3b-tmd.ini", 8, at::kFloat);
  const PlannedPhase &a = named(four, "critic step"), &b = named(eight, "critic step");
  for (MemoryItem of :
       {MemoryItem::kWeights, MemoryItem::kGradients, MemoryItem::kMoments, MemoryItem::kDiscriminator})
    EXPECT_NEAR(item(a, of) / item(b, of), 2, 1e-3) << name(of);
  EXPECT_EQ(item(a, MemoryItem::kTemporaries), item(b, MemoryItem::kTemporaries));
  EXPECT_EQ(item(a, MemoryItem::kActivations), item(b, MemoryItem::kActivations));
}

TEST_F(PlanTest, replicas_reduce_their_gradients_and_shards_gather_and_scatter) {
  const auto loaded = load_config({"configs/wan1.3b-tmd.ini"}, {"--mesh.replicate=2"});
  const PlanInput input{loaded->config, 8, kClip, at::kFloat};
  const Plan plan = make_plan(input, device_model("h100", 8, at::kFloat));
  const auto& traffic = named(plan, "stage-1 step").need.traffic;
  EXPECT_EQ(traffic.at({"replicate", comm::OperationKind::kAllReduce}).ranks, 2);
  EXPECT_EQ(traffic.at({"replicate", comm::OperationKind::kAllReduce}).span, 5) << "ranks 0 and 4";
  EXPECT_EQ(traffic.at({"copy", comm::OperationKind::kAllGather}).ranks, 4);
  EXPECT_GT(traffic.at({"copy", comm::OperationKind::kReduceScatter}).sent_bytes, 0);
}

TEST_F(PlanTest, two_levels_cut_the_optimizer_and_gather_weights_once_a_step) {
  const auto plan_with = [](const std::string& two_level) {
    const auto loaded =
        load_config({"configs/wan1.3b-tmd.ini"}, {"--mesh.replicate=4", "--mesh.two_level=" + two_level});
    const PlanInput input{loaded->config, 8, kClip, at::kBFloat16};
    return make_plan(input, device_model("h100", 8, at::kBFloat16));
  };
  const Plan two = plan_with("true"), one = plan_with("false");
  const PlannedPhase &a = named(two, "student step"), &b = named(one, "student step");
  EXPECT_NEAR(item(b, MemoryItem::kMoments) / item(a, MemoryItem::kMoments), 4, 1e-3);
  EXPECT_NEAR(b.time.optimizer / a.time.optimizer, 4, 1e-3);
  const auto& traffic = a.need.traffic;
  EXPECT_FALSE(traffic.contains({"replicate", comm::OperationKind::kAllReduce}));
  const double gathered =
      static_cast<double>(traffic.at({"replicate", comm::OperationKind::kAllGather}).sent_bytes);
  const double reduced =
      static_cast<double>(traffic.at({"replicate", comm::OperationKind::kReduceScatter}).sent_bytes);
  EXPECT_NEAR(reduced / gathered, 2, 0.1) << "bfloat16 against float32";
}

TEST_F(PlanTest, a_fake_score_that_follows_the_student_is_gathered_too) {
  const auto gathered = [](const std::string& ida) {
    const auto loaded = load_config({"configs/wan1.3b-tmd.ini"},
                                    {"--mesh.replicate=4", "--mesh.two_level=true", "--stage2.ida=" + ida});
    const PlanInput input{loaded->config, 8, kClip, at::kBFloat16};
    const Plan plan = make_plan(input, device_model("h100", 8, at::kBFloat16));
    const auto& traffic = named(plan, "student step").need.traffic;
    return static_cast<double>(traffic.at({"replicate", comm::OperationKind::kAllGather}).sent_bytes);
  };
  EXPECT_NEAR(gathered("0.9") / gathered("0"), 2, 0.05);
}

TEST_F(PlanTest, samples_that_judge_are_planned_with_and_without_previews) {
  const auto sampling = [](const std::vector<std::string>& words) {
    const auto loaded = load_config({"configs/wan1.3b-tmd.ini"}, words);
    const PlanInput input{loaded->config, 1, kClip, at::kFloat};
    const Plan plan = make_plan(input, device_model("h100", 1, at::kFloat));
    for (const PlannedPhase& phase : plan.phases) {
      if (phase.name == "stage1 sampling") return phase.need.cost.product_flops;
    }
    return 0.0;
  };
  const std::string none = "--preview.every=-1", few = "--judge.samples=8", shows = "--preview.prompts=4";
  EXPECT_EQ(sampling({none}), 0);
  EXPECT_EQ(sampling({none, few, "--judge.every=5", "--judge.metric=none"}), 0);
  const double judged = sampling({none, few, "--judge.every=5"}), shown = sampling({shows}),
               both = sampling({shows, few, "--judge.every=5"});
  EXPECT_GT(judged, 0);
  EXPECT_NEAR((both - shown) / judged, 0.5, 0.01) << "the student's samples of four more prompts";
}

TEST_F(PlanTest, links_beyond_a_host_are_slower) {
  PhaseNeed need;
  need.traffic[{"shard", comm::OperationKind::kAllGather}] = {
      .calls = 1, .sent_bytes = 90000000000, .ranks = 8, .span = 8};
  const DeviceModel device = device_model("h100", 16, at::kFloat);
  EXPECT_DOUBLE_EQ(estimate(device, need, 0).communication, 90e9 / device.near_rate);
  need.traffic.begin()->second.span = 9;
  EXPECT_DOUBLE_EQ(estimate(device, need, 0).communication, 90e9 / device.far_rate);
}

TEST_F(PlanTest, a_device_is_a_name_or_bytes) {
  EXPECT_EQ(device_model("h100", 1, at::kFloat).memory_bytes, 80000000000);
  EXPECT_EQ(device_model("80e9", 1, at::kFloat).memory_bytes, 80000000000);
  EXPECT_EQ(device_model("1.5GB", 1, at::kFloat).memory_bytes, 1500000000);
  EXPECT_EQ(device_model("512MiB", 1, at::kFloat).memory_bytes, 536870912);
  EXPECT_GT(device_model("cpu", 1, at::kFloat).product_rate, 1e8);
  for (const char* text : {"a100", "", "80 GB", "-5", "0", "80XB", "nan"}) {
    EXPECT_THROW(device_model(text, 1, at::kFloat), Error) << text;
  }
}

TEST_F(PlanTest, the_mesh_is_drawn_with_rank_numbers) {
  EXPECT_EQ(mesh_text({.replicate = 2, .shard = 3, .sequence = 1, .tensor = 1}),
            "mesh replicate 2 x shard 3 x sequence 1 x tensor 1\n"
            "  replica  0 | 0 | 1 | 2 |\n"
            "  replica  1 | 3 | 4 | 5 |\n");
  const std::string cut = mesh_text({.replicate = 1, .shard = 2, .sequence = 2, .tensor = 2});
  EXPECT_NE(cut.find("| 0+1 2+3 | 4+5 6+7 |"), std::string::npos) << cut;
}

}  // namespace tmd::orchestrator
