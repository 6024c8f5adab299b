#include "workers/trainer.h"

#include <chrono>
#include <cmath>
#include <numbers>
#include <numeric>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "comm/agree.h"
#include "method/kd.h"
#include "sharding/initialise.h"
#include "workers/sample_statistics.h"

namespace tmd::workers {

using method::Phase;

namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

at::Tensor mean_of_rows(const at::Tensor& x) { return x.detach().to(at::kDouble).flatten(1).mean(1); }

at::Tensor rms_of_rows(const at::Tensor& x) {
  return x.detach().to(at::kDouble).square().flatten(1).mean(1).sqrt();
}

// Feeds use the memory of a batch again.
KeptBatch copy_of(const Batch& batch, const at::Tensor& x_hat) {
  KeptBatch kept{batch, x_hat.defined() ? x_hat.cpu() : x_hat};
  kept.batch.latents = batch.latents.clone();
  kept.batch.text = batch.text.clone();
  return kept;
}

// Adds up named per-sample values over micro-batches, then over ranks.
class Sums {
 public:
  void add(const std::map<std::string, at::Tensor>& values, double weight) {
    for (const auto& [name, value] : values)
      sums_[name] += weight * value.detach().to(at::kDouble).sum().item<double>();
  }
  std::map<std::string, double> means(comm::Communicator& world, int64_t samples) {
    std::vector<double> flat;
    for (const auto& [name, sum] : sums_) flat.push_back(sum);
    comm::sum(world, flat);
    std::map<std::string, double> result;
    size_t i = 0;
    for (const auto& [name, sum] : sums_) result[name] = flat[i++] / static_cast<double>(samples);
    return result;
  }

 private:
  std::map<std::string, double> sums_;
};

// Adds up sample_sums, where there are any, in the same way.
class SampleSums {
 public:
  void add(const at::Tensor& sums, const at::Tensor& latents, double weight) {
    if (!sums.defined()) return;
    shape_ = latents.sizes().slice(1).vec();
    sums_ = sums_.defined() ? sums_ + weight * sums : weight * sums;
  }
  void report(comm::Communicator& world, int64_t samples, std::map<std::string, double>& diag) const {
    if (!sums_.defined()) return;
    const at::Tensor all = sums_.cpu().contiguous();
    world.all_reduce(all, comm::ReduceOp::kSum).wait();
    diag.merge(sample_diagnostics(all, samples, shape_));
  }

 private:
  at::Tensor sums_;
  std::vector<int64_t> shape_;
};

}  // namespace

