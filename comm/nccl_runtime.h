#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "base/error.h"
#include "comm/communicator.h"
#include "comm/device_streams.h"
#include "comm/nccl_options.h"

namespace tmd::comm {

/// NCCL from its first call to its last, with the one thread that calls it. `main` declares it after MPI and
/// the streams and before all communicators of devices:
///   NcclRuntime nccl(trainers, streams, {.device = at::Device(at::kCUDA, local), .device_index = local});
///   auto world = nccl.connect(std::move(trainers_host));
///   ...; world->close(); nccl.finalize();
/// In a program that is built without CUDA the constructor throws kUnavailable.
class NcclRuntime {
 public:
  struct Options {
    at::Device device = at::kCPU;  ///< where the tensors are that NCCL moves, as ATen calls it
    int device_index = 0;          ///< the same device for CUDA
    /// Two ranks on one device: for tests on a machine with one. Needs NCCL 2.30, and may hang when the
    /// device has too little room for both (NCCL calls it experimental).
    bool allows_shared_device = false;
    NcclOptions nccl;
    /// How long one call into NCCL may be in progress.
    std::chrono::duration<double> patience{600};
  };

  /// `host` are the ranks that will be connected, each with its device: they must differ. The thread must
  /// have set its device. `streams` and the journal of `host` must outlive this. Throws kUnavailable on all
  /// ranks, naming those that share a device. Sets variables of the environment that NCCL reads: call before
  /// other threads read it. Collective over: `host`.
  NcclRuntime(Communicator& host, DeviceStreams& streams, const Options& options);
  /// Not finalized: logs that and leaks, for the process is on its way to its end.
  ~NcclRuntime();
  NcclRuntime(const NcclRuntime&) = delete;
  NcclRuntime& operator=(const NcclRuntime&) = delete;

  /// A communicator of the ranks of `host` and their devices, which owns it: tensors of the CPU, barriers and
  /// agreements go through it. A group of one rank calls no library. Throws kUnavailable on all ranks.
  /// Collective over: `host`.
  std::unique_ptr<Communicator> connect(std::unique_ptr<Communicator> host);

  /// Throws kPeerLost when communication of the devices has failed on this rank: what a device computed since
  /// then may be wrong, and nobody may have waited for it. To be asked before results are kept.
  void check_health() const;

  /// Ends what the devices do for all communicators; false when that has not ended in `timeout`, and the
  /// process should leave then (Communicator::abort of a device's communicator does both). Waits and calls
  /// throw kPeerLost from then on. Thread: any.
  bool abort(std::chrono::milliseconds timeout) noexcept;

  /// Ends the thread on the good path. Throws kInternal when communicators are open. Communicators that were
  /// aborted must be destroyed before this object, closed ones may outlive it.
  void finalize();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tmd::comm
