#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "comm/algorithm.h"
#include "comm/communicator.h"
#include "comm/flow.h"
#include "comm/journal.h"
#include "comm/mpi_progress_thread.h"
#include "comm/node_window.h"

namespace tmd::comm {

/// The ranks of one MPI group. Calls are checked here, entered in the journal and handed to the progress
/// thread. Reductions sum in rank order. Which algorithm a collective uses: comm/algorithm.h.
/// wait() throws kInternal when a message has another size than its receive, as far as the library can tell:
/// of a large one that is longer Open MPI 4.1 writes all into memory.
/// A collective throws kInternal while 32768 operations of the communicator are unfinished.
class MpiCommunicator final : public Communicator {
 public:
  /// `thread` must outlive the communicator. Owns `group`. `forced`: the algorithm of all collectives that it
  /// can serve, instead of the choice.
  MpiCommunicator(MpiProgressThread& thread, std::unique_ptr<MpiGroup> group, std::string name,
                  std::optional<Algorithm> forced = std::nullopt);
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

  void mark(std::string_view position) override;
  Journal* journal() override;
  /// A process that the library has not ended after five seconds leaves by itself.
  [[noreturn]] void abort(int code) noexcept override;

  /// As comm::with_algorithm.
  std::unique_ptr<Communicator> with_algorithm(Algorithm algorithm, const std::string& name);

 private:
  std::shared_ptr<MpiOperation> message(OperationKind kind, int64_t elements, int peer, int tag);
  std::shared_ptr<MpiOperation> collective(OperationKind kind, int64_t elements, int root = -1);
  Work start(std::shared_ptr<MpiOperation> operation, Flow flow);
  /// By whichever algorithm the ranks can use.
  Work start(std::shared_ptr<MpiOperation> operation, Flow by_window, Flow by_messages);
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                      std::optional<Algorithm> forced);

  MpiProgressThread& thread_;
  std::unique_ptr<MpiGroup> group_;     // none once closed
  std::unique_ptr<NodeWindow> window_;  // where the ranks may share memory, and until closed
  std::optional<Algorithm> forced_;
  std::string name_;
  int64_t collectives_ = 0;
};

}  // namespace tmd::comm
