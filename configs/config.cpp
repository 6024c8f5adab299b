#include "configs/config.h"

#include <algorithm>
#include <functional>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "method/grids.h"

namespace tmd::configs {

using workers::MethodName;
using workers::Stage;

Config::Config() { student.head_blocks = 0; }

std::vector<Stage> Config::stage_list() const {
  std::vector<Stage> list;
  for (const std::string& text : run.stages) {
    const Stage all[] = {Stage::kTeacher, Stage::kStage1, Stage::kKd, Stage::kStage2};
    const auto* found =
        std::find_if(std::begin(all), std::end(all), [&](Stage s) { return name(s) == text; });
    check(found != std::end(all), ErrorKind::kConfig, fmt::format("run.stages: there is no stage {}", text),
          "stages are teacher, stage1, kd, stage2");
    check(list.empty() || list.back() < *found, ErrorKind::kConfig,
          fmt::format("run.stages: {} cannot follow {}", text, list.empty() ? "" : name(list.back())),
          "the order is teacher, stage1, kd, stage2, each at most once");
    list.push_back(*found);
  }
  check(!list.empty(), ErrorKind::kConfig, "run.stages is empty");
  const auto has = [&list](Stage s) { return std::find(list.begin(), list.end(), s) != list.end(); };
  check(!(stages.method.name == MethodName::kDmd2v && has(Stage::kStage1)), ErrorKind::kConfig,
        "method.name = dmd2v has no stage1: its student has no flow head", "run.stages = stage2");
  const bool has_stage1_only =
      stages.method.name == MethodName::kTm || stages.method.name == MethodName::kMeanFlow;
  check(!(has_stage1_only && has(Stage::kStage2)), ErrorKind::kConfig,
        fmt::format("method.name = {} has no stage2",
                    stages.method.name == MethodName::kTm ? "tm" : "meanflow"),
        "run.stages = stage1, or method.name = tmd");
  return list;
}

int64_t Config::iterations(Stage stage) const {
  if (stage == Stage::kTeacher) return stages.teacher.iterations;
  if (stage == Stage::kStage1) return stages.stage1.iterations;
  return stage == Stage::kKd ? stages.kd.iterations : stages.stage2.iterations;
}

int64_t Config::total_iterations() const {
  int64_t total = 0;
  for (Stage stage : stage_list()) total += iterations(stage);
  return total;
}

namespace {

// Of the kind that is built: what the others would need does not matter.
void check_branches(const model::DiscriminatorConfig& d) {
  switch (d.kind) {
    case model::DiscriminatorKind::kConv3d:
      check(!d.scales.empty(), ErrorKind::kConfig, "method.discriminator_scales is empty",
            "name at least one pooling factor, e.g. 1");
      check(d.channels % d.reduction == 0, ErrorKind::kConfig,
            fmt::format("method.discriminator_reduction = {} does not divide the {} channels of the feature "
                        "maps",
                        d.reduction, d.channels));
      break;
    case model::DiscriminatorKind::kConv1d2d:
      check(!d.conv_widths.empty(), ErrorKind::kConfig, "method.discriminator_conv_widths is empty",
            "name the channels of at least one pair of convolutions, e.g. 512");
      break;
    case model::DiscriminatorKind::kAttention:
      check(d.attention.width % d.attention.heads == 0, ErrorKind::kConfig,
            fmt::format("method.discriminator_attention_heads = {} does not divide "
                        "method.discriminator_attention_width = {}",
                        d.attention.heads, d.attention.width),
            "each head has width / heads channels of a token");
      break;
  }
}

void complete_features(Config& c) {
  const model::WanConfig& wan = c.model.wan;
  if (c.feature_blocks.empty()) c.feature_blocks = wan.default_feature_blocks();
  for (int64_t block : c.feature_blocks) {
    check(block < wan.layers, ErrorKind::kConfig,
          fmt::format("method.feature_blocks: block {} of a network with {} blocks", block, wan.layers),
          fmt::format("blocks are numbered 0 to {}", wan.layers - 1));
  }
  check(std::adjacent_find(c.feature_blocks.begin(), c.feature_blocks.end(), std::greater_equal<>()) ==
            c.feature_blocks.end(),
        ErrorKind::kConfig, "method.feature_blocks must ascend, each block once");
  check(wan.width() % 4 == 0, ErrorKind::kConfig,
        fmt::format("model.heads x model.head_dim = {}: the feature maps need a multiple of 4", wan.width()));
  c.discriminator.channels = wan.width() / 4;
  c.discriminator.heads = static_cast<int64_t>(c.feature_blocks.size());
  check_branches(c.discriminator);
}

void complete_wan(Config& c) {
  const model::WanConfig& wan = c.model.wan;
  check(wan.head_dim % 2 == 0, ErrorKind::kConfig,
        fmt::format("model.head_dim = {}: rotary positions turn pairs, so it must be even", wan.head_dim));
  if (c.student.head_blocks == 0) c.student.head_blocks = wan.default_head_blocks();
  const int64_t most = std::max<int64_t>(1, wan.layers - 1);
  check(c.student.head_blocks <= most, ErrorKind::kConfig,
        fmt::format("method.head_blocks = {} of {} blocks leaves no backbone", c.student.head_blocks,
                    wan.layers),
        fmt::format("at most {}", most));
  c.student.wan = wan;
  complete_features(c);
}

void refuse(bool is_so, const char* what, const char* hint) { check(!is_so, ErrorKind::kConfig, what, hint); }

void check_flow_head(const Config& c) {
  const workers::MethodOptions& m = c.stages.method;
  const method::Stage1Options& stage1 = c.stages.stage1.equation;
  const bool has_head = workers::is_decoupled(m.name);
  refuse(!has_head && m.form != method::InnerForm{},
         "method.inner_target and method.head_output are of the flow head, which dmd2v and meanflow lack",
         "leave them out, or method.name = tmd");
  refuse(!has_head && !c.stages.stage2.equation.rollout,
         "stage2.rollout is of the flow head, which dmd2v and meanflow lack", "leave it out");
  refuse(m.name == MethodName::kMeanFlow && stage1.detach_features,
         "stage1.detach_features: a MeanFlow student has no backbone of its own", "leave it out");
  refuse(m.name == MethodName::kMeanFlow && stage1.objective == method::Stage1Objective::kTm,
         "stage1.objective = tm with method.name = meanflow is flow matching, which the teacher stage does",
         "stage1.objective = tm_mf");
  const bool is_plain = m.name == MethodName::kTm || stage1.objective == method::Stage1Objective::kTm;
  refuse(is_plain && (stage1.interval == method::Interval::kContinuous ||
                      stage1.derivative == method::Derivative::kExact),
         "stage1.interval and stage1.derivative are of MeanFlow: plain transition matching has r = s",
         "leave them out, or stage1.objective = tm_mf");
  refuse(is_plain && stage1.tangent != method::Tangent::kGuided,
         "stage1.tangent is the direction of a derivative, which plain transition matching has not",
         "leave it out, or stage1.objective = tm_mf");
  refuse(!has_head && c.student.fusion != model::Fusion::kGated,
         "method.fusion is of the flow head, which dmd2v and meanflow lack", "leave it out");
  refuse(m.name == MethodName::kTmd && c.model.kind == model::ModelKind::kMlp && c.stages.stage2.ida > 0,
         "stage2.ida: in a perceptron, layers of the student's flow head mean other things than the fake "
         "score's",
         "stage2.ida = 0, or method.name = dmd2v");
}

void check_sampling(const Config& c) {
  const workers::MethodOptions& m = c.stages.method;
  const method::Stage2Options& stage2 = c.stages.stage2.equation;
  refuse(m.name == MethodName::kMeanFlow && m.outer_step == method::OuterStep::kRenoise,
         "method.outer_sampler = renoise goes by way of a clean sample, which MeanFlow's velocity over an "
         "interval "
         "does not give",
         "method.outer_sampler = deterministic");
  const bool simulates = stage2.input == method::OuterInput::kSimulation;
  refuse(simulates && m.outer_steps == 1,
         "stage2.train_input = simulation has nothing to simulate with method.outer_steps = 1: x_t is noise",
         "leave it out");
  refuse(simulates && m.x_hat == method::XHat::kX1MinusY,
         "method.x_hat = x1_minus_y needs the noise that x_t was made of; a simulated x_t has none",
         "method.x_hat = xt_minus_ty");
  refuse(simulates && !stage2.rollout,
         "stage2.rollout = false takes y from the data, and a simulated x_t belongs to none",
         "set one of the two otherwise");
}

void check_discriminator(const Config& c) {
  const method::Stage2Options& stage2 = c.stages.stage2.equation;
  const bool is_absent = stage2.gan_weight == 0;
  refuse(is_absent && stage2.r1_weight > 0,
         "stage2.r1_weight needs a discriminator, and stage2.gan_weight is 0",
         "set one of the two otherwise");
  refuse(is_absent && (stage2.features != method::FeatureSource::kTeacher ||
                       stage2.real_noise != method::RealNoise::kSame),
         "stage2.features and stage2.real_noise are of the discriminator, and stage2.gan_weight is 0",
         "set one of the two otherwise");
  refuse(is_absent && c.discriminator.kind != model::DiscriminatorKind::kConv3d,
         "method.discriminator says what there is none of: stage2.gan_weight is 0",
         "set one of the two otherwise");
}

// What cannot go together, with the reason.
void check_combinations(const Config& c) {
  check_flow_head(c);
  check_sampling(c);
  check_discriminator(c);
}

}  // namespace

void complete(Config& c) {
  const workers::MethodOptions& m = c.stages.method;
  c.stage_list();
  check_combinations(c);
  check_skip_block(c.sampler, c.model);
  if (c.model.kind == model::ModelKind::kWan) {
    complete_wan(c);
  } else {
    check(c.stages.stage2.equation.gan_weight == 0, ErrorKind::kConfig,
          "model.kind = mlp has no feature maps for a discriminator", "stage2.gan_weight = 0");
  }
  const auto grid_t = method::student_grid(static_cast<int>(m.outer_steps), m.outer_shift);
  c.stages.stage1.equation.grid_t = grid_t;
  const auto grid_s = method::student_grid(static_cast<int>(m.inner_steps), m.inner_shift);
  c.stages.stage1.equation.grid_s = m.name == MethodName::kMeanFlow ? grid_t : grid_s;
  c.stages.stage1.equation.form = m.form;
  const bool ends_with_stage1 = c.stage_list().back() == Stage::kStage1;
  check(!(m.name == MethodName::kTmd && ends_with_stage1 &&
          c.stages.stage1.equation.objective == method::Stage1Objective::kTm),
        ErrorKind::kConfig, "stage1.objective = tm without stage2 is plain transition matching",
        "method.name = tm samples it as it was trained");
  if (m.name == MethodName::kTm) c.stages.stage1.equation.objective = method::Stage1Objective::kTm;
  c.stages.stage2.equation.grid_t = grid_t;
  c.stages.stage2.equation.grid_s = grid_s;
  c.stages.stage2.equation.form = m.form;
  c.stages.stage2.equation.outer_step = m.outer_step;
  c.stages.stage2.equation.x_hat = m.x_hat;
}

void check_skip_block(const SamplerOptions& sampler, const model::ModelOptions& model) {
  if (sampler.skip_block < 0) return;
  check(model.kind == model::ModelKind::kWan, ErrorKind::kConfig,
        fmt::format("sampler.skip_block = {}: a perceptron has no transformer blocks", sampler.skip_block),
        "leave it out");
  check(sampler.skip_block < model.wan.layers, ErrorKind::kConfig,
        fmt::format("sampler.skip_block = {} of a network with {} blocks", sampler.skip_block,
                    model.wan.layers),
        fmt::format("blocks are numbered 0 to {}; -1 leaves none out", model.wan.layers - 1));
  check(sampler.cfg != 1, ErrorKind::kConfig,
        fmt::format("sampler.skip_block = {} is left out of the negative pass, and sampler.cfg = 1 has none",
                    sampler.skip_block),
        "set one of the two otherwise");
}

void check_mesh(const Config& c, const sharding::MeshShape& mesh) {
  const bool cuts_samples = mesh.sequence > 1 || mesh.tensor > 1;
  refuse(c.stages.stage1.equation.derivative == method::Derivative::kExact && cuts_samples,
         "stage1.derivative = exact differentiates in forward mode, which the exchange of tokens and heads "
         "(mesh.sequence, mesh.tensor) does not know",
         "stage1.derivative = difference, or mesh.sequence = mesh.tensor = 1");
}

workers::NetworkPlan network_plan(const Config& c) {
  workers::NetworkPlan plan{.model = c.model,
                            .student = c.student,
                            .discriminator = c.discriminator,
                            .feature_blocks = c.feature_blocks};
  if (c.stages.method.name == MethodName::kMeanFlow) {
    plan.student.fusion = model::Fusion::kNone;
    plan.student.head_blocks = c.model.wan.layers;
  }
  return plan;
}

}  // namespace tmd::configs
