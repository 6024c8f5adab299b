#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/cuda_runtime.h"
#include "comm/communicator.h"
#include "comm/device_streams.h"
#include "comm/nccl_runtime.h"
#include "workers/batch_upload.h"
#include "workers/device_options.h"

namespace tmd::workers {

/// What a trainer computes on.
struct DeviceChoice {
  at::Device device = at::kCPU;
  std::string text;  ///< for the log: "cuda:0 (NVIDIA H100, 80 GB)", "CPU (no GPU: ...)"
};

/// Which of its host's devices a trainer takes: those of one host take one each, in the order of their ranks;
/// -1 for the CPU. `hosts`: of each trainer. `count`: devices that this process sees; a launcher that shows
/// each rank only its own (one, where the host has several trainers) is followed: device 0. Throws kConfig
/// when device.kind = cuda and there is none, or when there are too few and device.share is off.
int device_of(int rank, const std::vector<std::string>& hosts, const cuda::DeviceCount& found,
              const DeviceOptions& options);

/// Chooses, makes the device that of this thread, and sets what `options` say for this process. The same kind
/// on all ranks. Throws on all ranks what device_of throws. Collective over: `trainers`.
DeviceChoice choose_device(comm::Communicator& trainers, const DeviceOptions& options);

/// Returns when all that this process has given `device` is done. On a CPU: at once.
void synchronize(at::Device device);

/// Most bytes that tensors of this process took on `device` at once since the last reset_peak_memory.
int64_t peak_memory(at::Device device);
void reset_peak_memory(at::Device device);

/// Ranks that compute together, each with its device. On CPUs their communicator is the one that was given;
/// on GPUs it also moves tensors of the devices, through NCCL.
class DeviceGroup {
 public:
  /// Throws on all ranks as choose_device and comm::NcclRuntime. Rank 0 logs what was chosen.
  /// Collective over: `ranks`.
  DeviceGroup(std::unique_ptr<comm::Communicator> ranks, const DeviceOptions& options);

  comm::Communicator& comm() const { return *comm_; }
  at::Device device() const { return device_; }
  /// Waits for what the device has been given, and throws kPeerLost when communication of the devices has
  /// failed meanwhile: to be asked before anything of theirs is kept. On a CPU: nothing.
  void settle() const;
  /// How batches come to the device; null on a CPU.
  BatchUpload* upload() const { return upload_.get(); }

  /// Lets the devices go that wait for a peer; returns after five seconds at the latest. Thread: any.
  void abort() noexcept;

  /// Collective over: the group, whose splits are closed.
  void close();

 private:
  at::Device device_ = at::kCPU;
  std::unique_ptr<comm::DeviceStreams> streams_;  // these two for GPUs
  std::unique_ptr<comm::NcclRuntime> nccl_;
  std::unique_ptr<comm::Communicator> comm_;
  std::unique_ptr<BatchUpload> upload_;
};

}  // namespace tmd::workers
