#pragma once

#include <memory>

#include "comm/device_streams.h"

namespace tmd::comm {

/// The streams that ATen uses on `device`: c10::cuda::getCurrentCUDAStream, which is each thread's own.
/// Throws kUnavailable where the program is built without CUDA.
std::unique_ptr<DeviceStreams> torch_streams(int device);

}  // namespace tmd::comm
