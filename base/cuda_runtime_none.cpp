// In the place of cuda_runtime.cpp where the program is built without CUDA.

#include "base/cuda_runtime.h"
#include "base/error.h"

namespace tmd::cuda {
namespace {

constexpr const char* kReason = "this program was built without CUDA";

[[noreturn]] void refuse() {
  throw Error(ErrorKind::kUnavailable, std::string("no device: ") + kReason, "build the preset gpu");
}

}  // namespace

DeviceCount device_count() { return {.count = 0, .reason = kReason}; }
DeviceInfo device_info(int) { refuse(); }
void set_device(int) { refuse(); }
DeviceScope::DeviceScope(int device) : device_(device) { refuse(); }
DeviceScope::~DeviceScope() = default;
MemoryInfo memory_info() { refuse(); }
std::string last_error() { return {}; }

// There is no handle to release.
void release(StreamHandle) noexcept {}
void release(EventHandle) noexcept {}
void release_pinned(void*) noexcept {}
void unregister(void*) noexcept {}

Stream make_stream(Priority) { refuse(); }
Event make_event() { refuse(); }
void record(EventHandle, StreamHandle) { refuse(); }
void wait(StreamHandle, EventHandle) { refuse(); }
bool has_passed(EventHandle) { refuse(); }
bool is_idle(StreamHandle) { refuse(); }
void synchronize(EventHandle) { refuse(); }
void synchronize(StreamHandle) { refuse(); }
PinnedMemory::PinnedMemory(size_t) { refuse(); }
RegisteredMemory::RegisteredMemory(void*, size_t) { refuse(); }
void copy_to_device(void*, const void*, size_t, StreamHandle) { refuse(); }
void copy_to_host(void*, const void*, size_t, StreamHandle) { refuse(); }

}  // namespace tmd::cuda