double learning_rate(const OptimizerOptions& options, double lr, int64_t i, int64_t iterations) {
  const double step = static_cast<double>(i);
  if (i <= options.warmup) return lr * step / static_cast<double>(options.warmup);
  if (options.decay == LearningRateDecay::kNone) return lr;
  const double total = static_cast<double>(iterations);
  const double begin = std::max(static_cast<double>(options.warmup), total * (1 - options.decay_share));
  const double progress = std::max(0.0, (step - 1 - begin) / (total - begin));
  if (options.decay == LearningRateDecay::kLinear) return lr * (1 - progress);
  return lr * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

Trainer::Trainer(const NetworkPlan& plan, const TrainOptions& train, const StageOptions& stages,
                 const sharding::Mesh& mesh, uint64_t seed, StageNetworks& networks, at::Tensor negative_text)
    : plan_(plan),
      train_(train),
      stages_(stages),
      mesh_(mesh),
      seed_(seed),
      networks_(networks),
      negative_text_(std::move(negative_text)) {}

Phase Trainer::phase_of(const IterationIndex& index) const {
  switch (networks_.stage()) {
    case Stage::kTeacher:
      return Phase::kTeacher;
    case Stage::kStage1:
      return Phase::kStage1;
    case Stage::kKd:
      return Phase::kKd;
    case Stage::kStage2:
      return method::stage2_phase(index.in_stage, stages_.stage2.student_every);
  }
  return Phase::kTeacher;
}

std::vector<NetworkRole> Trainer::trained_roles(Phase phase) const {
  switch (phase) {
    case Phase::kTeacher:
      return {NetworkRole::kTeacher};
    case Phase::kStage1:
    case Phase::kKd:
    case Phase::kStudent:
      return {NetworkRole::kStudent};
    case Phase::kCritic:
      break;
  }
  if (networks_.has(NetworkRole::kDiscriminator)) return {NetworkRole::kFake, NetworkRole::kDiscriminator};
  return {NetworkRole::kFake};
}

std::vector<NetworkRole> Trainer::changed_roles(Phase phase) const {
  std::vector<NetworkRole> roles = trained_roles(phase);
  if (phase == Phase::kStudent && stages_.stage2.ida > 0) roles.push_back(NetworkRole::kFake);
  return roles;
}

Trainer::Losses Trainer::teacher_losses(const Batch& batch, const method::DrawKey& key) {
  const auto view = velocity_view(plan_, networks_.network(NetworkRole::kTeacher), /*weight_gradients=*/true);
  const TeacherStage& stage = stages_.teacher;
  const auto draws = method::draw_teacher(key, batch.latents, stage.equation, stage.condition_drop);
  const auto result =
      method::teacher_step(*view, batch.latents, batch.text, negative_text_, draws, stage.equation);
  return {result.loss, {{"teacher", result.loss}}, {{"t", result.t}}};
}

Trainer::Losses Trainer::stage1_losses(const Batch& batch, const method::DrawKey& key) {
  const auto view = student_view(plan_, networks_.network(NetworkRole::kStudent), /*weight_gradients=*/true);
  method::Stage1Options options = stages_.stage1.equation;
  const double d = static_cast<double>(batch.latents[0].numel());
  options.loss_c = stages_.stage1.c_per_element * d;
  const auto draws = method::draw_stage1(key, batch.latents, options, stages_.stage1.shares);
  const auto regression = stages_.method.name == MethodName::kMeanFlow ? method::mean_flow : method::stage1;
  const auto result = regression(*view, batch.latents, batch.text, negative_text_, draws, options,
                                 [this](bool here) { return comm::agree_any(mesh_.world(), here); });
  const at::Tensor flow_matching = (result.s == result.r).to(at::kDouble);
  return {result.loss,
          {{"stage1", result.loss}, {"mse", result.S / d}},
          {{"r_equals_s", flow_matching},
           {"derivative_rms", rms_of_rows(result.derivative)},
           {"head_rms", rms_of_rows(result.head)}}};
}

Trainer::Losses Trainer::kd_losses(const Batch& batch, const method::DrawKey& key) {
  ensure(static_cast<bool>(pair_noise_), "stage kd knows what noise its samples were made of");
  GeneratorView student(plan_, stages_.method, networks_.network(NetworkRole::kStudent),
                        /*weight_gradients=*/true);
  const at::Tensor& x = batch.latents;
  const at::Tensor y_1 = method::draw_normal(key, Purpose::kInnerNoise, x.sizes().slice(1), x.options());
  const auto result = method::kd_step(student.generator(), x, pair_noise_(batch.samples, x), batch.text, y_1,
                                      {stages_.stage2.equation.grid_t.back(), stages_.method.x_hat});
  return {result.loss,
          {{"kd", result.loss}},
          {{"x_hat_mean", mean_of_rows(result.x_hat)},
           {"x_hat_rms", rms_of_rows(result.x_hat)},
           {"data_rms", rms_of_rows(x)}},
          result.x_hat,
          {}};
}

method::DropoutShape Trainer::dropout_shape() const {
  if (!networks_.has(NetworkRole::kDiscriminator)) return {};
  const model::DiscriminatorConfig& config = plan_.discriminator;
  return {static_cast<int>(config.heads), config.hidden, config.dropout};
}

Trainer::Losses Trainer::student_losses(const Batch& batch, const method::DrawKey& key) {
  GeneratorView student(plan_, stages_.method, networks_.network(NetworkRole::kStudent),
                        /*weight_gradients=*/true);
  const auto teacher = velocity_view(plan_, networks_.network(NetworkRole::kTeacher), false);
  const auto fake = velocity_view(plan_, networks_.network(NetworkRole::kFake), false);
  const auto discriminator =
      networks_.has(NetworkRole::kDiscriminator)
          ? discriminator_view(plan_, networks_.network(NetworkRole::kDiscriminator), false)
          : nullptr;
  const method::Stage2Options& options = stages_.stage2.equation;
  const auto draws =
      method::draw_stage2(key, batch.latents, options, {});  // dropout is off in the student step
  const auto step = method::student_step(student.generator(), *teacher, *fake, discriminator.get(),
                                         batch.latents, batch.text, negative_text_, draws, options);
  Losses result{step.loss,
                {{"student", step.loss}, {"vsd", step.vsd}},
                {{"fake_minus_teacher", mean_of_rows((step.g_fake - step.g_teacher).abs())},
                 {"x_minus_teacher", mean_of_rows((step.sample.x_hat - step.g_teacher).abs())},
                 {"fake_lag", mean_of_rows((step.sample.x_hat - step.g_fake).abs())},
                 {"direction_norm", rms_of_rows(step.g_fake - step.g_teacher) * step.vsd_weight},
                 {"x_hat_mean", mean_of_rows(step.sample.x_hat)},
                 {"x_hat_rms", rms_of_rows(step.sample.x_hat)},
                 {"data_rms", rms_of_rows(batch.latents)}},
                step.sample.x_hat.detach(),
                sample_sums(step.sample.x_hat, batch.latents)};
  if (discriminator) {
    result.loss["gan_generator"] = step.gan;
    result.diag["logit_fake"] = mean_of_rows(step.logits_fake);
  }
  return result;
}

Trainer::Losses Trainer::critic_losses(const Batch& batch, const method::DrawKey& key) {
  GeneratorView student(plan_, stages_.method, networks_.network(NetworkRole::kStudent),
                        /*weight_gradients=*/false);
  const auto teacher = velocity_view(plan_, networks_.network(NetworkRole::kTeacher), false);
  const auto fake = velocity_view(plan_, networks_.network(NetworkRole::kFake), true);
  const auto discriminator =
      networks_.has(NetworkRole::kDiscriminator)
          ? discriminator_view(plan_, networks_.network(NetworkRole::kDiscriminator), true)
          : nullptr;
  const method::Stage2Options& options = stages_.stage2.equation;
  const auto draws = method::draw_stage2(key, batch.latents, options, dropout_shape());
  const auto step = method::critic_step(student.generator(), *teacher, *fake, discriminator.get(),
                                        batch.latents, batch.text, draws, options);
  Losses result{step.loss,
                {{"critic", step.loss}, {"fake_score", step.fake}},
                {{"x_hat_rms", rms_of_rows(step.sample.x_hat)}},
                step.sample.x_hat.detach(),
                {}};
  if (discriminator) {
    result.loss["gan_discriminator"] = step.discriminator;
    result.diag["logit_gap"] = mean_of_rows(step.logits_real - step.logits_fake);
    if (step.r1.defined()) result.loss["r1"] = step.r1;
  }
  return result;
}

Trainer::Losses Trainer::losses(Phase phase, const Batch& batch, int64_t iteration) {
  std::vector<int64_t> slots(batch.samples.size());
  std::iota(slots.begin(), slots.end(), batch.first_slot);
  const method::DrawKey key{seed_, static_cast<uint64_t>(iteration), slots};
  Batch typed = upload_ ? upload_->upload(batch) : batch;
  const sharding::ShardedNetwork& network = networks_.network(NetworkRole::kTeacher);
  typed.latents = typed.latents.to(network.device(), network.wide_type());
  typed.text = typed.text.to(network.device(), network.wide_type());
  switch (phase) {
    case Phase::kTeacher:
      return teacher_losses(typed, key);
    case Phase::kStage1:
      return stage1_losses(typed, key);
    case Phase::kKd:
      return kd_losses(typed, key);
    case Phase::kStudent:
      return student_losses(typed, key);
    case Phase::kCritic:
      return critic_losses(typed, key);
  }
  throw Error(ErrorKind::kInternal, "unknown phase");
}

Trainer::Losses Trainer::differentiate(Phase phase, const Batch& batch, int64_t iteration) {
  Losses values = losses(phase, batch, iteration);
  (values.objective.sum() / static_cast<double>(train_.global_batch)).backward();
  return values;
}

Batch Trainer::take(BatchFeed& feed, int64_t iteration) const {
  Batch batch;
  mesh_.world().mark("data");
  comm::run_agreed(mesh_.world(), [&] { batch = feed.next(); });
  ensure(batch.iteration == iteration, "the feed and the trainer are at the same iteration");
  return batch;
}

std::map<std::string, double> Trainer::evaluate(const IterationIndex& index, BatchFeed& feed) {
  const at::NoGradGuard no_grad;
  const int64_t share = train_.global_batch / mesh_.data_ranks();
  Sums sums;
  for (int64_t done = 0; done < share;) {
    const Batch batch = take(feed, index.iteration);
    sums.add(losses(phase_of(index), batch, index.iteration).loss,
             mesh_.sample_group().rank() == 0 ? 1 : 0);  // every sample counts once
    done += static_cast<int64_t>(batch.samples.size());
  }
  return sums.means(mesh_.world(), train_.global_batch);
}

void Trainer::accumulate(Phase phase, const IterationIndex& index, BatchFeed& feed, IterationReport& report) {
  comm::Communicator& world = mesh_.world();
  const int64_t share = train_.global_batch / mesh_.data_ranks();
  const double waited = feed.waited_s();
  Sums loss_sums, diag_sums;
  SampleSums sample_sums;
  kept_.clear();
  Stopwatch all;
  networks_.buffers().begin_phase(std::string(method::name(phase)));
  while (static_cast<int64_t>(report.samples.size()) < share) {
    reach(TrainerMoment::kBatch, phase, index);
    const Batch batch = take(feed, index.iteration);
    reach(TrainerMoment::kCompute, phase, index);
    const Losses values = differentiate(phase, batch, index.iteration);
    const double weight = mesh_.sample_group().rank() == 0 ? 1 : 0;  // every sample counts once
    loss_sums.add(values.loss, weight);
    diag_sums.add(values.diag, weight);
    sample_sums.add(values.sums, batch.latents, weight);
    if (keeps_batches_) kept_.push_back(copy_of(batch, values.x_hat));
    report.samples.insert(report.samples.end(), batch.samples.begin(), batch.samples.end());
    report.bad.insert(report.bad.end(), batch.bad.begin(), batch.bad.end());
  }
  networks_.buffers().end_phase();
  reach(TrainerMoment::kReduce, phase, index);
  for (NetworkRole role : trained_roles(phase)) networks_.network(role).reduce_over_replicas();
  report.loss = loss_sums.means(world, train_.global_batch);
  report.diag = diag_sums.means(world, train_.global_batch);
  sample_sums.report(world, train_.global_batch, report.diag);
  report.time.data = feed.waited_s() - waited;
  take_exposed(report);
  report.time.compute = all.seconds() - report.time.data - report.time.gather_exposed -
                        report.time.reduce_exposed - report.time.exchange_exposed;
}

void Trainer::take_exposed(IterationReport& report) {
  for (auto& [role, trained] : networks_.all()) {
    const auto exposed = trained.network->take_exposed_time();
    report.time.gather_exposed += exposed.gather_s;
    report.time.reduce_exposed += exposed.reduce_s;
    report.time.exchange_exposed += exposed.exchange_s;
  }
}

const OptimizerOptions& Trainer::optimizer_options() const {
  switch (networks_.stage()) {
    case Stage::kTeacher:
      return stages_.teacher.optimizer;
    case Stage::kStage1:
      return stages_.stage1.optimizer;
    case Stage::kKd:
      return stages_.kd.optimizer;
    case Stage::kStage2:
      break;
  }
  return stages_.stage2.optimizer;
}

double Trainer::base_lr(NetworkRole role) const {
  if (role == NetworkRole::kFake) return stages_.stage2.lr_fake;
  if (role == NetworkRole::kDiscriminator) return stages_.stage2.lr_discriminator;
  return optimizer_options().lr;
}

void Trainer::update(Phase phase, const IterationIndex& index, IterationReport& report) {
  const Stopwatch watch;
  const OptimizerOptions& options = optimizer_options();
  mesh_.world().mark("optimizer");
  for (NetworkRole role : trained_roles(phase)) {
    const double norm = sharding::gradient_norm({&networks_.network(role)});
    report.grad_norm[name(role)] = norm;
    if (!std::isfinite(norm)) report.skipped = true;  // equal on all ranks: the norm is a sum over all
  }
  for (NetworkRole role : trained_roles(phase)) {
    TrainedNetwork& trained = networks_.at(role);
    if (!report.skipped) {
      const double lr = learning_rate(options, base_lr(role), index.in_stage, index.stage_iterations);
      const double limit = phase == Phase::kCritic ? stages_.stage2.clip_critic : options.clip;
      trained.optimizer->step({.lr = lr,
                               .beta1 = options.beta1,
                               .beta2 = options.beta2,
                               .epsilon = options.epsilon,
                               .weight_decay = options.weight_decay},
                              sharding::clip_factor(report.grad_norm[name(role)], limit),
                              trained.average.get(), options.ema);
      report.lr[name(role)] = lr;
    }
    trained.network->zero_gradients();
  }
  if (phase == Phase::kStudent && stages_.stage2.ida > 0 && !report.skipped) align_fake_score();
  report.time.optimizer = watch.seconds();
}

// Blocks of the flow head mean other things in the two networks, so they are left out.
void Trainer::align_fake_score() {
  const int64_t shared = plan_.layers() - (is_decoupled(stages_.method.name) ? plan_.head_blocks() : 0);
  const auto takes = [&](const std::string& unit) {
    if (unit == "head") return !is_decoupled(stages_.method.name);
    return !unit.starts_with("blocks.") || std::stoll(unit.substr(7)) < shared;
  };
  sharding::blend_parameters(networks_.network(NetworkRole::kStudent), networks_.network(NetworkRole::kFake),
                             stages_.stage2.ida, takes);
}

void Trainer::report_gate(IterationReport& report) {
  sharding::ShardedNetwork& student = networks_.network(NetworkRole::kStudent);
  double a = 0;
  bool found = false;
  for (int unit = 0; unit < student.units(); ++unit) {
    for (const sharding::ShardSegment& segment : student.shard(unit).segments) {
      if (segment.slice.name != "tmd.fusion.gate") continue;
      a = student.shard(unit).master[segment.shard_offset].item<double>();
      found = true;
    }
  }
  double sums[2] = {a, found ? 1.0 : 0.0};  // every state group holds it once
  comm::sum(mesh_.world(), sums);
  if (sums[1] > 0) report.diag["gate"] = 1 / (1 + std::exp(-sums[0] / sums[1]));
}

void Trainer::reach(TrainerMoment moment, Phase phase, const IterationIndex& index) const {
  if (observer_) observer_->reached(moment, phase, index.iteration);
}

IterationReport Trainer::run(const IterationIndex& index, BatchFeed& feed) {
  IterationReport before, report;
  take_exposed(before);  // what a new stage or a preview gathered is no time of this iteration
  report.phase = phase_of(index);
  accumulate(report.phase, index, feed, report);
  reach(TrainerMoment::kUpdate, report.phase, index);
  update(report.phase, index, report);
  if (networks_.has(NetworkRole::kStudent)) report_gate(report);
  return report;
}

}  // namespace tmd::workers
