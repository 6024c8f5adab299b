#include "orchestrator/training.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <new>
#include <utility>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/agree.h"
#include "orchestrator/alarm_folder.h"
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

Training::Training(Job& job, const RunFolder& folder, const TrainRequest& request, const StopRequest& stop,
                   uint64_t experiment_hash)
    : job_(job),
      folder_(folder),
      request_(request),
      experiment_hash_(experiment_hash),
      store_(folder.checkpoints()),
      networks_(job.plan(), job.config().stages, job.mesh(), job.type(), job.config().run.seed,
                job.config().train.keep_blocks, job.device()),
      negative_text_(job.negative_text()),
      trainer_(job.plan(), job.config().train, job.config().stages, job.mesh(), job.config().run.seed,
               networks_, negative_text_),
      previews_(job, folder.samples()),
      judge_(job, store_, folder.path() / "judge"),
      alarm_(job.config().alarm),
      fault_(request.fault, job.trainers().rank(), folder.path()),
      stop_(stop),
      saver_(job, store_, networks_, fault_, experiment_hash,
             {.before_commit = [this](int64_t step) { judge_.before_commit(step); },
              .to_keep = [this](int64_t step) { return checkpoints_to_keep(step); }}) {
  trainer_.set_observer(this);
  trainer_.set_upload(job.upload());
  trainer_.set_pair_noise([this](const std::vector<int64_t>& samples, const at::Tensor& like) {
    return pair_noise(job_.data(), samples, like);
  });
}

