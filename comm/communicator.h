#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::comm {

class Journal;

enum class ReduceOp { kSum, kMin, kMax };

/// State of one started operation; backends derive from it. `wait` and `is_done` as in Work.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual void wait() = 0;
  virtual bool is_done() = 0;
};

/// Handle of one started operation. The tensors of the call must stay alive and, for outputs, unread until
/// `wait()` has returned. Dropping a Work does not cancel the operation (the backend keeps the tensors
/// alive).
class Work {
 public:
  /// An operation that is already complete.
  Work() = default;
  explicit Work(std::shared_ptr<Operation> operation) : operation_(std::move(operation)) {}

  /// Host backends block until the operation is complete; device backends make the current stream wait.
  /// Throws what the operation failed with, every time.
  void wait() {
    if (operation_) operation_->wait();
  }
  /// Whether the operation has ended, well or not.
  bool is_done() { return !operation_ || operation_->is_done(); }

 private:
  std::shared_ptr<Operation> operation_;
};

/// A group of ranks that communicate. Every collective must be called by all ranks of the group, in the same
/// order, with equal element counts and types; operations start in call order.
///
/// Tensors are contiguous; only element counts matter, not shapes. Element types: uint8, int32, int64,
/// float32, float64 and, where nothing is reduced, bfloat16 and float16 too. uint8 is not summed.
/// Thread: one thread of a process calls a communicator at a time.
/// Errors: the call throws kInternal for tensors, ranks, tags or colors that do not fit (comm/arguments.h);
/// `wait` throws kPeerLost when the library reports a failure, and kInternal when a message has another size
/// than its receive, as far as the backend can tell.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;

  /// output[r*n .. (r+1)*n) = input of rank r, n = input.numel(). `input` may be the slice of `output` that
  /// belongs to this rank (in place).
  virtual Work all_gather(const at::Tensor& input, const at::Tensor& output) = 0;

  /// output = reduction over ranks of input[rank*n .. (rank+1)*n), n = output.numel(). Deterministic: the
  /// same inputs give the same bits in every run on the same group. `output` may not overlap `input`.
  virtual Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) = 0;

  /// In place. Deterministic like reduce_scatter, and the result has the same bits on all ranks.
  virtual Work all_reduce(const at::Tensor& tensor, ReduceOp op) = 0;

  /// In place: `tensor` of `root`, on all ranks.
  virtual Work broadcast(const at::Tensor& tensor, int root) = 0;

  /// Chunk r of `input` (numel / size elements) goes to rank r and lands in its chunk `rank()` of `output`.
  /// `output` has as many elements and may not overlap `input`.
  virtual Work all_to_all(const at::Tensor& input, const at::Tensor& output) = 0;

  /// Matched by (peer, tag) in call order. 0 <= tag < 32768. The receiving tensor has the type and element
  /// count of the one that is sent. No collectives.
  virtual Work send(const at::Tensor& tensor, int peer, int tag) = 0;
  virtual Work recv(const at::Tensor& tensor, int peer, int tag) = 0;

  /// Blocks until every rank of the group has called it. Throws kPeerLost.
  /// Collective over: this communicator.
  virtual void barrier() = 0;

  /// A new communicator of the ranks that gave the same `color` (>= 0, else kInternal), ordered by `key` and
  /// then by rank. Blocks. It may outlive this one, and is closed by itself.
  /// Collective over: this communicator.
  virtual std::unique_ptr<Communicator> split(int color, int key, const std::string& name) = 0;

  /// Names what the host does from now on ("critic: fake blocks.3") where the operations of this process are
  /// entered. Cheap: meant to be called for every unit.
  virtual void mark(std::string_view position) { (void)position; }
  /// Where the operations of this process are entered; null: nowhere.
  virtual Journal* journal() { return nullptr; }
  /// Ends all processes of the program; the launcher returns `code`. Thread: any.
  [[noreturn]] virtual void abort(int code) noexcept;

  /// Ends the communicator's life on the good path: nothing may be under way (kInternal on several ranks),
  /// and nothing may be called after it. Collective over: this communicator. A communicator that is destroyed
  /// while open logs that and leaks its handle: destructors never communicate.
  virtual void close() = 0;

 protected:
  Communicator() = default;
};

}  // namespace tmd::comm
