#include "orchestrator/training.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <new>
#include <utility>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/agree.h"
#include "orchestrator/plan.h"

namespace tmd::orchestrator {

using workers::NetworkRole;
using workers::Stage;

namespace {

double seconds_between(std::chrono::steady_clock::time_point a, std::chrono::steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

// Sample numbers of all ranks in slot order, each once; every rank has equally many.
std::vector<int64_t> gather_samples(const sharding::Mesh& mesh, const std::vector<int64_t>& own) {
  const int64_t each = static_cast<int64_t>(own.size());
  at::Tensor all = at::empty({mesh.data_ranks(), mesh.sample_group().size(), each}, at::kLong);
  mesh.world().all_gather(at::tensor(own, at::kLong), all).wait();
  all = all.select(1, 0).contiguous();
  const int64_t* data = all.const_data_ptr<int64_t>();
  return {data, data + all.numel()};
}

}  // namespace

Training::Training(Job& job, const RunFolder& folder, const TrainRequest& request, uint64_t experiment_hash)
    : job_(job),
      folder_(folder),
      request_(request),
      experiment_hash_(experiment_hash),
      store_(folder.checkpoints()),
      networks_(job.plan(), job.config().stages, job.mesh(), job.type(), job.config().run.seed,
                job.config().train.keep_blocks),
      negative_text_(job.negative_text()),
      trainer_(job.plan(), job.config().train, job.config().stages, job.mesh(), job.config().run.seed,
               networks_, negative_text_),
      previews_(job, folder.samples()) {}

void Training::start_or_resume() {
  comm::Communicator& trainers = job_.trainers();
  store_.recover(trainers);
  const checkpoint::Choice choice = store_.choose(trainers);
  const bool speaks = trainers.rank() == 0;
  for (const std::string& damage : choice.damage) {
    if (speaks) log_warning("{}", damage);
  }
  if (choice.step) {
    networks_.allocate(stage_of_checkpoint(store_, *choice.step));
    counters_ = load_checkpoint(store_, *choice.step, job_.mesh(), networks_);
    last_saved_ = counters_.iteration;
    if (speaks)
      log_info("RESUMED step {} from {}", counters_.iteration, store_.folder(*choice.step).string());
  } else {
    comm::run_agreed(trainers, [&] { networks_.make_teacher(); });
    if (speaks) log_info("FRESH start in {}", folder_.path().string());
    const configs::Config& config = job_.config();
    if (speaks && config.model.weights.empty() && config.stage_list().front() != Stage::kTeacher) {
      log_warning(
          "run.stages has no teacher and model.weights is empty: the student learns from random numbers");
    }
  }
  refuse_to_go_back();
  first_iteration_ = counters_.iteration + 1;
  comm::run_agreed(trainers, [&] {
    if (!speaks) return;
    folder_.publish_config();
    metrics_ = std::make_unique<MetricsLog>(folder_.metrics(), counters_.iteration);
  });
  feed_ = job_.open_feed(first_iteration_);
  loop_start_ = line_begin_ = Clock::now();
}

// With changed lengths (--allow-change) a stage that the checkpoint has left may count as unfinished again.
void Training::refuse_to_go_back() const {
  for (Stage stage : job_.config().stage_list()) {
    if (is_finished(stage)) continue;
    check(last_saved_ < 0 || stage >= networks_.stage(), ErrorKind::kConfig,
          fmt::format("the checkpoint lies in {}: a run cannot go back to {}", name(networks_.stage()),
                      name(stage)),
          "give another --run folder");
    return;
  }
}

int64_t Training::stage_begin(Stage stage) const {
  int64_t begin = 0;
  for (Stage other : job_.config().stage_list()) {
    if (other < stage) begin += job_.config().iterations(other);
  }
  return begin;
}

bool Training::is_finished(Stage stage) const {
  return counters_.iteration >= stage_begin(stage) + job_.config().iterations(stage);
}

void Training::enter(Stage stage) {
  const bool resumed_inside =
      last_saved_ >= 0 && networks_.stage() == stage && counters_.iteration > stage_begin(stage);
  if (resumed_inside) return;
  networks_.enter(stage);
  if (job_.trainers().rank() == 0) {
    log_info("stage {}: {} iterations of {} samples", name(stage), job_.config().iterations(stage),
             job_.config().train.global_batch);
  }
  previews_.at_stage_begin(networks_, counters_.iteration);
}

// The line of an iteration is written before its checkpoint: after a kill in between, the older checkpoint
// repeats the iteration and its line. What saving and previews cost stands in the next line, where the loop
// has waited for it.
void Training::iterate() {
  const Stage stage = networks_.stage();
  const workers::IterationIndex index{.iteration = counters_.iteration + 1,
                                      .in_stage = counters_.iteration + 1 - stage_begin(stage),
                                      .stage_iterations = job_.config().iterations(stage)};
  const workers::IterationReport report = train_within_memory(index);
  count(report);
  quarantine(report);
  const auto now = Clock::now();
  record(report, std::exchange(held_s_, 0), seconds_between(std::exchange(line_begin_, now), now));
  refuse_divergence(report);
  refuse_bad_data();
  held_s_ = save_if_due();
  previews_.after_iteration(networks_, counters_.iteration, is_finished(stage));
}

// Iterations of a phase that a run is held against its plan after: the first one may still grow buffers.
constexpr int kMeasuredIteration = 2;

workers::IterationReport Training::train_within_memory(const workers::IterationIndex& index) {
  sharding::MemoryCounter& memory = sharding::MemoryCounter::process();
  const method::Phase phase = trainer_.phase_of(index);
  memory.reset_peak();
  try {
    workers::IterationReport report = trainer_.run(index, *feed_);
    tensor_peak_ = memory.peak().total;
    if (++phase_iterations_[{networks_.stage(), phase}] == kMeasuredIteration)
      compare_with_plan(phase, index);
    return report;
  } catch (const std::bad_alloc&) {
    refuse_memory(phase, index, Error(ErrorKind::kDoesNotFit, "the host gives no more memory"));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kDoesNotFit) throw;
    refuse_memory(phase, index, error);
  }
}

std::optional<sharding::MemoryCounter::Peak> Training::planned_peak(method::Phase phase, int64_t iteration) {
  const data::LatentHeader& header = job_.data().header();
  try {
    const PlanInput input{
        job_.config(), job_.trainers().size(), {header.latent_shape, header.text_shape}, job_.type()};
    return plan_phase(input, networks_.stage(), phase, iteration).peak;
  } catch (const std::exception& error) {  // a run does not end for its plan
    log_warning("no plan of the memory of {} iterations: {}", method::name(phase), error.what());
    return {};
  }
}

void Training::compare_with_plan(method::Phase phase, const workers::IterationIndex& index) {
  if (job_.trainers().rank() != 0) return;
  const auto plan = planned_peak(phase, index.iteration);
  if (!plan) return;
  log_info("memory of {} iterations: plan {}, measured {}, ratio {:.3f} (tensors of rank 0 at the peak)",
           method::name(phase), sharding::bytes_text(plan->total), sharding::bytes_text(tensor_peak_),
           static_cast<double>(tensor_peak_) / static_cast<double>(std::max<int64_t>(1, plan->total)));
}

void Training::refuse_memory(method::Phase phase, const workers::IterationIndex& index, const Error& error) {
  const auto plan = planned_peak(phase, index.iteration);
  throw Error(
      ErrorKind::kDoesNotFit,
      fmt::format(
          "iteration {} ({}): {}; the plan had said {}", index.iteration, method::name(phase), error.what(),
          plan ? sharding::bytes_text(plan->total) + " at the peak: " + sharding::items_text(plan->items)
               : "nothing"),
      "`tmd plan` says which changes make it fit");
}

void Training::count(const workers::IterationReport& report) {
  ++counters_.iteration;
  if (report.phase == method::Phase::kStudent && !report.skipped) ++counters_.student_updates;
  counters_.nonfinite_in_row = report.skipped ? counters_.nonfinite_in_row + 1 : 0;
  counters_.nonfinite_total += report.skipped ? 1 : 0;
}

void Training::refuse_divergence(const workers::IterationReport& report) const {
  const workers::TrainOptions& options = job_.config().train;
  const bool stops = options.nonfinite == workers::TrainOptions::NonFinite::kStop;
  check(!report.skipped || (!stops && counters_.nonfinite_in_row < options.max_nonfinite),
        ErrorKind::kDiverged,
        fmt::format("iteration {}: a gradient is not finite ({} in a row)", counters_.iteration,
                    counters_.nonfinite_in_row),
        "lower the learning rate, or look at the batch in metrics.jsonl; the last checkpoint is from before");
}

void Training::quarantine(const workers::IterationReport& report) {
  comm::Communicator& trainers = job_.trainers();
  if (!comm::agree_any(trainers, !report.bad.empty())) return;
  nlohmann::json own = nlohmann::json::array();
  for (const workers::BadSample& bad : report.bad) own.push_back({bad.sample, bad.name, bad.problem});
  const std::string readable =
      own.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // names may be no UTF-8
  for (const std::string& text : comm::gather_strings(trainers, readable)) {
    for (const auto& item : nlohmann::json::parse(text)) {
      const workers::BadSample bad{item[0], item[1], item[2]};
      auto& list = counters_.quarantine;
      if (std::find(list.begin(), list.end(), bad) != list.end()) continue;
      list.push_back(bad);
      if (trainers.rank() == 0) log_warning("{} is left out and replaced: {}", bad.name, bad.problem);
    }
  }
}

void Training::refuse_bad_data() const {
  const int64_t limit = job_.config().data.max_bad, found = static_cast<int64_t>(counters_.quarantine.size());
  if (found <= limit) return;
  const workers::BadSample& bad = counters_.quarantine.back();
  throw Error(ErrorKind::kData,
              fmt::format("{}: {} ({} broken sample{}, data.max_bad = {})", bad.name, bad.problem, found,
                          found == 1 ? "" : "s", limit),
              "mend the file, or raise data.max_bad to train without it");
}

double Training::save_if_due() {
  if (counters_.iteration % job_.config().checkpoint.every != 0) return 0;
  const auto begin = Clock::now();
  try {
    save();
  } catch (const Error& e) {
    // Equal on all ranks. The older checkpoints are as before, and the next one may succeed.
    if (e.kind() != ErrorKind::kIo) throw;
    if (job_.trainers().rank() == 0) {
      log_warning("checkpoint of step {} failed, training goes on: {}", counters_.iteration, e.what());
    }
  }
  return seconds_between(begin, Clock::now());
}

void Training::save() {
  if (metrics_)
    metrics_->sync();  // a checkpoint's iterations must not be missing in them after a crash of the host
  save_checkpoint(store_, job_.mesh(), experiment_hash_, networks_, counters_);
  last_saved_ = counters_.iteration;
  if (job_.trainers().rank() != 0) return;
  const configs::CheckpointOptions& options = job_.config().checkpoint;
  try {
    store_.prune({.keep_last = options.keep_last, .keep_every = options.keep_every}, counters_.iteration);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kIo) throw;
    log_warning("old checkpoints stay where they are: {}", e.what());
  }
}

