#pragma once

#include <cstddef>
#include <string>

#include "base/unique_handle.h"

struct CUstream_st;  // what a cudaStream_t points to
struct CUevent_st;   // what a cudaEvent_t points to

// The calls of the CUDA runtime that the project makes itself, without a header of CUDA. A program that is
// built without CUDA has no device, and every call but device_count() throws kUnavailable there.
//
// Errors: what a call throws names it, CUDA's name of the error and its text. kUnavailable: no driver, no
// device or one that does not suit; kDoesNotFit: no memory; kInternal: everything else, also what an earlier
// operation of the device has failed with, because CUDA reports that at any later call.
// Thread: any. A new thread begins with device 0; streams, events and memory belong to the thread's device.

namespace tmd::cuda {

using StreamHandle = CUstream_st*;  ///< null: the default stream
using EventHandle = CUevent_st*;

struct DeviceCount {
  int count = 0;
  std::string reason;  ///< why it is 0, as the runtime says it
};
/// The devices that this process can see. Never throws.
DeviceCount device_count();

struct DeviceInfo {
  std::string name;  ///< "NVIDIA H100 80GB HBM3"
  std::string uuid;  ///< 32 hexadecimal digits; differs for every device of the world and every MIG slice
  std::string pci;   ///< "0000:1b:00.0"
  size_t memory_bytes = 0;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
};
DeviceInfo device_info(int device);

/// Makes `device` that of this thread.
void set_device(int device);

/// Makes `device` that of this thread, and what it was before at the end. Setting a device takes memory on it
/// (its context), also when that is the one from before: threads should have their device set already.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int device_;
  int before_ = 0;
};

struct MemoryInfo {
  size_t free_bytes = 0, total_bytes = 0;
};
/// Of the thread's device, over all processes.
MemoryInfo memory_info();

/// What the last call of this thread that failed has failed with, and leaves it there; empty: nothing.
std::string last_error();

// Work is given to a stream and done in its order; streams do not wait for one another, nor for the default
// stream, unless an event says so.

void release(StreamHandle stream) noexcept;
void release(EventHandle event) noexcept;
void release_pinned(void* memory) noexcept;
void unregister(void* memory) noexcept;

/// A stream of its own. Destroyed while work is on it: the work is done nevertheless.
using Stream = UniqueHandle<StreamHandle, nullptr, static_cast<void (*)(StreamHandle) noexcept>(release)>;
/// A point in a stream, without a time.
using Event = UniqueHandle<EventHandle, nullptr, static_cast<void (*)(EventHandle) noexcept>(release)>;

enum class Priority { kNormal, kHigh };
Stream make_stream(Priority priority);
Event make_event();

/// `event` stands for what is on `stream` now, in place of an earlier point. What waits for that one already
/// goes on waiting for it.
void record(EventHandle event, StreamHandle stream);
/// What is put on `stream` from now on waits for the point of `event`. The host does not.
void wait(StreamHandle stream, EventHandle event);
/// Whether the work up to the point is done.
bool has_passed(EventHandle event);
bool is_idle(StreamHandle stream);
/// The host waits.
void synchronize(EventHandle event);
void synchronize(StreamHandle stream);

/// Memory of the host that the device copies from and to while the host goes on. Taking it may hold up the
/// device: before a loop, not in it.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  /// `bytes` > 0 of any content.
  explicit PinnedMemory(size_t bytes);

  std::byte* data() const { return static_cast<std::byte*>(memory_.get()); }
  size_t size() const { return size_; }

 private:
  UniqueHandle<void*, nullptr, release_pinned> memory_;
  size_t size_ = 0;
};

/// Memory of somebody else's (a window that ranks share) that is pinned as long as this object lives. Whole
/// pages are best: two registrations of one page are refused.
class RegisteredMemory {
 public:
  RegisteredMemory() = default;
  RegisteredMemory(void* memory, size_t bytes);

 private:
  UniqueHandle<void*, nullptr, unregister> memory_;
};

/// In the order of `stream`. The memory of the host must be pinned, else the host may wait.
void copy_to_device(void* device, const void* host, size_t bytes, StreamHandle stream);
void copy_to_host(void* host, const void* device, size_t bytes, StreamHandle stream);

}  // namespace tmd::cuda
