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
    const Stage all[] = {Stage::kTeacher, Stage::kStage1, Stage::kStage2};
    const auto* found =
        std::find_if(std::begin(all), std::end(all), [&](Stage s) { return name(s) == text; });
    check(found != std::end(all), ErrorKind::kConfig, fmt::format("run.stages: there is no stage {}", text),
          "stages are teacher, stage1, stage2");
    check(list.empty() || list.back() < *found, ErrorKind::kConfig,
          fmt::format("run.stages: {} cannot follow {}", text, list.empty() ? "" : name(list.back())),
          "the order is teacher, stage1, stage2, each at most once");
    list.push_back(*found);
  }
  check(!list.empty(), ErrorKind::kConfig, "run.stages is empty");
  const auto has = [&list](Stage s) { return std::find(list.begin(), list.end(), s) != list.end(); };
  check(!(stages.method.name == MethodName::kDmd2v && has(Stage::kStage1)), ErrorKind::kConfig,
        "method.name = dmd2v has no stage1: its student has no flow head", "run.stages = stage2");
  check(!(stages.method.name == MethodName::kTm && has(Stage::kStage2)), ErrorKind::kConfig,
        "method.name = tm has no stage2", "run.stages = stage1, or method.name = tmd");
  return list;
}

int64_t Config::iterations(Stage stage) const {
  if (stage == Stage::kTeacher) return stages.teacher.iterations;
  return stage == Stage::kStage1 ? stages.stage1.iterations : stages.stage2.iterations;
}

int64_t Config::total_iterations() const {
  int64_t total = 0;
  for (Stage stage : stage_list()) total += iterations(stage);
  return total;
}

namespace {

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
  check(!c.discriminator.scales.empty(), ErrorKind::kConfig, "method.discriminator_scales is empty",
        "name at least one pooling factor, e.g. 1");
  check(wan.width() % 4 == 0, ErrorKind::kConfig,
        fmt::format("model.heads x model.head_dim = {}: the feature maps need a multiple of 4", wan.width()));
  c.discriminator.channels = wan.width() / 4;
  check(c.discriminator.channels % c.discriminator.reduction == 0, ErrorKind::kConfig,
        fmt::format("method.discriminator_reduction = {} does not divide the {} channels of the feature maps",
                    c.discriminator.reduction, c.discriminator.channels));
  c.discriminator.heads = static_cast<int64_t>(c.feature_blocks.size());
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

}  // namespace

void complete(Config& c) {
  const workers::MethodOptions& m = c.stages.method;
  c.stage_list();
  if (c.model.kind == model::ModelKind::kWan) {
    complete_wan(c);
  } else {
    check(c.stages.stage2.equation.gan_weight == 0, ErrorKind::kConfig,
          "model.kind = mlp has no feature maps for a discriminator", "stage2.gan_weight = 0");
  }
  const method::Stage2Options& stage2 = c.stages.stage2.equation;
  check(stage2.r1_weight == 0 || stage2.gan_weight > 0, ErrorKind::kConfig,
        "stage2.r1_weight needs a discriminator, and stage2.gan_weight is 0", "set one of the two otherwise");
  const auto grid_t = method::student_grid(static_cast<int>(m.outer_steps), m.outer_shift);
  c.stages.stage1.equation.grid_t = grid_t;
  c.stages.stage1.equation.grid_s = method::student_grid(static_cast<int>(m.inner_steps), m.inner_shift);
  const bool ends_with_stage1 = c.stage_list().back() == Stage::kStage1;
  check(!(m.name == MethodName::kTmd && ends_with_stage1 &&
          c.stages.stage1.equation.objective == method::Stage1Objective::kTm),
        ErrorKind::kConfig, "stage1.objective = tm without stage2 is plain transition matching",
        "method.name = tm samples it as it was trained");
  if (m.name == MethodName::kTm) c.stages.stage1.equation.objective = method::Stage1Objective::kTm;
  c.stages.stage2.equation.grid_t = grid_t;
  c.stages.stage2.equation.x_hat = m.x_hat;
}

workers::NetworkPlan network_plan(const Config& c) {
  return {.model = c.model,
          .student = c.student,
          .discriminator = c.discriminator,
          .feature_blocks = c.feature_blocks};
}

}  // namespace tmd::configs
