// In the place of nccl_runtime.cpp where the program is built without CUDA.

#include "comm/nccl_runtime.h"

namespace tmd::comm {
namespace {

[[noreturn]] void refuse() {
  throw Error(ErrorKind::kUnavailable, "no NCCL: this program was built without CUDA",
              "build the preset gpu");
}

}  // namespace

struct NcclRuntime::State {};

NcclRuntime::NcclRuntime(Communicator&, DeviceStreams&, const Options&) { refuse(); }
NcclRuntime::~NcclRuntime() = default;
std::unique_ptr<Communicator> NcclRuntime::connect(std::unique_ptr<Communicator>) { refuse(); }
void NcclRuntime::check_health() const {}
bool NcclRuntime::abort(std::chrono::milliseconds) noexcept { return true; }
void NcclRuntime::finalize() { refuse(); }

}  // namespace tmd::comm
