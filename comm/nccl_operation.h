#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/cuda_runtime.h"
#include "base/error.h"
#include "comm/communicator.h"
#include "comm/journal.h"
#include "comm/nccl_library.h"

namespace tmd::comm {

class NcclLaunchThread;

/// Events that are used again and again: after the first operations no more are made. Thread: any.
class EventPool {
 public:
  /// Makes `count` events of `device` at once, so that a loop makes none.
  EventPool(int device, size_t count);

  /// An event on loan; goes back when destroyed.
  class Loan {
   public:
    Loan() = default;
    Loan(std::shared_ptr<EventPool> pool, cuda::Event event)
        : pool_(std::move(pool)), event_(std::move(event)) {}
    Loan(Loan&&) = default;
    Loan& operator=(Loan&& other) noexcept {
      give_back();
      pool_ = std::move(other.pool_);
      event_ = std::move(other.event_);
      return *this;
    }
    ~Loan() { give_back(); }

    cuda::EventHandle get() const { return event_.get(); }
    void give_back() noexcept;

   private:
    std::shared_ptr<EventPool> pool_;
    cuda::Event event_;
  };
  static Loan borrow(const std::shared_ptr<EventPool>& pool);

 private:
  int device_;
  std::mutex mutex_;
  std::vector<cuda::Event> free_;  // guarded by mutex_
};

/// One NCCL communicator as the launch thread sees it. Only that thread touches what is in it, except where
/// stated.
struct NcclChannel {
  std::string name;                        // any thread
  std::unique_ptr<NcclGroup> group;        // none once it is closed or aborted
  cuda::Stream stream;                     // of its collectives
  std::unique_ptr<Communicator> messages;  // carries messages between the hosts
  std::atomic<int> unfinished = 0;         // operations that are queued or under way; any thread

  // In this round of asking: one that came earlier is not so far.
  bool holds_up_collectives = false;
  bool holds_up_sends = false;
};

/// One operation of a device that is queued, on its stream or complete.
///
/// The caller's stream is asked for at the call: what is on it then is done before the operation begins.
/// `wait` makes the caller's stream at that time wait for the end of the operation; the host waits only until
/// the operation is on its stream. The operation keeps its tensors until the stream on which it was called
/// has been made to wait, since the allocator gives their memory to later work of that stream only, or until
/// the end has passed. So memory is given back at the same point of the program in every run, however far the
/// host is ahead, and nothing relies on marks in the allocator.
/// Thread: `wait` and `is_done` any; the rest the launch thread. The thread object must outlive it.
class NcclOperation : public Operation {
 public:
  using Tensors = std::array<at::Tensor, 2>;  ///< input and output, or one and none

  NcclOperation(NcclLaunchThread& thread, std::shared_ptr<NcclChannel> channel, Tensors tensors,
                uint64_t journal_entry);
  ~NcclOperation() override;

  /// Throws the failure that `finish` was given.
  void wait() override;
  bool is_done() override;

  /// Begins it; throws what fails.
  virtual void launch() = 0;
  /// Asked again and again after that: does what can be done now, and says whether the operation is over.
  virtual bool advance() = 0;
  virtual bool is_collective() const = 0;

  /// Lets waiters go on; only the first call counts.
  void finish(const std::optional<Error>& failure);
  bool is_finished() const { return state_.load(std::memory_order_acquire) == kFinished; }
  /// Whether all of it has been put on its stream, so that it will end without the host.
  bool is_on_stream() const { return is_on_stream_.load(std::memory_order_acquire); }
  /// Whether anything may still touch its memory; an operation that has failed may be under way. False also
  /// when the device does not say.
  virtual bool is_under_way() noexcept;
  void drop_tensors();
  std::chrono::steady_clock::time_point launched_at{};  ///< set by the launch thread

  NcclChannel& channel() const { return *channel_; }
  uint64_t journal_entry() const { return journal_entry_; }

 protected:
  /// `stream` waits for what the caller had on its stream.
  void begin_on(cuda::StreamHandle stream);
  /// What is on `stream` now is the last of it.
  void record_end(cuda::StreamHandle stream);
  /// The end is recorded, and waiters go on.
  void let_waiters_go();
  bool has_end_passed() const { return cuda::has_passed(end_.get()); }

  NcclLaunchThread& thread_;
  const std::shared_ptr<NcclChannel> channel_;

 private:
  static constexpr int kQueued = 0;
  static constexpr int kOnStream = 1;
  static constexpr int kFinished = 2;

  void await_change_from(int state);
  void order_after_end(cuda::StreamHandle stream) noexcept;

  const uint64_t journal_entry_;
  const cuda::StreamHandle call_stream_;
  EventPool::Loan ready_;  // until the operation's stream waits for it
  EventPool::Loan end_;

  std::atomic<int> state_ = kQueued;
  std::atomic<bool> is_on_stream_ = false;  // end_ is recorded; set before state_
  std::optional<Error> failure_;            // written before state_ becomes kFinished
  std::atomic<bool> has_dropped_tensors_ = false;
  Tensors tensors_;
};

/// What NCCL is asked to do.
struct NcclCall {
  OperationKind kind = OperationKind::kAllGather;
  const void* input = nullptr;
  void* output = nullptr;
  size_t count = 0;  ///< elements of one rank's part where there are parts
  NcclType type = NcclType::kUint8;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
};

/// A collective that NCCL does, on the stream of the channel.
class NcclCollective final : public NcclOperation {
 public:
  NcclCollective(NcclLaunchThread& thread, std::shared_ptr<NcclChannel> channel, Tensors tensors,
                 uint64_t journal_entry, NcclCall call)
      : NcclOperation(thread, std::move(channel), std::move(tensors), journal_entry), call_(call) {}

  void launch() override;
  bool advance() override { return has_end_passed(); }
  bool is_collective() const override { return true; }

 private:
  NcclCall call_;
};

}  // namespace tmd::comm
