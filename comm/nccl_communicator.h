#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/nccl_launch_thread.h"
#include "comm/nccl_library.h"

namespace tmd::comm {

/// The ranks of one NCCL communicator, each with a device of its own. Tensors of that device travel by NCCL;
/// tensors of the CPU, barriers and agreements go through the host communicator of the same ranks that it
/// owns, so that one object serves a group. Calls are checked here, entered in the journal and handed to the
/// launch thread.
///
/// A collective begins when what was on the caller's stream at the call is done. `wait` makes the stream of
/// the thread that waits wait; the host waits only until the operation has been launched (messages excepted:
/// comm/nccl_messages.h). So `wait` returns before there is a result: read it by work on that stream.
/// Collectives that were called before and are not waited for go on meanwhile. Tensors without elements are
/// not launched at all.
///
/// Each communicator has a stream of its own, of high priority. NCCL lets the operations of communicators
/// that share resources run one after the other in the order of their launches, whatever their streams are;
/// with NcclOptions::shares_resources = false they may overlap.
///
/// Sums are NCCL's: equal inputs give equal bits on the same ranks, but not those of the host backends.
/// Minimum and maximum of numbers of which one is NaN are not defined.
class NcclCommunicator final : public Communicator {
 public:
  /// Connects the ranks of `host`, which it owns from now on, through NCCL. `thread` must outlive the
  /// communicator. `device` is where tensors are that NCCL moves, and is the thread's. Groups of one rank are
  /// no case (comm/single_communicator.h). Throws kUnavailable on all ranks when any cannot.
  /// Collective over: `host`.
  static std::unique_ptr<NcclCommunicator> make(NcclLaunchThread& thread, std::unique_ptr<Communicator> host,
                                                at::Device device, const NcclOptions& options);
  ~NcclCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return channel_->name; }

  Work all_gather(const at::Tensor& input, const at::Tensor& output) override;
  Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) override;
  Work all_reduce(const at::Tensor& tensor, ReduceOp op) override;
  Work broadcast(const at::Tensor& tensor, int root) override;
  Work all_to_all(const at::Tensor& input, const at::Tensor& output) override;
  Work send(const at::Tensor& tensor, int peer, int tag) override;
  Work recv(const at::Tensor& tensor, int peer, int tag) override;
  /// Of the hosts: says nothing about what the devices have done.
  void barrier() override;

  /// Groups of one rank become SingleCommunicators. Waits for the ends of all collectives of this process:
  /// NCCL may not split while one is under way. Communicators that share ranks must be split in the same
  /// order on all of them.
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override;
  /// Waits for the ends of all collectives of this process. Throws kInternal on all ranks when messages are
  /// under way on any, and stays open.
  void close() override;

  void mark(std::string_view position) override { host_->mark(position); }
  Journal* journal() override { return &thread_.journal(); }
  /// Aborts what the device does first, for at most five seconds; then as the host communicator, which makes
  /// a process that does not end leave by itself.
  [[noreturn]] void abort(int code) noexcept override;

 private:
  NcclCommunicator(NcclLaunchThread& thread, std::unique_ptr<Communicator> host, at::Device device,
                   const NcclOptions& options, std::shared_ptr<NcclChannel> channel);
  static std::unique_ptr<NcclCommunicator> adopt(NcclLaunchThread& thread, std::unique_ptr<Communicator> host,
                                                 at::Device device, const NcclOptions& options,
                                                 std::shared_ptr<NcclChannel> channel);

  bool is_for_host(const at::Tensor& tensor) const;
  void check_open() const;
  Work start(NcclOperation::Tensors tensors, const NcclCall& call, int peer = -1);
  template <class Message>
  Work start_message(OperationKind kind, const at::Tensor& tensor, int peer, int tag);

  NcclLaunchThread& thread_;
  std::unique_ptr<Communicator> host_;  // none once closed
  at::Device device_;
  NcclOptions options_;
  std::shared_ptr<NcclChannel> channel_;
  int rank_;
  int size_;
};

}  // namespace tmd::comm
