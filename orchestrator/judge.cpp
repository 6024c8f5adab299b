#include "orchestrator/judge.h"

#include <chrono>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "comm/agree.h"
#include "orchestrator/tensor_file.h"
#include "sharding/weight_sample.h"
#include "workers/head_sensitivity.h"

namespace tmd::orchestrator {

using workers::NetworkRole;

namespace {

// Not the default of `tmd eval`: what has chosen a checkpoint says nothing fair about it.
constexpr uint64_t kJudgeSeed = 1001;
constexpr int64_t kRememberedWeights = 4096;
constexpr const char* kWeights = "weights";
constexpr const char* kDistance = "distance";

// What the present stage trains first of all.
sharding::ShardedNetwork& trained_network(workers::StageNetworks& networks) {
  return networks.network(networks.has(NetworkRole::kStudent) ? NetworkRole::kStudent
                                                              : NetworkRole::kTeacher);
}

// Too few samples are a wrong command line to `tmd eval`; here they are a wrong configuration.
std::unique_ptr<Evaluator> make_evaluator(data::DataSet& data, int64_t samples) {
  try {
    return Evaluator::make(data, samples, kJudgeSeed);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) throw;
    throw Error(ErrorKind::kConfig, fmt::format("judge.samples = {}: {}", samples, e.what()), e.hint());
  }
}

// Numbers that hold samples against those of the teacher.
bool needs_teacher(const Evaluator& evaluator, const std::string& key) {
  const bool repeats_for_diversity = evaluator.text().size(0) > evaluator.count();  // as the data do not
  return key.ends_with("_to_teacher") || key == "teacher_distance" ||
         (key == "prompt_diversity_ratio" && repeats_for_diversity);
}

}  // namespace

bool judges_by_samples(const configs::JudgeOptions& options) {
  return options.every > 0 && !options.metric.empty() && options.metric != "none";
}

evaluation::Metric metric_named(const Evaluator& evaluator, const std::string& name) {
  if (name == kDistance) return {name, evaluation::Better::kLess};
  std::vector<std::string> names = {kDistance};
  for (const evaluation::Metric& metric : evaluator.metrics()) {
    if (metric.better == evaluation::Better::kNeither || needs_teacher(evaluator, metric.key)) continue;
    if (metric.key == name) return metric;
    names.push_back(metric.key);
  }
  const char* reason =
      needs_teacher(evaluator, name)
          ? "which needs samples of the teacher, and a run that trains makes none to judge by"
          : "which cannot say how good samples of this data are";
  throw Error(ErrorKind::kConfig, fmt::format("judge.metric = {}, {}", name, reason),
              fmt::format("take one of {}", fmt::join(names, ", ")));
}

