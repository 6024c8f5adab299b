#pragma once

#include "base/cuda_runtime.h"

namespace tmd::comm {

/// Which stream a thread's work on the device goes to. Streams are passed, not looked up: a communicator asks
/// the object that it was given (comm/torch_streams.h in the program).
class DeviceStreams {
 public:
  virtual ~DeviceStreams() = default;
  /// The stream on which the calling thread puts its work now. Thread: any.
  virtual cuda::StreamHandle current() = 0;
};

}  // namespace tmd::comm
