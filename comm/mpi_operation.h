#pragma once

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <optional>

#include "base/error.h"
#include "comm/communicator.h"
#include "comm/mpi_library.h"

namespace tmd::comm {

class MpiExchange;
class MpiProgressThread;

/// One operation that is queued, under way or complete, and what its flow needs to post messages.
/// Thread: `wait` and `is_done` any; the rest the progress thread.
class MpiOperation final : public Operation {
 public:
  /// All its messages carry `tag`. `thread` and `group` must outlive the operation, which counts as
  /// unfinished there until `finish`.
  MpiOperation(MpiProgressThread& thread, MpiGroup& group, int tag, uint64_t journal_entry)
      : thread_(thread), group_(group), tag_(tag), journal_entry_(journal_entry) {
    group.unfinished_operations.fetch_add(1, std::memory_order_relaxed);
  }

  /// Throws the failure that `finish` was given.
  void wait() override;
  bool is_done() override { return state_.load(std::memory_order_acquire) != kPending; }

  MpiProgressThread& thread() const { return thread_; }
  MpiGroup& group() const { return group_; }
  MpiRequests& requests() const;
  int tag() const { return tag_; }
  uint64_t journal_entry() const { return journal_entry_; }

  /// Lets waiters go on. Only the first call counts: an operation fails with its first failed message, while
  /// its flow and its buffers stay until the last message has ended.
  void finish(const std::optional<Error>& failure);

 private:
  friend class MpiExchange;
  static constexpr int kPending = 0;
  static constexpr int kDone = 1;

  MpiProgressThread& thread_;
  MpiGroup& group_;
  int tag_;
  uint64_t journal_entry_;

  std::atomic<int> state_ = kPending;
  std::optional<Error> failure_;  // written before state_ leaves kPending

  size_t unfinished_messages_ = 0;  // of all exchanges of the flow
  bool has_failed_ = false;
  const MpiExchange* awaited_ = nullptr;
  std::coroutine_handle<> waiting_;  // the flow that awaits `awaited_`
};

/// Messages that a flow posts and then awaits together:
///   MpiExchange exchange(operation);
///   exchange.receive(...); exchange.send(...);
///   co_await exchange;
/// It can be used again after that. When a message fails the flow is left by an exception as soon as no
/// message of the operation touches its buffers any more.
class MpiExchange final : private MpiListener {
 public:
  explicit MpiExchange(MpiOperation& operation) : operation_(operation) {}
  MpiExchange(const MpiExchange&) = delete;
  MpiExchange& operator=(const MpiExchange&) = delete;

  /// Post one message of `bytes` bytes, 0 included. Both ends cut long messages in the same places. `data`
  /// must live until the exchange has been awaited. A message that cannot be posted fails the await.
  void send(int peer, const std::byte* data, size_t bytes);
  void receive(int peer, std::byte* data, size_t bytes);

  /// Posts something else that counts as a message: `post(MpiRequests&, const MpiGroup&, MpiListener&)`.
  template <class Post>
  void post(const Post& post_request);

  bool await_ready() const {
    return (operation_.has_failed_ ? operation_.unfinished_messages_ : unfinished_) == 0;
  }
  void await_suspend(std::coroutine_handle<> flow) const;
  void await_resume() const;

 private:
  void on_request_done(const std::optional<Error>& failure) override;
  void count_message();

  MpiOperation& operation_;
  size_t unfinished_ = 0;
};

template <class Post>
void MpiExchange::post(const Post& post_request) {
  count_message();
  post_request(operation_.requests(), operation_.group_, static_cast<MpiListener&>(*this));
}

}  // namespace tmd::comm
