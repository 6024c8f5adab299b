#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/flow.h"
#include "comm/journal.h"
#include "comm/mpi_progress_thread.h"

namespace tmd::comm {

/// The ranks of one MPI group. Calls are checked here, entered in the journal and handed to the progress
/// thread. Reductions sum in rank order.
/// wait() throws kInternal when a message has another size than its receive, as far as the library can tell:
/// of a large one that is longer Open MPI 4.1 writes all into memory.
/// A collective throws kInternal while 32768 operations of the communicator are unfinished.
class MpiCommunicator final : public Communicator {
 public:
  /// `thread` must outlive the communicator. Owns `group`.
  MpiCommunicator(MpiProgressThread& thread, std::unique_ptr<MpiGroup> group, std::string name);
  ~MpiCommunicator() override;

  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  const std::string& name() const override { return name_; }

  Work all_gather(const at::Tensor& input, const at::Tensor& output) override;
  Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) override;
  Work all_reduce(const at::Tensor& tensor, ReduceOp op) override;
  Work broadcast(const at::Tensor& tensor, int root) override;
  Work all_to_all(const at::Tensor& input, const at::Tensor& output) override;
  Work send(const at::Tensor& tensor, int peer, int tag) override;
  Work recv(const at::Tensor& tensor, int peer, int tag) override;
  void barrier() override;

  /// Groups of one rank become SingleCommunicators. Communicators that share ranks must be split in the same
  /// order on all of them. The progress thread works on nothing else while the library splits.
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override;
  /// Throws kInternal after its barrier when operations are under way, and stays open.
  void close() override;

 private:
  std::shared_ptr<MpiOperation> message(OperationKind kind, int64_t elements, int peer, int tag);
  std::shared_ptr<MpiOperation> collective(OperationKind kind, int64_t elements, int root = -1);
  Work start(std::shared_ptr<MpiOperation> operation, Flow flow);

  MpiProgressThread& thread_;
  std::unique_ptr<MpiGroup> group_;  // none once closed
  std::string name_;
  int64_t collectives_ = 0;
};

}  // namespace tmd::comm
