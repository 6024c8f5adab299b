#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "base/cuda_runtime.h"
#include "comm/device_streams.h"
#include "comm/self_check.h"

namespace tmd::test {

/// Makes all memory of the CPU's tensors that is taken from now on device memory of the stand-in: what
/// streams may still use is not given back before they are through, and reported when nothing orders it.
void take_tensors_from_stand_in();

/// The stream on which a test computes: one of its own, on the device of the thread that makes it, for all
/// threads.
class StandInStreams final : public comm::DeviceStreams {
 public:
  StandInStreams();
  ~StandInStreams() override;
  cuda::StreamHandle current() override { return current_; }
  /// Until the next call.
  void use(cuda::StreamHandle stream) { current_ = stream; }
  cuda::StreamHandle own() const { return stream_.get(); }

 private:
  cuda::Stream stream_;
  cuda::StreamHandle current_;
};

/// Tensors of the stand-in's device, which are written and read by copies on the current stream.
class StandInMemory final : public comm::SelfCheckMemory {
 public:
  explicit StandInMemory(StandInStreams& streams) : streams_(streams) {}
  ~StandInMemory() override;

  /// From now on `put` waits for its copy, for communicators that copy with ATen, which knows no stream here.
  void set_waits(bool waits) { waits_ = waits; }
  at::Tensor put(const at::Tensor& tensor) override;
  at::Tensor get(const at::Tensor& tensor) override;

 private:
  cuda::PinnedMemory borrow(size_t bytes);
  void finish_copies();

  StandInStreams& streams_;
  bool waits_ = false;
  std::vector<cuda::PinnedMemory> free_, copying_;
};

}  // namespace tmd::test
