#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "comm/flow.h"
#include "comm/journal.h"
#include "comm/mpi_library.h"
#include "comm/mpi_operation.h"
#include "comm/scratch.h"

namespace tmd::comm {

/// The only thread of the process that calls MPI, from its initialisation to its finalisation. It starts
/// operations in the order in which they were queued and polls all that are under way, messages and
/// conditions alike; it never blocks for one of them (except in MpiGroup::split), so a receive that nobody
/// answers and a rank that does not come hold up nothing else.
///
/// How often it polls: all the time for a moment after something has happened, then after pauses that grow
/// with the time for which nothing has, up to a millisecond. It sleeps while there is nothing to poll.
class MpiProgressThread {
 public:
  /// Starts the thread, which initialises MPI. Throws kUnavailable. `journal` must outlive the thread.
  /// Collective over: all processes.
  explicit MpiProgressThread(Journal& journal);
  /// The thread must have ended by `finalize` or `leave`.
  ~MpiProgressThread();

  /// Queues the operation and its flow, and keeps both until the flow has ended. Thread: any.
  void start(std::shared_ptr<MpiOperation> operation, Flow flow);

  /// Finalises MPI and ends the thread. Collective over: all processes. Call once, and no `leave` after it.
  /// Throws kInternal when operations are still under way; the thread has ended then too.
  void finalize();

  /// Ends the thread without finalising MPI; false when it did not end in `timeout`: the object must leak
  /// then.
  bool leave(std::chrono::milliseconds timeout);

  /// Makes the thread abort all processes, before anything else that is queued. Thread: any.
  void request_abort(int code);
  /// The same, and waits for the end; a process that the library has not ended after five seconds leaves by
  /// itself. Thread: any but this one.
  [[noreturn]] void abort(int code) noexcept;

  /// For tests: from now on the thread sleeps for a random time up to `longest` before each piece of its
  /// work; zero ends that. Thread: any.
  void delay_work(std::chrono::microseconds longest) { longest_delay_us_.store(longest.count()); }

  /// All processes; not to be asked for after `take_world`, which gives the group away.
  MpiGroup& world() { return *world_; }
  std::unique_ptr<MpiGroup> take_world() { return std::move(world_); }
  Journal& journal() { return journal_; }

  /// While one lives a thread of the host does nothing but wait. Thread: any.
  class Waiter {
   public:
    explicit Waiter(MpiProgressThread& thread);
    ~Waiter();
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

   private:
    MpiProgressThread& thread_;
  };

  // For flows. Thread: this one.
  MpiRequests& requests() { return requests_; }
  ScratchPool& scratch() { return scratch_; }
  void resume_soon(std::coroutine_handle<> flow) { ready_.push_back(flow); }

  /// `co_await thread.yield()` between two pieces of computation lets MPI work.
  struct Yield {
    MpiProgressThread& thread;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> flow) const { thread.resume_soon(flow); }
    void await_resume() const {}
  };
  Yield yield() { return {*this}; }

  /// Something that another process brings about.
  class Condition {
   public:
    /// Asked again and again until it is true; may not throw.
    virtual bool holds() const = 0;

   protected:
    ~Condition() = default;
  };
  /// `co_await thread.until(condition)`: goes on when the condition holds. It must outlive the wait.
  struct Until {
    MpiProgressThread& thread;
    const Condition& condition;
    bool await_ready() const { return condition.holds(); }
    void await_suspend(std::coroutine_handle<> flow) const { thread.watched_.push_back({&condition, flow}); }
    void await_resume() const {}
  };
  Until until(const Condition& condition) { return {*this, condition}; }

 private:
  using Clock = std::chrono::steady_clock;
  enum class End { kNone, kLeave, kFinalize };
  struct Command {
    std::shared_ptr<MpiOperation> operation;
    Flow flow;
  };
  struct Watched {
    const Condition* condition;
    std::coroutine_handle<> flow;
  };

  void run();
  void loop();
  void finalize_mpi();
  bool start_queued();
  void ask_conditions();
  bool resume_ready();
  void maybe_delay();
  void rest(bool has_moved);
  void wake();
  void ask_to_end(End end);

  Journal& journal_;
  MpiRequests requests_;
  ScratchPool scratch_;
  std::unique_ptr<MpiGroup> world_;
  std::vector<Watched> watched_;
  std::vector<std::coroutine_handle<>> ready_;
  std::vector<std::coroutine_handle<>> resuming_;
  std::deque<Command> starting_;  // taken from queue_
  Clock::time_point last_move_ = Clock::now();

  std::mutex mutex_;
  std::condition_variable wake_up_;
  std::deque<Command> queue_;           // guarded by mutex_
  bool is_resting_ = false;             // guarded by mutex_
  End end_ = End::kNone;                // guarded by mutex_
  std::optional<int> abort_code_;       // guarded by mutex_
  std::atomic<bool> has_news_ = false;  // one of the above has changed, or a waiter has come
  std::atomic<int> waiters_ = 0;
  std::atomic<int64_t> longest_delay_us_ = 0;
  std::minstd_rand random_;  // of the delays

  std::promise<void> initialised_;
  std::promise<void> ended_;
  std::future<void> end_reached_ = ended_.get_future();
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace tmd::comm
