#include "comm/torch_streams.h"

#include <c10/cuda/CUDAStream.h>

namespace tmd::comm {
namespace {

class TorchStreams final : public DeviceStreams {
 public:
  explicit TorchStreams(int device) : device_(static_cast<c10::DeviceIndex>(device)) {}
  cuda::StreamHandle current() override { return c10::cuda::getCurrentCUDAStream(device_).stream(); }

 private:
  c10::DeviceIndex device_;
};

}  // namespace

std::unique_ptr<DeviceStreams> torch_streams(int device) { return std::make_unique<TorchStreams>(device); }

}  // namespace tmd::comm
