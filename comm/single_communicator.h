#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/journal.h"

namespace tmd::comm {

/// A group of one rank, without any library: collectives copy, messages go to the rank itself. Every
/// operation is complete when its call returns, except a receive that comes before its send; on a device it
/// is then on the current stream. Arguments are checked as on several ranks.
class SingleCommunicator final : public Communicator {
 public:
  /// `journal`, when given, must outlive the communicator; operations are entered there. Takes tensors of
  /// `device` besides those of the CPU.
  explicit SingleCommunicator(std::string name, Journal* journal = nullptr, at::Device device = at::kCPU);
  ~SingleCommunicator() override;

  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }

  Work all_gather(const at::Tensor& input, const at::Tensor& output) override;
  Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) override;
  Work all_reduce(const at::Tensor& tensor, ReduceOp op) override;
  Work broadcast(const at::Tensor& tensor, int root) override;
  Work all_to_all(const at::Tensor& input, const at::Tensor& output) override;

  /// The content is taken at once, so the tensor may be changed as soon as the call has returned.
  Work send(const at::Tensor& tensor, int peer, int tag) override;
  /// wait() throws kInternal when the matching message has not been sent yet: nobody else could send it. Also
  /// when it has another type or element count.
  Work recv(const at::Tensor& tensor, int peer, int tag) override;

  void barrier() override;
  /// The new group has this one's journal and device; `key` has no meaning here.
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override;
  void close() override;
  void mark(std::string_view position) override;
  Journal* journal() override { return journal_; }

 private:
  class Receipt;

  at::Device place_of(const at::Tensor& tensor) const;
  void enter(OperationKind kind, int64_t elements, int peer = -1, int tag = -1);

  std::string name_;
  Journal* journal_;
  at::Device device_;
  std::map<int, std::deque<at::Tensor>> sent_;                   // by tag, oldest first
  std::map<int, std::deque<std::shared_ptr<Receipt>>> awaited_;  // by tag, oldest first
};

}  // namespace tmd::comm
