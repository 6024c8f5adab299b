#pragma once

#include <array>
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "base/cuda_runtime.h"
#include "comm/device_streams.h"
#include "workers/batch_feed.h"

namespace tmd::workers {

/// Brings batches to a device while it still computes with the one before: pinned memory on the host, places
/// on the device, two of each, and a stream of its own. Once the largest batch has been seen nothing is
/// allocated. Thread: one, the one that computes.
class BatchUpload {
 public:
  /// `streams` must outlive it.
  BatchUpload(at::Device device, comm::DeviceStreams& streams);
  /// Waits for the copies that are under way.
  ~BatchUpload();
  BatchUpload(const BatchUpload&) = delete;
  BatchUpload& operator=(const BatchUpload&) = delete;

  /// The batch with its tensors on the device. They are its memory: valid until the call after the next one.
  /// The host's tensors are free again when the call returns.
  Batch upload(const Batch& batch);

 private:
  // Where one tensor of a batch passes through.
  struct Lane {
    cuda::PinnedMemory pinned;
    at::Tensor place;  // bytes on the device
  };
  struct Slot {
    std::array<Lane, 2> lanes;  // latents, text
    cuda::Event copied;         // what is on its way has arrived
    bool is_used = false;
  };

  void make_room(Slot& slot, size_t lane, size_t bytes);
  at::Tensor start_copy(Slot& slot, size_t lane, const at::Tensor& tensor);

  at::Device device_;
  comm::DeviceStreams& streams_;
  cuda::Stream stream_;
  cuda::Event computed_;  // of the work that was there at the last call
  std::array<Slot, 2> slots_;
  int next_ = 0;
};

}  // namespace tmd::workers
