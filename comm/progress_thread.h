#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <mpi.h>

#include "comm/communicator.h"
#include "comm/journal.h"

namespace tmd::comm {

/// Throws kPeerLost with MPI's own text unless `code` is MPI_SUCCESS.
void mpi_check(int code, const char* call);

/// One operation on its way. Made by a communicator, started and polled by the progress thread.
class MpiOperation : public Operation {
 public:
  /// `start`: starts non-blocking MPI calls and returns their requests (runs on the progress thread).
  /// `finish`: runs on the progress thread when all of them are complete; may be empty.
  /// `tensors`: kept alive until then.
  MpiOperation(std::function<std::vector<MPI_Request>()> start, std::function<void()> finish,
               std::vector<at::Tensor> tensors)
      : start_(std::move(start)), finish_(std::move(finish)), tensors_(std::move(tensors)) {}

  void wait() override;
  bool is_done() override;

 private:
  friend class ProgressThread;
  std::function<std::vector<MPI_Request>()> start_;
  std::function<void()> finish_;
  std::vector<at::Tensor> tensors_;
  std::vector<MPI_Request> requests_;
  uint64_t journal_sequence_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::exception_ptr error_;
  std::atomic<int>* waiters_ = nullptr;  // of the thread: somebody waits, so poll eagerly
};

/// The one thread of the process that calls MPI. It starts operations in the order in which they were queued
/// and polls all that are under way, so that neither a slow receive nor a stopped peer holds up the others.
///
/// It polls without pause while results come in or somebody waits, and ever more seldom (up to 1 ms) while
/// only operations that nobody waits for are pending: ranks share their cores with it.
class ProgressThread {
 public:
  /// Initialises MPI on the new thread. Throws kUnavailable when that fails.
  ProgressThread();
  /// finalize() must have been called; otherwise logs, and the process must end by _exit or abort.
  ~ProgressThread();

  void submit(const std::shared_ptr<MpiOperation>& operation, const char* kind,
              const std::string& communicator, uint64_t elements);

  /// Runs `call` on the thread and waits for it. For what has no non-blocking form (making and freeing
  /// communicators).
  void run(std::function<void()> call);

  /// Ends MPI on the good path, after all operations. Collective over: the world.
  void finalize();

  /// Ends all processes of the job with `code`; does not return. Thread: any.
  [[noreturn]] void abort(int code);

  Journal& journal() { return journal_; }

 private:
  void loop();
  void start_queued();
  bool poll();
  void idle();
  void complete(MpiOperation& operation, std::exception_ptr error);

  Journal journal_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::list<std::shared_ptr<MpiOperation>> active_;  // progress thread only
  std::atomic<int> waiters_{0};
  bool stop_ = false, finalized_ = false;
  int quiet_polls_ = 0;  // progress thread only
  std::exception_ptr init_error_;
  std::thread thread_;
};

}  // namespace tmd::comm
