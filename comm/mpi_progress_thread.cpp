#include "comm/mpi_progress_thread.h"

#include <algorithm>
#include <sched.h>
#include <unistd.h>

#include <spdlog/fmt/fmt.h>

#include "comm/service_thread.h"

namespace tmd::comm {
namespace {

using std::chrono::microseconds;

// Chosen by measurement on two cores that two ranks share: shorter makes back-to-back operations slower,
// longer takes time from the computing threads.
constexpr microseconds kSpin{50};
constexpr microseconds kSpinForWaiter{200};
constexpr microseconds kShortestNap{50};
constexpr microseconds kLongestNap{1000};

constexpr std::chrono::seconds kAbortTimeout{5};

/// Runs one operation to its end and owns it meanwhile.
struct Detached {
  struct promise_type {
    Detached get_return_object() const { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }
  };
};

Detached drive(std::shared_ptr<MpiOperation> operation, Flow flow) {
  std::optional<Error> failure;
  try {
    Flow running = std::move(flow);  // its tensors are let go before the waiters go on
    co_await running;
  } catch (const Error& e) {
    failure = e;
  } catch (const std::exception& e) {
    failure =
        Error(ErrorKind::kInternal, std::string("an operation of the progress thread failed: ") + e.what());
  }
  operation->finish(failure);
}

}  // namespace

MpiProgressThread::MpiProgressThread(Journal& journal) : journal_(journal), thread_([this] { run(); }) {
  try {
    initialised_.get_future().get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

MpiProgressThread::~MpiProgressThread() {
  if (thread_.joinable()) thread_.join();
}

void MpiProgressThread::run() {
  begin_service_thread("tmd-mpi");
  try {
    mpi_initialize();
    world_ = MpiGroup::world();
  } catch (...) {
    initialised_.set_exception(std::current_exception());
    return;
  }
  random_.seed(static_cast<unsigned>(world_->rank()) + 1);  // other delays on every rank
  initialised_.set_value();
  try {
    loop();
    ended_.set_value();
  } catch (...) {
    ended_.set_exception(std::current_exception());
  }
}

void MpiProgressThread::loop() {
  while (true) {
    if (has_news_.exchange(false, std::memory_order_acquire)) {
      last_move_ = Clock::now();
      std::unique_lock lock(mutex_);
      std::swap(queue_, starting_);
      const std::optional<int> abort_code = abort_code_;
      const End end = end_;
      lock.unlock();
      if (abort_code) return mpi_abort(*abort_code);
      if (end == End::kLeave) return;
      if (end == End::kFinalize) return finalize_mpi();
    }
    const bool has_started = start_queued();
    maybe_delay();
    const bool has_received = requests_.poll() > 0;
    ask_conditions();
    const bool has_resumed = resume_ready();
    rest(has_started || has_received || has_resumed);
  }
}

void MpiProgressThread::finalize_mpi() {
  check(starting_.empty() && ready_.empty() && watched_.empty() && requests_.count() == 0,
        ErrorKind::kInternal,
        fmt::format("MPI cannot be finalized: {} operations are queued, {} messages are under way and {} "
                    "operations wait for other ranks",
                    starting_.size(), requests_.count(), watched_.size()));
  mpi_finalize();
}

bool MpiProgressThread::start_queued() {
  if (starting_.empty()) return false;
  for (Command& command : starting_) {
    maybe_delay();
    journal_.mark_started(command.operation->journal_entry());
    drive(std::move(command.operation), std::move(command.flow));
  }
  starting_.clear();
  return true;
}

// The others keep their order.
void MpiProgressThread::ask_conditions() {
  std::erase_if(watched_, [this](const Watched& watched) {
    if (!watched.condition->holds()) return false;
    ready_.push_back(watched.flow);
    return true;
  });
}

bool MpiProgressThread::resume_ready() {
  if (ready_.empty()) return false;
  std::swap(ready_, resuming_);
  for (std::coroutine_handle<> flow : resuming_) {
    maybe_delay();
    flow.resume();
  }
  resuming_.clear();
  return true;
}

void MpiProgressThread::maybe_delay() {
  const int64_t longest_us = longest_delay_us_.load(std::memory_order_relaxed);
  if (longest_us == 0) return;
  std::uniform_int_distribution<int64_t> delay_us(0, longest_us);
  std::this_thread::sleep_for(microseconds(delay_us(random_)));
}

void MpiProgressThread::rest(bool has_moved) {
  const Clock::time_point now = Clock::now();
  if (has_moved) {
    last_move_ = now;
    return;
  }
  const auto idle = now - last_move_;
  if (idle < (waiters_.load(std::memory_order_relaxed) > 0 ? kSpinForWaiter : kSpin)) {
    sched_yield();
    return;
  }
  std::unique_lock lock(mutex_);
  is_resting_ = true;
  const auto has_news = [this] { return has_news_.load(std::memory_order_acquire); };
  if (requests_.count() == 0 && watched_.empty()) {
    wake_up_.wait(lock, has_news);
  } else {
    // In proportion to the wait so far: a message is found late by a small part of the time it took.
    const auto nap = std::chrono::duration_cast<microseconds>(idle / 8);
    wake_up_.wait_for(lock, std::clamp(nap, kShortestNap, kLongestNap), has_news);
  }
  is_resting_ = false;
}

void MpiProgressThread::wake() {
  bool is_resting = false;
  {
    const std::lock_guard lock(mutex_);
    has_news_.store(true, std::memory_order_release);
    is_resting = is_resting_;
  }
  if (is_resting) wake_up_.notify_one();
}

void MpiProgressThread::start(std::shared_ptr<MpiOperation> operation, Flow flow) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(operation), std::move(flow)});
  }
  wake();
}

MpiProgressThread::Waiter::Waiter(MpiProgressThread& thread) : thread_(thread) {
  thread_.waiters_.fetch_add(1, std::memory_order_relaxed);
  thread_.wake();
}

MpiProgressThread::Waiter::~Waiter() { thread_.waiters_.fetch_sub(1, std::memory_order_relaxed); }

void MpiProgressThread::ask_to_end(End end) {
  {
    const std::lock_guard lock(mutex_);
    end_ = end;
  }
  wake();
}

void MpiProgressThread::finalize() {
  ask_to_end(End::kFinalize);
  thread_.join();
  end_reached_.get();
}

bool MpiProgressThread::leave(std::chrono::milliseconds timeout) {
  ask_to_end(End::kLeave);
  if (end_reached_.wait_for(timeout) == std::future_status::ready) {
    thread_.join();
    return true;
  }
  thread_.detach();
  return false;
}

void MpiProgressThread::request_abort(int code) {
  {
    const std::lock_guard lock(mutex_);
    if (!abort_code_) abort_code_ = code;
  }
  wake();
}

void MpiProgressThread::abort(int code) noexcept {
  request_abort(code);
  std::this_thread::sleep_for(kAbortTimeout);
  ::_exit(code);
}

}  // namespace tmd::comm
