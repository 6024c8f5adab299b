#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

#include "base/error.h"

namespace tmd {

/// Hands items from thread to thread in order, at most `capacity` at a time.
/// Errors: a move of T that throws leaves the queue as it was.
/// Thread: any number of producers and consumers.
template <class T>
class BoundedQueue {
 public:
  /// Throws kInternal unless capacity >= 1.
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {
    ensure(capacity >= 1, "a bounded queue has room for an item");
  }
  BoundedQueue(const BoundedQueue&) = delete;
  BoundedQueue& operator=(const BoundedQueue&) = delete;

  /// Blocks while the queue is full. False when it is closed: the item is dropped.
  [[nodiscard]] bool push(T item) {
    std::unique_lock lock(mutex_);
    has_room_.wait(lock, [&] { return items_.size() < capacity_ || is_closed_; });
    if (is_closed_) return false;
    items_.push_back(std::move(item));
    lock.unlock();
    has_item_.notify_one();
    return true;
  }

  /// Blocks while the queue is empty and open. Items pushed before the end are still given out; after them a
  /// closed queue gives nothing, and a failed one throws its error, every time.
  [[nodiscard]] std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    has_item_.wait(lock, [&] { return !items_.empty() || is_closed_; });
    if (items_.empty()) {
      if (error_) std::rethrow_exception(error_);
      return std::nullopt;
    }
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    lock.unlock();
    has_room_.notify_one();
    return item;
  }

  /// Nothing is pushed any more; wakes everybody who waits. May be called again.
  void close() { end(nullptr); }
  /// Closes with the reason why no more items come. The first end counts.
  void fail(std::exception_ptr error) { end(std::move(error)); }

 private:
  void end(std::exception_ptr error) {
    {
      const std::lock_guard lock(mutex_);
      if (is_closed_) return;
      is_closed_ = true;
      error_ = std::move(error);
    }
    has_item_.notify_all();
    has_room_.notify_all();
  }

  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable has_item_, has_room_;
  std::deque<T> items_;       // guarded by mutex_
  std::exception_ptr error_;  // guarded by mutex_
  bool is_closed_ = false;    // guarded by mutex_
};

}  // namespace tmd
