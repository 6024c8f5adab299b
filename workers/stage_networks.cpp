#include "workers/stage_networks.h"

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/input_file.h"
#include "base/safetensors_set.h"
#include "model/wan_weights.h"
#include "model/weights_file.h"
#include "sharding/initialise.h"
#include "sharding/memory_counter.h"

namespace tmd::workers {

std::string name(Stage stage) {
  switch (stage) {
    case Stage::kTeacher:
      return "teacher";
    case Stage::kStage1:
      return "stage1";
    case Stage::kKd:
      return "kd";
    case Stage::kStage2:
      return "stage2";
  }
  return {};
}

std::string name(NetworkRole role) {
  switch (role) {
    case NetworkRole::kTeacher:
      return "teacher";
    case NetworkRole::kStudent:
      return "student";
    case NetworkRole::kFake:
      return "fake";
    case NetworkRole::kDiscriminator:
      return "discriminator";
  }
  return {};
}

StageNetworks::StageNetworks(const NetworkPlan& plan, const StageOptions& options, const sharding::Mesh& mesh,
                             at::ScalarType type, uint64_t seed, int64_t keep_blocks, at::Device device)
    : plan_(plan),
      options_(options),
      mesh_(mesh),
      type_(type),
      seed_(seed),
      keep_blocks_(keep_blocks),
      buffers_(std::make_unique<sharding::GatherBuffers>(device)),
      arena_(std::make_unique<sharding::GradientArena>(device)) {
  buffers_->expect_sums();  // rollouts and micro-batches run a unit several times a step
}

void StageNetworks::keep_last_blocks(sharding::ShardedNetwork& network) const {
  std::vector<int> blocks;
  for (int unit = 0; unit < network.units(); ++unit) {
    if (network.spec(unit).name.starts_with("blocks.")) blocks.push_back(unit);
  }
  const auto count = std::min<int64_t>(keep_blocks_, static_cast<int64_t>(blocks.size()));
  if (count > 0) network.keep_units(blocks[blocks.size() - count], static_cast<int>(count));
}

std::vector<sharding::UnitSpec> StageNetworks::units(NetworkRole role) const {
  if (role == NetworkRole::kDiscriminator) return plan_.discriminator_units();
  if (role == NetworkRole::kStudent && has_interval(options_.method.name)) return plan_.student_units();
  return plan_.velocity_units();
}

const OptimizerOptions& StageNetworks::optimizer_of(Stage stage) const {
  if (stage == Stage::kTeacher) return options_.teacher.optimizer;
  if (stage == Stage::kStage1) return options_.stage1.optimizer;
  return stage == Stage::kKd ? options_.kd.optimizer : options_.stage2.optimizer;
}

TrainedNetwork StageNetworks::make(NetworkRole role, bool trained, double average_decay) const {
  const sharding::MemoryTag tag(role == NetworkRole::kDiscriminator ? sharding::MemoryItem::kDiscriminator
                                                                    : sharding::MemoryItem::kActivations);
  TrainedNetwork result;
  // Convolutions of the discriminator stay in float32: it is small, and its logits are compared with each
  // other.
  const bool is_wide = role == NetworkRole::kDiscriminator && type_ == at::kBFloat16;
  // The student and the fake score are updated in turn.
  const bool shares = role == NetworkRole::kStudent || role == NetworkRole::kFake;
  result.network =
      std::make_unique<sharding::ShardedNetwork>(name(role), units(role), mesh_, is_wide ? at::kFloat : type_,
                                                 trained, *buffers_, shares ? arena_.get() : nullptr);
  if (trained) keep_last_blocks(*result.network);
  if (trained) result.optimizer = std::make_unique<sharding::AdamW>(*result.network);
  if (average_decay > 0) result.average = std::make_unique<sharding::ExponentialAverage>(*result.network);
  return result;
}

void StageNetworks::add(NetworkRole role, bool trained, double average_decay) {
  networks_.insert_or_assign(role, make(role, trained, average_decay));
}

void StageNetworks::make_teacher() {
  add(NetworkRole::kTeacher, /*trained=*/false, 0);
  if (plan_.model.weights.empty()) {
    sharding::initialise(network(NetworkRole::kTeacher), seed_);
  } else {
    load_teacher();
  }
}

namespace {

// What the shapes of the tensors cannot show, and load_weights therefore cannot compare.
void check_description(const model::WanWeights& weights, const model::WanConfig& wanted) {
  const auto differ = [&](const char* option, auto set, auto said) {
    throw Error(ErrorKind::kConfig,
                fmt::format("{} = {}, but {} says {}", option, set, weights.files.path().string(), said),
                "leave the sizes out: they are taken from the weights");
  };
  if (weights.heads_known && weights.config.heads != wanted.heads)
    differ("model.heads", wanted.heads, weights.config.heads);
  if (weights.epsilon_known && weights.config.epsilon != wanted.epsilon)
    differ("model.epsilon", wanted.epsilon, weights.config.epsilon);
}

}  // namespace

void StageNetworks::load_teacher() {
  sharding::ShardedNetwork& teacher = network(NetworkRole::kTeacher);
  if (plan_.model.kind == model::ModelKind::kWan) {
    const model::WanWeights weights = model::open_wan_weights(plan_.model.weights);
    check_description(weights, plan_.model.wan);
    model::load_weights(teacher, weights.files,
                        [&](const std::string& name) { return weights.spelling.of(name); });
  } else {
    model::load_weights(teacher, SafetensorsSet(input_file(plan_.model.weights)));
  }
}

void StageNetworks::freeze_teacher() {
  TrainedNetwork& teacher = at(NetworkRole::kTeacher);
  if (!teacher.optimizer) return;
  if (teacher.average) teacher.average->swap(*teacher.network);
  TrainedNetwork frozen = make(NetworkRole::kTeacher, /*trained=*/false, 0);
  sharding::copy_parameters(*teacher.network, *frozen.network);
  teacher = std::move(frozen);
}

void StageNetworks::start_from_teacher(NetworkRole role) {
  sharding::initialise(network(role), seed_);
  sharding::copy_parameters(network(NetworkRole::kTeacher), network(role));
}

void StageNetworks::enter(Stage stage) {
  ensure(!has(NetworkRole::kFake) && !(stage == Stage::kTeacher && has(NetworkRole::kStudent)),
         "stages follow each other in their order");
  const double decay = optimizer_of(stage).ema;
  stage_ = stage;
  if (stage == Stage::kTeacher) {
    TrainedNetwork trained = make(NetworkRole::kTeacher, /*trained=*/true, 0);
    sharding::copy_parameters(network(NetworkRole::kTeacher), *trained.network);
    if (decay > 0) trained.average = std::make_unique<sharding::ExponentialAverage>(*trained.network);
    at(NetworkRole::kTeacher) = std::move(trained);
    return;
  }
  freeze_teacher();
  if (has(NetworkRole::kStudent)) {
    // It goes on with a new optimizer.
    TrainedNetwork& student = at(NetworkRole::kStudent);
    student.optimizer = std::make_unique<sharding::AdamW>(*student.network);
    student.average.reset();
  } else {
    add(NetworkRole::kStudent, /*trained=*/true, 0);
    start_from_teacher(NetworkRole::kStudent);
  }
  TrainedNetwork& student = at(NetworkRole::kStudent);
  if (decay > 0) student.average = std::make_unique<sharding::ExponentialAverage>(*student.network);
  if (stage != Stage::kStage2) return;
  add(NetworkRole::kFake, /*trained=*/true, 0);
  start_from_teacher(NetworkRole::kFake);
  if (options_.stage2.equation.gan_weight > 0) {
    add(NetworkRole::kDiscriminator, /*trained=*/true, 0);
    sharding::initialise(network(NetworkRole::kDiscriminator), seed_);
  }
}

void StageNetworks::allocate(Stage stage) {
  const double decay = optimizer_of(stage).ema;
  stage_ = stage;
  networks_.clear();
  add(NetworkRole::kTeacher, stage == Stage::kTeacher, stage == Stage::kTeacher ? decay : 0);
  if (stage == Stage::kTeacher) return;
  add(NetworkRole::kStudent, /*trained=*/true, decay);
  if (stage != Stage::kStage2) return;
  add(NetworkRole::kFake, /*trained=*/true, 0);
  if (options_.stage2.equation.gan_weight > 0) add(NetworkRole::kDiscriminator, /*trained=*/true, 0);
}

}  // namespace tmd::workers
