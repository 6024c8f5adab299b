#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "comm/device_streams.h"
#include "comm/journal.h"
#include "comm/nccl_library.h"
#include "comm/nccl_operation.h"

namespace tmd::comm {

/// The only thread of the process that calls NCCL. It starts the operations of all communicators in the order
/// in which they were called, each on the stream of its communicator, so that all ranks whose programs make
/// the same calls launch in the same order. (Two threads of a program that call at the same time have no
/// order: one at a time calls the communicators of devices.) It then asks for their ends, enters them in the
/// journal and lets their tensors go.
///
/// When an operation fails on the device, when NCCL reports a lost peer or the device an error, all
/// communicators are aborted, since they share what NCCL works with, and from then on every call and wait
/// throws that failure.
///
/// An operation that a device does not end for a second is marked in the journal as what the host waits for,
/// unless it waits for something else: the host may be blocked where it does not call this library, and the
/// watchdog (comm/watchdog.h) reads the journal.
class NcclLaunchThread final : private NcclPoll {
 public:
  struct Options {
    int device = 0;
    /// How long one call into NCCL may be in progress (making a communicator connects all ranks).
    std::chrono::duration<double> patience{600};
  };
  /// `journal` and `streams` must outlive the thread. Throws kUnavailable when the device cannot be used.
  NcclLaunchThread(Journal& journal, DeviceStreams& streams, Options options);
  /// The thread must have ended by `leave`.
  ~NcclLaunchThread();

  /// Queues the operation, and keeps it until it is over. Thread: any.
  void start(std::shared_ptr<NcclOperation> operation);

  /// Runs `task` on the thread, after what is queued, and waits for it; throws what it throws, as an Error.
  /// `entry`: the journal's number of what the host waits for. Thread: any but this one.
  void run(uint64_t entry, const std::function<void()>& task);

  /// Aborts all communicators, before anything else that is queued; false when that has not ended in
  /// `timeout`. Thread: any but this one.
  bool abort(std::chrono::milliseconds timeout) noexcept;

  /// Why nothing can be done any more, if so. Thread: any.
  std::optional<Error> failure() const;
  /// Whether there is a failure, of which operations may not have been told yet. Thread: any.
  bool has_failed() const { return has_failed_.load(std::memory_order_acquire); }

  /// Communicators that have been neither closed nor aborted. Thread: any.
  int open_communicators() const { return open_communicators_.load(); }

  /// Ends the thread without a call into NCCL, when the streams have come to their ends or half of `timeout`
  /// has gone by; false when it did not end in `timeout`: the object must leak then.
  bool leave(std::chrono::milliseconds timeout);

  // For tasks and operations. Thread: this one, where not stated.
  void add(std::shared_ptr<NcclChannel> channel);
  /// Ends the channel's communicator in NCCL and then its stream. Collective over: it.
  void close(const std::shared_ptr<NcclChannel>& channel);
  /// Returns when all streams have come to their ends. Throws kPeerLost after `patience`.
  void drain();
  NcclPoll& poll() { return *this; }
  cuda::StreamHandle copies() const { return copies_.get(); }
  /// Pinned memory of `bytes` at least, taken from what came back.
  cuda::PinnedMemory borrow_pinned(size_t bytes);
  void give_back(cuda::PinnedMemory memory) { pinned_.push_back(std::move(memory)); }

  Journal& journal() { return journal_; }                               // any thread
  DeviceStreams& streams() { return streams_; }                         // any thread
  const std::shared_ptr<EventPool>& events() const { return events_; }  // any thread

 private:
  using Clock = std::chrono::steady_clock;
  struct Command {
    std::shared_ptr<NcclOperation> operation;  // or
    const std::function<void()>* task = nullptr;
    std::promise<std::optional<Error>>* ended = nullptr;  // with what the task has failed with
  };

  void pause(const char* call, const std::string& group, Clock::duration waited) override;

  void run_thread();
  void loop();
  bool start_queued();
  void launch(const std::shared_ptr<NcclOperation>& operation);
  void run_task(const Command& command);
  bool ask_running();
  bool is_over(NcclOperation& operation, std::optional<Error>& fatal);
  void ask_groups();
  void mark_late();
  void fail(const Error& failure);
  void rest(bool has_moved);
  void wake();
  bool must_end();
  void give_up();

  Journal& journal_;
  DeviceStreams& streams_;
  const Options options_;
  std::shared_ptr<EventPool> events_;
  cuda::Stream copies_;
  std::vector<cuda::PinnedMemory> pinned_;
  std::vector<std::shared_ptr<NcclChannel>> channels_;
  std::deque<std::shared_ptr<NcclOperation>> running_;  // in the order of their launches
  std::deque<Command> starting_;                        // taken from queue_
  Clock::time_point last_move_ = Clock::now();
  uint64_t late_ = 0;  // journal entry that mark_late has marked, 0: none

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Command> queue_;           // guarded by mutex_
  std::optional<Error> failure_;        // guarded by mutex_
  bool has_aborted_ = false;            // guarded by mutex_
  bool ends_ = false;                   // guarded by mutex_
  Clock::time_point leaves_at_{};       // guarded by mutex_: even with operations under way
  std::atomic<bool> has_news_ = false;  // one of the above has changed
  std::atomic<bool> has_failed_ = false;
  std::atomic<bool> must_abort_ = false;
  std::atomic<bool> must_leave_ = false;
  std::atomic<int> open_communicators_ = 0;

  std::promise<void> initialised_;
  std::promise<void> ended_;
  std::future<void> end_reached_ = ended_.get_future();
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace tmd::comm
