#include "base/device_launch.h"

#include <string>

#include "base/error.h"

namespace tmd::device {

void refuse(const char* promise) {
  throw Error(ErrorKind::kInternal, std::string("device kernels: ") + promise);
}

void refuse_launch(const char* name, int64_t blocks, int threads, const char* reason) {
  throw Error(ErrorKind::kInternal,
              std::string("the device does not start ") + name + " with " + std::to_string(blocks) +
                  " blocks of " + std::to_string(threads) + " threads: " + reason,
              "the cause may be an earlier operation: CUDA_LAUNCH_BLOCKING=1 reports it where it stands");
}

}  // namespace tmd::device
