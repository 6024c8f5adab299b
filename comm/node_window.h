#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "comm/flow.h"
#include "comm/mpi_operation.h"

namespace tmd::comm {

/// Memory through which the ranks of a group on one node hand each other data. Every rank owns a segment of
/// kSlots slots, which it alone writes and all others read; counters say which chunks have been put into it
/// and which have been taken. Nobody waits inside: flows ask and come again.
///
/// The segments are anonymous (memfd), opened by the peers through /proc: nothing is left behind by a process
/// that is killed, and no file system can be too full for them. Pages are taken when they are first written:
/// kSlots * kSlotBytes for each rank.
///
/// One operation uses the window at a time, in the order in which they ask for their turn. Since that is the
/// order of the calls, all ranks count the chunks alike.
/// Thread: made and destroyed on any, the rest on the progress thread.
class NodeWindow {
 public:
  static constexpr size_t kSlots = 4;
  static constexpr size_t kSlotBytes = 256 * 1024;

  /// Nothing is shared before `open`.
  NodeWindow(int rank, int size);
  ~NodeWindow();
  NodeWindow(const NodeWindow&) = delete;
  NodeWindow& operator=(const NodeWindow&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Makes the segments known to all ranks, at the first operation. Afterwards `is_usable` is the same on all
  /// ranks: false when any of them cannot reach the memory of another (processes in separate containers).
  /// Call in turn. Errors: those of messages. Collective over: the group of `operation`.
  Flow open(MpiOperation& operation);
  bool is_opened() const { return state_ != State::kNew; }
  bool is_usable() const { return state_ == State::kUsable; }

  /// co_await window.next_turn(thread); const NodeWindow::Turn turn(window, thread);
  struct NextTurn {
    NodeWindow& window;
    bool await_ready() const {
      if (window.is_taken_) return false;
      window.is_taken_ = true;
      return true;
    }
    void await_suspend(std::coroutine_handle<> flow) const { window.waiting_.push_back(flow); }
    void await_resume() const {}
  };
  NextTurn next_turn() { return {*this}; }

  /// Held by the operation whose turn it is; passes the turn on when destroyed.
  class Turn {
   public:
    Turn(NodeWindow& window, MpiProgressThread& thread) : window_(window), thread_(thread) {}
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    NodeWindow& window_;
    MpiProgressThread& thread_;
  };

  // Chunks are numbered from 0 within a transfer. A transfer has writers: all ranks or one.

  /// Whether this rank's slot for the chunk is free: everybody has taken what it held before.
  bool can_put(size_t chunk) const;
  std::byte* own_slot(size_t chunk) { return data_of(rank_) + slot_offset(rank_, chunk); }
  /// The chunk is complete in this rank's slot.
  void mark_put(size_t chunk);

  bool has_put(int rank, size_t chunk) const;
  /// What `rank` has put, until this rank marks it as taken.
  const std::byte* slot_of(int rank, size_t chunk) const { return data_of(rank) + slot_offset(rank, chunk); }
  void mark_taken(int rank, size_t chunk);

  /// The transfer is over on this rank: `rank` put `chunks` chunks in it.
  void count_put(int rank, size_t chunks) { put_before_[static_cast<size_t>(rank)] += chunks; }

 private:
  enum class State { kNew, kUsable, kUnusable };
  struct Header;
  struct Card;
  class Segment;

  Header& header_of(int rank) const;
  std::byte* data_of(int rank) const;
  uint64_t number(int rank, size_t chunk) const { return put_before_[static_cast<size_t>(rank)] + chunk; }
  size_t slot_offset(int rank, size_t chunk) const { return number(rank, chunk) % kSlots * kSlotBytes; }
  void map_peers(const std::vector<Card>& cards);

  int rank_;
  int size_;
  State state_ = State::kNew;
  std::vector<std::unique_ptr<Segment>> segments_;  // by rank
  std::vector<uint64_t> put_before_;                // by rank: chunks of the transfers that are over
  bool is_taken_ = false;
  std::deque<std::coroutine_handle<>> waiting_;
};

}  // namespace tmd::comm
