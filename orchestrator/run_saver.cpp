#include "orchestrator/run_saver.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"

namespace tmd::orchestrator {
namespace {

using Clock = std::chrono::steady_clock;

// That all ranks together write, at the least, as long as nothing was measured.
constexpr double kSlowBytesPerSecond = 3e8;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Adds the time of its life to a sum.
class Held {
 public:
  explicit Held(double& sum) : sum_(sum) {}
  ~Held() { sum_ += seconds_since(begin_); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  double& sum_;
  const Clock::time_point begin_ = Clock::now();
};

}  // namespace

RunSaver::RunSaver(Job& job, const checkpoint::Store& store, workers::StageNetworks& networks, Fault& fault,
                   uint64_t experiment_hash, Keeper keeper)
    : job_(job),
      store_(store),
      networks_(networks),
      fault_(fault),
      experiment_hash_(experiment_hash),
      keeper_(std::move(keeper)) {}

void RunSaver::check_space() {
  comm::Communicator& trainers = job_.trainers();
  double bytes = static_cast<double>(checkpoint_bytes(job_.mesh(), networks_));
  comm::sum(trainers, {&bytes, 1});
  const bool refuses = !std::exchange(has_checked_space_, true);
  if (duration_s_ == 0) duration_s_ = bytes / kSlowBytesPerSecond;
  comm::run_agreed(trainers, [&] {
    if (trainers.rank() != 0) return;
    try {
      require_space(bytes);
    } catch (const Error& e) {
      if (refuses) throw;
      log_warning("training goes on: {}", e.what());
    }
  });
}

void RunSaver::require_space(double bytes) const {
  const int64_t more = std::max<int64_t>(1, 2 - static_cast<int64_t>(store_.steps().size()));
  const auto free = static_cast<double>(free_bytes(store_.root()));
  check(
      free >= static_cast<double>(more) * bytes, ErrorKind::kIo,
      fmt::format("{} more checkpoint{} of {:.1f} MB need room in {}, and the file system has {:.1f} MB left",
                  more, more == 1 ? "" : "s", bytes / 1e6, store_.root().string(), free / 1e6),
      "free some space, or give a --run folder elsewhere");
}

void RunSaver::prune(int64_t step) const {
  const configs::CheckpointOptions& options = job_.config().checkpoint;
  try {
    store_.prune(
        {.keep_last = options.keep_last, .keep_every = options.keep_every, .keep = keeper_.to_keep(step)},
        step);
  } catch (const Error& e) {
    log_warning("old checkpoints stay where they are: {}", e.what());
  }
}

void RunSaver::start(const RunCounters& counters, const std::vector<workers::NetworkRole>& changing) {
  begun_ = Clock::now();
  job_.settle_device();
  probe_.reset();
  const int64_t step = counters.iteration;
  checkpoint::SaveHooks hooks{.before_write = [this, step] { fault_.reach("write", step); },
                              .before_commit =
                                  [this, step] {
                                    fault_.reach("commit", step);
                                    keeper_.before_commit(step);
                                  },
                              .after_commit = [this, step] { prune(step); }};
  save_ = begin_checkpoint(store_, job_.mesh(), experiment_hash_, networks_, counters, std::move(hooks),
                           changing);
}

void RunSaver::settle() {
  last_saved_ = save_->step();
  duration_s_ = seconds_since(begun_);
  save_.reset();
  write_probe();
}

void RunSaver::note_next_losses(int64_t iteration, const std::map<std::string, double>& loss) {
  const int64_t step = save_ ? save_->step() : last_saved_;
  if (step != iteration - 1) return;
  probe_ = Probe::of(job_, experiment_hash_, iteration, loss);
  if (!save_) write_probe();
}

// It is a check on the checkpoint, not a part of it.
void RunSaver::write_probe() {
  const std::optional<Probe> probe = std::exchange(probe_, std::nullopt);
  if (!probe || job_.trainers().rank() != 0) return;
  try {
    probe->write(store_.folder(last_saved_));
  } catch (const Error& e) {
    log_warning("the losses after step {} cannot be kept with its checkpoint: {}", last_saved_, e.what());
  }
}

void RunSaver::advance_once() {
  try {
    if (save_->advance()) settle();
  } catch (...) {
    save_.reset();
    throw;
  }
}

// The failure is the same on all ranks.
template <class Action>
void RunSaver::warn_of_failure(int64_t step, Action action) {
  try {
    action();
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kIo) throw;
    if (job_.trainers().rank() == 0)
      log_warning("checkpoint of step {} failed, training goes on: {}", step, e.what());
  }
}

void RunSaver::begin(const RunCounters& counters, const std::vector<workers::NetworkRole>& changing) {
  const Held held(held_s_);
  if (save_) {
    if (job_.trainers().rank() == 0) {
      log_warning("the checkpoint of step {} is still being written: that of step {} is left out",
                  save_->step(), counters.iteration);
    }
    return;
  }
  warn_of_failure(counters.iteration, [&] {
    start(counters, job_.config().checkpoint.async ? changing : std::vector<workers::NetworkRole>());
    while (save_ && !job_.config().checkpoint.async) advance_once();
  });
}

void RunSaver::advance() {
  if (!save_) return;
  const Held held(held_s_);
  warn_of_failure(save_->step(), [this] { advance_once(); });
}

void RunSaver::wait() {
  const Held held(held_s_);
  while (save_) {
    warn_of_failure(save_->step(), [this] { advance_once(); });
  }
}

void RunSaver::save_now(const RunCounters& counters) {
  wait();
  if (last_saved_ == counters.iteration) return;
  start(counters, {});
  while (save_) advance_once();
}

void RunSaver::before_change(workers::NetworkRole role) {
  if (!save_) return;
  const Held held(held_s_);
  save_->keep(name(role));
}

void RunSaver::before_change_of_all() {
  for (const auto& [role, network] : networks_.all()) before_change(role);
}

double RunSaver::take_held_s() { return std::exchange(held_s_, 0); }

}  // namespace tmd::orchestrator