void Training::start_or_resume() {
  comm::Communicator& trainers = job_.trainers();
  store_.recover(trainers);
  const checkpoint::Choice choice = store_.load_newest(
      trainers, [this](int64_t step) { counters_ = load_checkpoint(store_, step, job_.mesh(), networks_); });
  const bool speaks = trainers.rank() == 0;
  for (const std::string& damage : choice.damage) {
    if (speaks) log_warning("{}", damage);
  }
  if (choice.step) {
    saver_.set_last_saved(counters_.iteration);
    judge_.at_resume(networks_, *choice.step);
    if (speaks) probe_ = Probe::read(store_.folder(*choice.step));
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
  const std::vector<Stage> stages = job_.config().stage_list();
  const bool learns_from_pairs =
      std::ranges::find(stages, Stage::kKd) != stages.end() && !is_finished(Stage::kKd);
  comm::run_agreed(trainers, [&] {
    if (learns_from_pairs) require_pairs(job_.data());
  });
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
    check(saver_.last_saved() < 0 || stage >= networks_.stage(), ErrorKind::kConfig,
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
      saver_.last_saved() >= 0 && networks_.stage() == stage && counters_.iteration > stage_begin(stage);
  if (resumed_inside) return saver_.check_space();
  saver_.wait();
  networks_.enter(stage);
  judge_.at_stage_begin(networks_);
  saver_.check_space();
  if (job_.trainers().rank() == 0) {
    log_info("stage {}: {} iterations of {} samples", name(stage), job_.config().iterations(stage),
             job_.config().train.global_batch);
  }
  previews_.at_stage_begin(networks_, counters_.iteration);
}

workers::IterationIndex Training::next_iteration() const {
  const Stage stage = networks_.stage();
  return {.iteration = counters_.iteration + 1,
          .in_stage = counters_.iteration + 1 - stage_begin(stage),
          .stage_iterations = job_.config().iterations(stage)};
}

// The line of an iteration is written before its checkpoint: after a kill in between, the older checkpoint
// repeats the iteration and its line. What saving and previews cost stands in the next line, where the loop
// has waited for it.
void Training::iterate() {
  const Stage stage = networks_.stage();
  const workers::IterationIndex index = next_iteration();
  trainer_.keep_batches(judge_.is_due(index.iteration) || may_be_the_last(index));
  workers::IterationReport report = train_within_memory(index);
  compare_with_probe(report);
  count(report);
  quarantine(report);
  nlohmann::json evaluation = judge_if_due(report);
  const auto now = Clock::now();
  const double seconds = seconds_between(std::exchange(line_begin_, now), now);
  const std::vector<int64_t> samples = gather_samples(job_.mesh(), report.samples);
  record(report, samples, std::move(evaluation), saver_.take_held_s(), seconds);
  if (const std::optional<AlarmReport> alarm = find_alarm(report)) end_with(*alarm, report, samples);
  try {
    refuse_bad_data();
  } catch (const Error&) {  // the same on all ranks: a checkpoint that is being written is still good
    saver_.wait();
    throw;
  }
  saver_.note_next_losses(counters_.iteration, report.loss);
  agree_on_saves_and_stops(seconds);
  save_if_due();
  if (!previews_.is_due(counters_.iteration, is_finished(stage))) return;
  saver_.before_change_of_all();  // averages and weights change places
  previews_.after_iteration(networks_, counters_.iteration, is_finished(stage));
}

// What an iteration writes into, and when.
void Training::reached(workers::TrainerMoment moment, method::Phase phase, int64_t iteration) {
  using workers::TrainerMoment;
  constexpr std::array<const char*, 4> kNames = {"batch", "compute", "reduce", "update"};
  const std::string name = kNames[static_cast<size_t>(moment)];
  fault_.reach(name, iteration);
  if (moment != TrainerMoment::kUpdate) return;
  for (const NetworkRole role : trainer_.changed_roles(phase)) saver_.before_change(role);
  for (const NetworkRole role : trainer_.trained_roles(phase)) {
    if (fault_.spoils(name, iteration))
      networks_.network(role).shard(0).piece_gradient[0] = std::numeric_limits<double>::quiet_NaN();
  }
}

// One small all-reduce an iteration: what any rank knows decides for all.
void Training::agree_on_saves_and_stops(double iteration_s) {
  slowest_s_ = std::max(slowest_s_, iteration_s);
  StopReason own = stop_.reason(slowest_s_ + 2 * saver_.duration_s());
  if (feed_->stop_requested()) own = StopReason::kSignal;
  std::array<int64_t, 2> flags = {static_cast<int64_t>(own), saver_.is_busy() ? 1 : 0};
  comm::agree_max(job_.trainers(), flags);
  stops_ = static_cast<StopReason>(flags[0]);
  if (stops_ != StopReason::kNone && own == stops_)
    log_info("stops after iteration {}: {}", counters_.iteration, stop_.text(own));
  if (flags[1] == 0) saver_.advance();
}

// Iterations of a phase that a run is held against its plan after: the first one may still grow buffers.
constexpr int kMeasuredIteration = 2;

workers::IterationReport Training::train_within_memory(const workers::IterationIndex& index) {
  const method::Phase phase = trainer_.phase_of(index);
  workers::reset_peak_memory(job_.device());
  try {
    workers::IterationReport report = trainer_.run(index, *feed_);
    tensor_peak_ = workers::peak_memory(job_.device());
    if (++phase_iterations_[{networks_.stage(), phase}] == kMeasuredIteration)
      compare_with_plan(phase, index);
    return report;
  } catch (const std::bad_alloc&) {
    refuse_memory(phase, index, Error(ErrorKind::kDoesNotFit, "the host gives no more memory"));
  } catch (const c10::OutOfMemoryError&) {
    refuse_memory(phase, index, Error(ErrorKind::kDoesNotFit, "the device gives no more memory"));
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
    return plan_phase(input, networks_.stage(), phase, iteration, job_.device()).peak;
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

bool Training::may_be_the_last(const workers::IterationIndex& index) const {
  const workers::TrainOptions& options = job_.config().train;
  return options.nonfinite == workers::TrainOptions::NonFinite::kStop ||
         counters_.nonfinite_in_row + 1 >= options.max_nonfinite ||
         (trainer_.phase_of(index) == method::Phase::kStudent && alarm_.may_end_next());
}

std::optional<AlarmReport> Training::find_alarm(const workers::IterationReport& report) {
  const workers::TrainOptions& options = job_.config().train;
  const bool stops = options.nonfinite == workers::TrainOptions::NonFinite::kStop;
  if (!report.skipped || (!stops && counters_.nonfinite_in_row < options.max_nonfinite))
    return alarm_.after(counters_.iteration, report);
  return AlarmReport{
      .reason = "not_finite",
      .text = fmt::format("iteration {}: a gradient is not finite ({} in a row)", counters_.iteration,
                          counters_.nonfinite_in_row),
      .hint = "lower the learning rate, or look at the batch; the last checkpoint is from before",
      .saves_state = false};
}

// Every rank has the same alarm. Neither a full disk nor anything else hides it.
void Training::end_with(const AlarmReport& alarm, const workers::IterationReport& report,
                        const std::vector<int64_t>& samples) {
  const bool speaks = job_.trainers().rank() == 0;
  const auto try_to = [&](const char* what, auto action) {
    try {
      action();
    } catch (const Error& e) {  // the same on all ranks
      if (e.kind() != ErrorKind::kIo) throw;
      if (speaks) log_warning("{} cannot be saved: {}", what, e.what());
    }
  };
  try_to("the batch", [&] {
    save_alarmed_batch(job_, folder_.path(),
                       {.iteration = counters_.iteration,
                        .stage = name(networks_.stage()),
                        .samples = samples,
                        .alarm = alarm,
                        .report = report,
                        .own = trainer_.kept_batches()});
  });
  if (metrics_) metrics_->sync();
  try_to("the state", [&] { alarm.saves_state ? saver_.save_now(counters_) : saver_.wait(); });
  comm::run_agreed(job_.trainers(), [&] {  // whoever throws first ends the program
    if (speaks) publish_verdict(ErrorKind::kDiverged, alarm.reason, alarm.text);
  });
  const std::string folder = alarm_folder(folder_.path(), counters_.iteration).string();
  throw Error(ErrorKind::kDiverged, fmt::format("{}; its batch is in {}", alarm.text, folder), alarm.hint);
}

// A checkpoint that an alarm has saved is kept as long as its batch.
std::vector<int64_t> Training::checkpoints_to_keep(int64_t saved_step) {
  std::vector<int64_t> steps = judge_.saved(saved_step);
  const std::vector<int64_t> alarmed = alarmed_iterations(folder_.path());
  steps.insert(steps.end(), alarmed.begin(), alarmed.end());
  return steps;
}

nlohmann::json Training::judge_if_due(workers::IterationReport& report) {
  if (!judge_.is_due(counters_.iteration)) return {};
  judge_.measure(networks_, trainer_.kept_batches(), report.diag);
  if (!judge_.judges(networks_, counters_.iteration)) return {};
  saver_.before_change(NetworkRole::kStudent);  // its average takes its place for a while
  return judge_.judge(networks_, counters_.iteration);
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

// Nothing of the iteration was recorded or saved yet.
void Training::compare_with_probe(const workers::IterationReport& report) {
  comm::Communicator& trainers = job_.trainers();
  if (counters_.iteration + 1 != first_iteration_ || saver_.last_saved() < 0) return;
  comm::run_agreed(trainers, [&] {
    const std::optional<Probe> stored = std::exchange(probe_, std::nullopt);
    if (trainers.rank() != 0) return;
    if (!stored || stored->iteration != first_iteration_)
      return log_info("no losses are stored with the checkpoint: nothing to compare the first ones with");
    bool warns = false;
    const Probe found = Probe::of(job_, experiment_hash_, first_iteration_, report.loss);
    const std::string line = stored->compare(found, job_.type(), warns);
    if (warns) log_warning("{}", line);
    if (!warns) log_info("{}", line);
  });
}

// The state is saved: whoever is out of patience may end the program here.
void Training::probe_next_iteration() {
  const Stage stage = networks_.stage();
  if (is_finished(stage)) return;  // the next iteration is another stage's
  const workers::IterationIndex next = next_iteration();
  saver_.note_next_losses(next.iteration, trainer_.evaluate(next, *feed_));
}

void Training::save_if_due() {
  if (counters_.iteration % job_.config().checkpoint.every != 0) return;
  if (metrics_) metrics_->sync();  // a checkpoint's iterations must not be missing in them after a crash
  const workers::IterationIndex next = next_iteration();
  saver_.begin(counters_, trainer_.changed_roles(trainer_.phase_of(next)));
}

double Training::seconds_left() const {
  const int64_t done = counters_.iteration - first_iteration_ + 1;
  const int64_t left = job_.config().total_iterations() - counters_.iteration;
  return seconds_between(loop_start_, Clock::now()) / static_cast<double>(done) * static_cast<double>(left);
}

void Training::record(const workers::IterationReport& report, const std::vector<int64_t>& samples,
                      nlohmann::json evaluation, double checkpoint_s, double total_s) {
  comm::run_agreed(job_.trainers(), [&] {
    fault_.reach("metrics", counters_.iteration);
    if (!metrics_) return;
    const IterationRecord record{.iteration = counters_.iteration,
                                 .total_iterations = job_.config().total_iterations(),
                                 .stage = name(networks_.stage()),
                                 .student_updates = counters_.student_updates,
                                 .samples = samples,
                                 .report = report,
                                 .checkpoint_s = checkpoint_s,
                                 .total_s = total_s,
                                 .evaluation = std::move(evaluation),
                                 .tensor_peak = tensor_peak_};
    metrics_->write(record);
    if (counters_.iteration % request_.console_every == 0 || counters_.iteration == record.total_iterations) {
      log_info("{}{}", request_.title.empty() ? "" : request_.title + ": ",
               console_line(record, seconds_left()));
    }
  });
}

// The state is saved: what comes after it may not make the run look failed.
void Training::publish_verdict(ErrorKind kind, const std::string& reason, const std::string& text) const {
  try {
    folder_.publish_verdict(kind, reason, text);
  } catch (const Error& e) {
    log_warning("the verdict cannot be written: {}", e.what());
  }
}

void Training::finish() {
  comm::Communicator& trainers = job_.trainers();
  if (metrics_) metrics_->sync();
  saver_.save_now(counters_);
  comm::run_agreed(trainers, [&] {
    if (metrics_ && is_early()) publish_verdict(ErrorKind::kRequeue, name(stops_), stop_.text(stops_));
  });
  if (is_early()) probe_next_iteration();
  if (feed_) feed_->close();
  comm::run_agreed(trainers, [this] {
    if (metrics_) metrics_->close();
  });
  if (trainers.rank() != 0) return;
  log_info("{} {} iterations in {}", is_early() ? "saved and stopped after" : "finished", counters_.iteration,
           folder_.path().string());
  if (is_early()) log_info("hint: the same command goes on from there");
}

}  // namespace tmd::orchestrator