double Training::seconds_left() const {
  const int64_t done = counters_.iteration - first_iteration_ + 1;
  const int64_t left = job_.config().total_iterations() - counters_.iteration;
  return seconds_between(loop_start_, Clock::now()) / static_cast<double>(done) * static_cast<double>(left);
}

void Training::record(const workers::IterationReport& report, double checkpoint_s, double total_s) {
  std::vector<int64_t> samples = gather_samples(job_.mesh(), report.samples);
  comm::run_agreed(job_.trainers(), [&] {
    if (!metrics_) return;
    const IterationRecord record{.iteration = counters_.iteration,
                                 .total_iterations = job_.config().total_iterations(),
                                 .stage = name(networks_.stage()),
                                 .student_updates = counters_.student_updates,
                                 .samples = std::move(samples),
                                 .report = report,
                                 .checkpoint_s = checkpoint_s,
                                 .total_s = total_s,
                                 .tensor_peak = tensor_peak_};
    metrics_->write(record);
    if (counters_.iteration % request_.console_every == 0 || counters_.iteration == record.total_iterations) {
      log_info("{}{}", request_.title.empty() ? "" : request_.title + ": ",
               console_line(record, seconds_left()));
    }
  });
}

void Training::finish() {
  if (last_saved_ != counters_.iteration) save();
  if (feed_) feed_->close();
  comm::run_agreed(job_.trainers(), [this] {
    if (metrics_) metrics_->close();
  });
  if (job_.trainers().rank() == 0)
    log_info("finished {} iterations in {}", counters_.iteration, folder_.path().string());
}

}  // namespace tmd::orchestrator
