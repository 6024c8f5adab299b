#include "base/cuda_runtime.h"

#include <cuda_runtime_api.h>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"

namespace tmd::cuda {
namespace {

std::string text_of(cudaError_t code) {
  return fmt::format("{}: {}", cudaGetErrorName(code), cudaGetErrorString(code));
}

ErrorKind kind_of(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation:
      return ErrorKind::kDoesNotFit;
    case cudaErrorInitializationError:
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorSystemNotReady:
      return ErrorKind::kUnavailable;
    default:
      return ErrorKind::kInternal;
  }
}

void cuda_check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // or the next check of somebody else's would find it
  throw Error(kind_of(code), fmt::format("{} failed: {}", call, text_of(code)));
}

// For what may not throw.
void cuda_check_log(cudaError_t code, const char* call) noexcept {
  if (code == cudaSuccess) return;
  try {
    log_warning("{} failed: {}", call, text_of(code));
  } catch (...) {  // there is nobody to tell
  }
}

bool is_done(cudaError_t code, const char* call) {
  if (code == cudaErrorNotReady) {
    cudaGetLastError();  // it counts as an error there
    return false;
  }
  cuda_check(code, call);
  return true;
}

}  // namespace

DeviceCount device_count() {
  DeviceCount found;
  const cudaError_t code = cudaGetDeviceCount(&found.count);
  if (code != cudaSuccess) {
    cudaGetLastError();
    found = {.count = 0, .reason = text_of(code)};
  } else if (found.count == 0) {
    found.reason = "the driver shows none to this process";
  }
  return found;
}

DeviceInfo device_info(int device) {
  cudaDeviceProp properties{};
  cuda_check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  DeviceInfo info{.name = properties.name,
                  .uuid = {},
                  .pci = fmt::format("{:04x}:{:02x}:{:02x}.0", properties.pciDomainID, properties.pciBusID,
                                     properties.pciDeviceID),
                  .memory_bytes = properties.totalGlobalMem,
                  .compute_major = properties.major,
                  .compute_minor = properties.minor,
                  .multiprocessors = properties.multiProcessorCount};
  for (const char byte : properties.uuid.bytes)
    info.uuid += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return info;
}

void set_device(int device) { cuda_check(cudaSetDevice(device), "cudaSetDevice"); }

DeviceScope::DeviceScope(int device) : device_(device) {
  cuda_check(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ != device) set_device(device);
}

DeviceScope::~DeviceScope() {
  if (before_ != device_) cuda_check_log(cudaSetDevice(before_), "cudaSetDevice");
}

MemoryInfo memory_info() {
  MemoryInfo info;
  cuda_check(cudaMemGetInfo(&info.free_bytes, &info.total_bytes), "cudaMemGetInfo");
  return info;
}

std::string last_error() {
  const cudaError_t code = cudaPeekAtLastError();
  return code == cudaSuccess ? std::string() : text_of(code);
}

void release(StreamHandle stream) noexcept { cuda_check_log(cudaStreamDestroy(stream), "cudaStreamDestroy"); }
void release(EventHandle event) noexcept { cuda_check_log(cudaEventDestroy(event), "cudaEventDestroy"); }
void release_pinned(void* memory) noexcept { cuda_check_log(cudaFreeHost(memory), "cudaFreeHost"); }
void unregister(void* memory) noexcept { cuda_check_log(cudaHostUnregister(memory), "cudaHostUnregister"); }

Stream make_stream(Priority priority) {
  int least = 0, greatest = 0;
  cuda_check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                          priority == Priority::kHigh ? greatest : least),
             "cudaStreamCreateWithPriority");
  return Stream(stream);
}

Event make_event() {
  cudaEvent_t event = nullptr;
  cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return Event(event);
}

void record(EventHandle event, StreamHandle stream) {
  cuda_check(cudaEventRecord(event, stream), "cudaEventRecord");
}

void wait(StreamHandle stream, EventHandle event) {
  cuda_check(cudaStreamWaitEvent(stream, event, 0), "cudaStreamWaitEvent");
}

bool has_passed(EventHandle event) { return is_done(cudaEventQuery(event), "cudaEventQuery"); }
bool is_idle(StreamHandle stream) { return is_done(cudaStreamQuery(stream), "cudaStreamQuery"); }

void synchronize(EventHandle event) { cuda_check(cudaEventSynchronize(event), "cudaEventSynchronize"); }
void synchronize(StreamHandle stream) { cuda_check(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }

PinnedMemory::PinnedMemory(size_t bytes) : size_(bytes) {
  void* memory = nullptr;
  cuda_check(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "cudaHostAlloc");
  memory_ = UniqueHandle<void*, nullptr, release_pinned>(memory);
}

RegisteredMemory::RegisteredMemory(void* memory, size_t bytes) {
  cuda_check(cudaHostRegister(memory, bytes, cudaHostRegisterDefault), "cudaHostRegister");
  memory_ = UniqueHandle<void*, nullptr, unregister>(memory);
}

void copy_to_device(void* device, const void* host, size_t bytes, StreamHandle stream) {
  cuda_check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
}

void copy_to_host(void* host, const void* device, size_t bytes, StreamHandle stream) {
  cuda_check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
}

}  // namespace tmd::cuda
