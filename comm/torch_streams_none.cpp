// In the place of torch_streams.cpp where the program is built without CUDA.

#include "base/error.h"
#include "comm/torch_streams.h"

namespace tmd::comm {

std::unique_ptr<DeviceStreams> torch_streams(int) {
  throw Error(ErrorKind::kUnavailable, "no streams of a device: this program was built without CUDA",
              "build the preset gpu");
}

}  // namespace tmd::comm
