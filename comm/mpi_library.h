#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/error.h"
#include "comm/communicator.h"

// The calls into the MPI library, and nothing else; mpi.h stays in the .cpp.
// Thread: only the progress thread calls what stands here.
// Errors: kPeerLost with the library's text unless stated otherwise.

namespace tmd::comm {

/// Initialises MPI for calls from this thread (MPI_THREAD_FUNNELED). Throws kUnavailable, also when the
/// library gives less than that or fewer than 65536 message tags.
/// Collective over: all processes of the program.
void mpi_initialize();

/// Collective over: all processes of the program.
void mpi_finalize();

/// Ends all processes of the program with `code`; returns only when the library fails at it.
void mpi_abort(int code);

/// Owns one MPI communicator, on which the library returns errors instead of aborting. Destroyed before
/// `free`, it leaks the handle, since freeing is collective.
class MpiGroup {
 public:
  /// All processes of the program, a duplicate of MPI's own. Throws kUnavailable. Collective over: them.
  static std::unique_ptr<MpiGroup> world();
  ~MpiGroup();
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Whether all ranks of the group run on one node (MPI_COMM_TYPE_SHARED).
  bool is_on_one_node() const { return is_on_one_node_; }

  /// The group of the ranks with the same color, ordered by key and then rank; none where `color` is
  /// negative. Blocks in the library until all ranks have called it. Collective over: this group.
  std::unique_ptr<MpiGroup> split(int color, int key);
  /// Nothing may use the group after it. Collective over: this group.
  void free();

  /// Operations on the group that were queued and are not complete. Thread: any.
  std::atomic<int> unfinished_operations = 0;

 private:
  struct Handle;
  friend class MpiRequests;
  explicit MpiGroup(std::unique_ptr<Handle> handle);

  std::unique_ptr<Handle> handle_;
  int rank_ = 0;
  int size_ = 0;
  bool is_on_one_node_ = false;
};

/// Told when one of its requests is complete, or has failed.
class MpiListener {
 public:
  /// `failure`: none when the request is complete. May not throw.
  virtual void on_request_done(const std::optional<Error>& failure) = 0;

 protected:
  ~MpiListener() = default;
};

/// The requests that are under way. Buffers and listeners must live until the listener was told.
class MpiRequests {
 public:
  MpiRequests();
  ~MpiRequests();

  /// One message to or from rank `peer` of `group`. Tags up to 65535 may be used. A request that cannot be
  /// made is told at once. The failure is kInternal when the message that arrives has another size, else
  /// kPeerLost.
  /// Throws kInternal for more than kMaxMessageBytes.
  void send(const MpiGroup& group, int peer, int tag, const std::byte* data, size_t bytes,
            MpiListener& listener);
  void receive(const MpiGroup& group, int peer, int tag, std::byte* data, size_t bytes,
               MpiListener& listener);

  // The library's own collectives, without blocking. All ranks of the group start them in the same order.
  // They are told, and fail, as messages do. Counts are of `type`, of one rank's part where there are parts;
  // `input` null: in place. Throw kInternal for more than 2^31 - 1 elements.
  void all_gather(const MpiGroup& group, const std::byte* input, std::byte* output, size_t bytes,
                  MpiListener& listener);
  void reduce_scatter(const MpiGroup& group, const std::byte* input, std::byte* output, size_t elements,
                      at::ScalarType type, ReduceOp op, MpiListener& listener);
  void all_reduce(const MpiGroup& group, std::byte* data, size_t elements, at::ScalarType type, ReduceOp op,
                  MpiListener& listener);
  void broadcast(const MpiGroup& group, std::byte* data, size_t bytes, int root, MpiListener& listener);
  void all_to_all(const MpiGroup& group, const std::byte* input, std::byte* output, size_t bytes,
                  MpiListener& listener);

  /// Lets the library work and tells the listeners of what is complete. Returns how many requests ended.
  /// Throws kPeerLost when the library itself fails.
  size_t poll();
  /// Requests under way.
  size_t count() const;

  /// The largest message. Longer ones are cut by the caller.
  static constexpr size_t kMaxMessageBytes = size_t{1} << 30;

 private:
  struct Pending;
  struct Table;

  void add(int code, const char* call, const Pending& pending);

  std::unique_ptr<Table> table_;
};

}  // namespace tmd::comm
