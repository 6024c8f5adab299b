#include "comm/mpi_runtime.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/mpi_communicator.h"
#include "comm/mpi_progress_thread.h"
#include "comm/single_communicator.h"

namespace tmd::comm {
namespace {

constexpr std::chrono::seconds kLeaveTimeout{1};

}  // namespace

MpiRuntime::MpiRuntime() : journal_(std::make_unique<Journal>()) {
  static std::atomic<bool> has_been_made = false;
  check(!has_been_made.exchange(true), ErrorKind::kInternal, "MPI can be initialised only once in a process");
  thread_ = std::make_unique<MpiProgressThread>(*journal_);
  rank_ = thread_->world().rank();
  size_ = thread_->world().size();
  if (size_ == 1) {
    world_ = std::make_unique<SingleCommunicator>("world", journal_.get());
  } else {
    world_ = std::make_unique<MpiCommunicator>(*thread_, thread_->take_world(), "world");
  }
}

MpiRuntime::~MpiRuntime() {
  if (is_finalized_) return;
  log_warning("MPI was not finalized: the process leaves it as it is");
  if (!thread_->leave(kLeaveTimeout)) {
    (void)thread_.release();
    (void)journal_.release();
  }
}

void MpiRuntime::delay_work(std::chrono::microseconds longest) { thread_->delay_work(longest); }

void MpiRuntime::finalize() {
  ensure(!is_finalized_, "MPI is finalized once");
  world_->close();
  thread_->finalize();
  is_finalized_ = true;
}

void MpiRuntime::abort(int code) noexcept {
  if (!is_finalized_) thread_->abort(code);
  ::_exit(code);
}

Allocation launched_ranks() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    const char* value = std::getenv(variable);
    const int ranks = value ? std::atoi(value) : 0;
    if (ranks > 0) return {.ranks = ranks, .source = variable};
  }
  return {};
}

}  // namespace tmd::comm