std::optional<double> value_of(const Score& score, const evaluation::Metric& metric) {
  if (metric.key == kDistance) return score.distance;
  const nlohmann::json value = score.json.value(metric.key, nlohmann::json());
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

Judge::Judge(Job& job, const checkpoint::Store& store, std::filesystem::path folder)
    : job_(job), store_(store), folder_(std::move(folder)) {
  if (!judges_by_samples(job_.config().judge)) return;
  const configs::JudgeOptions& options = job_.config().judge;
  comm::Communicator& trainers = job_.trainers();
  comm::run_agreed(trainers, [&] {
    if (trainers.rank() != 0) return;
    evaluator_ = make_evaluator(job_.data(), options.samples);
    metric_ = metric_named(*evaluator_, options.metric);
    if (options.keep_best) best_ = std::make_unique<BestCheckpoint>(store, metric_);
  });
  const int64_t prompts = comm::agree_max(trainers, evaluator_ ? evaluator_->text().size(0) : 0);
  const auto& [rows, features] = job_.data().header().text_shape;
  const at::Tensor text = evaluator_ ? evaluator_->text().to(at::kFloat).contiguous()
                                     : at::empty({prompts, rows, features}, at::kFloat);
  trainers.broadcast(text, 0).wait();
  request_ = {.text = text,
              .negative_text = job_.negative_text(),
              .latent_shape = job_.latent_shape(),
              .seed = kJudgeSeed,
              .first_number = 0,
              .batch = job_.config().sampler.batch};
}

bool Judge::is_due(int64_t iteration) const {
  const int64_t every = job_.config().judge.every;
  return every > 0 && (iteration % every == 0 || iteration == job_.config().total_iterations());
}

std::filesystem::path Judge::weights_file(workers::Stage stage) const {
  return folder_ / (name(stage) + "_begin.safetensors");
}

void Judge::at_stage_begin(workers::StageNetworks& networks) {
  if (job_.config().judge.every == 0) return;
  const at::Tensor weights = sharding::sample_weights(trained_network(networks), kRememberedWeights);
  if (job_.trainers().rank() != 0) return;
  begin_weights_ = weights;
  try {
    create_folders(folder_);
    write_tensors(weights_file(networks.stage()), {{kWeights, weights}});
  } catch (const Error& e) {
    log_warning("after a resume weights_moved will be missing: {}", e.what());
  }
}

void Judge::at_resume(const workers::StageNetworks& networks, int64_t step) {
  if (job_.config().judge.every == 0 || job_.trainers().rank() != 0) return;
  try {
    if (best_) best_->resume(step);
  } catch (const Error& e) {
    log_warning("the best checkpoint cannot be marked: {}", e.what());
  }
  try {
    begin_weights_ = read_tensor(SafetensorsFile(weights_file(networks.stage())), kWeights, 1, "[n]");
  } catch (const Error& e) {
    log_info("weights_moved is missing until the next stage begins: {}", e.what());
  }
}

void Judge::measure(workers::StageNetworks& networks, const std::vector<workers::KeptBatch>& kept,
                    std::map<std::string, double>& diag) {
  const at::Tensor weights = sharding::sample_weights(trained_network(networks), kRememberedWeights);
  if (begin_weights_.defined() && begin_weights_.sizes() == weights.sizes())
    diag["weights_moved"] = sharding::share_moved(begin_weights_, weights);
  if (!networks.has(NetworkRole::kStudent)) return;
  ensure(!kept.empty(), "an iteration that is looked at has kept its batch");
  diag.merge(workers::head_sensitivity(job_.plan(), job_.config().stages.method,
                                       networks.network(NetworkRole::kStudent), kept.front().batch,
                                       job_.config().run.seed));
}

bool Judge::judges(const workers::StageNetworks& networks, int64_t iteration) const {
  const bool is_saved =
      iteration % job_.config().checkpoint.every == 0 || iteration == job_.config().total_iterations();
  return judges_by_samples(job_.config().judge) && is_due(iteration) && is_saved &&
         networks.has(NetworkRole::kStudent);
}

at::Tensor Judge::sample(workers::StageNetworks& networks, bool average) {
  workers::TrainedNetwork& student = networks.at(NetworkRole::kStudent);
  if (average) student.average->swap(*student.network);
  at::Tensor samples = sample_student(job_.plan(), *student.network, job_.config().stages.method, request_);
  if (average) student.average->swap(*student.network);
  return samples;
}

nlohmann::json Judge::judge(workers::StageNetworks& networks, int64_t iteration) {
  const auto begin = std::chrono::steady_clock::now();
  const bool average = networks.at(NetworkRole::kStudent).average != nullptr;
  const at::Tensor samples = sample(networks, average);
  nlohmann::json result;
  comm::run_agreed(job_.trainers(), [&] {
    if (!evaluator_) return;
    result = {{"network", average ? "average" : "student"},
              {"samples", evaluator_->count()},
              {"metric", metric_.key}};
    try {
      const Score score = evaluator_->measure(samples);
      const std::optional<double> value = value_of(score, metric_);
      check(value.has_value(), ErrorKind::kConfig, "the samples have no " + metric_.key);
      if (best_) best_->scored(iteration, *value);
      result["value"] = *value;
      result["distance"] = score.distance;
      result["accuracy"] = score.accuracy;
      result["metrics"] = score.json;
      log_info("judged step {}: {} = {:.4g}", iteration, metric_.key, *value);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kDiverged && e.kind() != ErrorKind::kConfig) throw;
      result["failed"] = e.what();
      log_warning("step {} cannot be judged: {}", iteration, e.what());
    }
    result["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  });
  return result;
}

void Judge::before_commit(int64_t step) const {
  try {
    if (best_) best_->before_commit(step);
  } catch (const Error& e) {
    log_warning("the score of step {} cannot be kept with its checkpoint: {}", step, e.what());
  }
}

std::vector<int64_t> Judge::saved(int64_t step) {
  try {
    if (best_) best_->saved(step);
  } catch (const Error& e) {
    log_warning("the best checkpoint cannot be marked: {}", e.what());
  }
  std::vector<int64_t> kept;
  if (const auto best = best_ ? best_->step() : std::nullopt) kept.push_back(*best);
  if (const auto linked = linked_checkpoint(store_)) kept.push_back(*linked);
  return kept;
}

}  // namespace tmd::orchestrator
