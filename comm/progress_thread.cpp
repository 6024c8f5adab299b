#include "comm/progress_thread.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

namespace tmd::comm {

using namespace std::chrono_literals;

void mpi_check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(ErrorKind::kPeerLost,
              std::string(call) + " failed: " + std::string(text, static_cast<size_t>(length)));
}

void MpiOperation::wait() {
  std::unique_lock lock(mutex_);
  if (!done_) {
    ++*waiters_;
    changed_.wait(lock, [this] { return done_; });
    --*waiters_;
  }
  if (error_) std::rethrow_exception(error_);
}

bool MpiOperation::is_done() {
  const std::lock_guard lock(mutex_);
  if (done_ && error_) std::rethrow_exception(error_);
  return done_;
}

ProgressThread::ProgressThread() {
  std::promise<void> ready;
  thread_ = std::thread([this, &ready] {
    pthread_setname_np(pthread_self(), "tmd-mpi");
    int provided = 0;
    const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
    if (code != MPI_SUCCESS || provided < MPI_THREAD_SERIALIZED) {
      init_error_ = std::make_exception_ptr(Error(ErrorKind::kUnavailable, "MPI_Init_thread failed"));
    } else {
      MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    }
    const bool usable = !init_error_;
    ready.set_value();
    if (usable) loop();
  });
  ready.get_future().wait();
  if (init_error_) {
    thread_.join();
    finalized_ = true;
    std::rethrow_exception(init_error_);
  }
}

ProgressThread::~ProgressThread() {
  if (finalized_) return;
  log_error("MPI was not finalized: the process leaves without it");
  thread_.detach();
}

void ProgressThread::submit(const std::shared_ptr<MpiOperation>& operation, const char* kind,
                            const std::string& communicator, uint64_t elements) {
  operation->waiters_ = &waiters_;
  operation->journal_sequence_ = journal_.start(kind, communicator, elements);
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back([this, operation] {
      try {
        operation->requests_ = operation->start_();
        active_.push_back(operation);
      } catch (...) {
        complete(*operation, std::current_exception());
      }
    });
  }
  wake_.notify_one();
}

void ProgressThread::run(std::function<void()> call) {
  std::promise<void> done;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back([&] {
      try {
        call();
        done.set_value();
      } catch (...) {
        done.set_exception(std::current_exception());
      }
    });
  }
  wake_.notify_one();
  done.get_future().get();
}

void ProgressThread::finalize() {
  if (finalized_) return;
  run([this] {
    ensure(active_.empty(), "every operation was waited for before MPI is finalized");
    mpi_check(MPI_Finalize(), "MPI_Finalize");
    stop_ = true;
  });
  thread_.join();
  finalized_ = true;
}

void ProgressThread::abort(int code) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_front([code] { MPI_Abort(MPI_COMM_WORLD, code); });
  }
  wake_.notify_one();
  // A second deadline: the progress thread may itself be stuck inside MPI.
  std::this_thread::sleep_for(5s);
  _exit(code);
}

void ProgressThread::loop() {
  while (!stop_) {
    start_queued();
    if (stop_) break;
    if (poll()) {
      quiet_polls_ = 0;
    } else {
      idle();
    }
  }
}

void ProgressThread::start_queued() {
  while (true) {
    std::function<void()> command;
    {
      const std::lock_guard lock(mutex_);
      if (queue_.empty()) return;
      command = std::move(queue_.front());
      queue_.pop_front();
    }
    command();
    quiet_polls_ = 0;
  }
}

bool ProgressThread::poll() {
  bool progressed = false;
  for (auto it = active_.begin(); it != active_.end();) {
    MpiOperation& operation = **it;
    int complete_flag = 0;
    std::exception_ptr error;
    try {
      mpi_check(MPI_Testall(static_cast<int>(operation.requests_.size()), operation.requests_.data(),
                            &complete_flag, MPI_STATUSES_IGNORE),
                "MPI_Testall");
      if (complete_flag && operation.finish_) operation.finish_();
    } catch (...) {
      error = std::current_exception();
    }
    if (complete_flag || error) {
      complete(operation, error);
      it = active_.erase(it);
      progressed = true;
    } else {
      ++it;
    }
  }
  return progressed;
}

void ProgressThread::complete(MpiOperation& operation, std::exception_ptr error) {
  journal_.finish(operation.journal_sequence_);
  operation.start_ = nullptr;
  operation.finish_ = nullptr;
  {
    const std::lock_guard lock(operation.mutex_);
    operation.tensors_.clear();
    operation.done_ = true;
    operation.error_ = std::move(error);
  }
  operation.changed_.notify_all();
}

void ProgressThread::idle() {
  constexpr int kEagerPolls = 200, kWaitedPolls = 20000;
  ++quiet_polls_;
  const bool somebody_waits = waiters_.load(std::memory_order_relaxed) > 0;
  if (!active_.empty() && quiet_polls_ < (somebody_waits ? kWaitedPolls : kEagerPolls)) {
    sched_yield();
    return;
  }
  std::unique_lock lock(mutex_);
  if (!queue_.empty()) return;
  if (active_.empty()) {
    wake_.wait(lock, [this] { return !queue_.empty(); });
    return;
  }
  // 50 us, then longer and longer up to 1 ms; a new command wakes at once.
  const auto pause = std::min(1000us, 50us * (1 + quiet_polls_ / kEagerPolls));
  wake_.wait_for(lock, somebody_waits ? 50us : pause, [this] { return !queue_.empty(); });
}

}  // namespace tmd::comm
