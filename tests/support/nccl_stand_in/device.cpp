#include "tests/support/nccl_stand_in/device.h"

#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include <spdlog/fmt/fmt.h>

namespace tmd::test::stand_in {
namespace {

thread_local int the_device = 0;
thread_local cudaError_t the_last_error = cudaSuccess;
thread_local int no_host_wait = 0;
thread_local VectorClock the_host_clock;

constexpr size_t kMemory = size_t{80} << 30;

cudaError_t fail(cudaError_t error) { return the_last_error = error; }

bool overlap(const Range& a, const Range& b) {
  const auto *a_begin = static_cast<const char*>(a.begin), *b_begin = static_cast<const char*>(b.begin);
  return a_begin < b_begin + b.bytes && b_begin < a_begin + a.bytes;
}

bool covers(const Range& a, const Range& b) {
  const auto *a_begin = static_cast<const char*>(a.begin), *b_begin = static_cast<const char*>(b.begin);
  return a_begin <= b_begin && a_begin + a.bytes >= b_begin + b.bytes;
}

bool holds(const std::map<const void*, size_t>& blocks, const void* memory, size_t bytes) {
  auto after = blocks.upper_bound(memory);
  if (after == blocks.begin()) return false;
  --after;
  return static_cast<const char*>(memory) + bytes <= static_cast<const char*>(after->first) + after->second;
}

}  // namespace

int current_device() { return the_device; }
VectorClock& host_clock() { return the_host_clock; }

// Never destroyed: threads of streams may outlive main.
Device& Device::get() {
  static Device* const device = new Device;
  return *device;
}

void Device::report(const std::string& what) {
  const std::lock_guard lock(mutex);
  report_locked(what);
}

cudaStream_t Device::make_stream(int device) {
  auto* stream = new CUstream_st;
  stream->device = device;
  stream->line = lines++;
  stream->last = std::make_shared<Point>(Point{true});
  streams.insert(stream);
  std::thread([this, stream] { work(stream); }).detach();
  return stream;
}

cudaStream_t Device::resolve(cudaStream_t stream, int device) {
  if (stream) return stream;
  cudaStream_t& found = default_streams[device];
  if (!found) {
    found = make_stream(device);
    found->is_default = true;
  }
  return found;
}

// The thread of one stream.
void Device::work(cudaStream_t stream) {
  std::unique_lock lock(mutex);
  std::minstd_rand random(static_cast<unsigned>(seed * 1000 + stream->line));
  while (true) {
    changed.wait(lock, [&] { return !stream->queue.empty() || stream->ends; });
    if (stream->queue.empty()) break;
    Item item = std::move(stream->queue.front());
    stream->queue.pop_front();
    const int64_t longest_us = longest_delay.count();
    lock.unlock();
    if (longest_us > 0) {
      std::uniform_int_distribution<int64_t> delay_us(0, longest_us);
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us(random)));
    }
    if (item.body) item.body();
    item.body = nullptr;
    lock.lock();
    item.end->has_happened = true;
    changed.notify_all();
  }
  lock.unlock();
  delete stream;
}

std::shared_ptr<Point> Device::put(cudaStream_t stream, std::function<void()> body) {
  stream->last = std::make_shared<Point>();
  stream->queue.push_back({std::move(body), stream->last});
  changed.notify_all();
  return stream->last;
}

bool Device::check_use(const Range& range, const VectorClock& clock, const std::string& what) {
  for (const Use& use : uses) {
    const bool conflicts = overlap(range, use.range) && (range.is_written || use.range.is_written);
    if (!conflicts || use.tick <= clock[use.line]) continue;
    report_locked(fmt::format("missing wait: {} {} memory that {} {}, and nothing orders them", what,
                              range.is_written ? "writes" : "reads", use.what,
                              use.range.is_written ? "writes" : "reads"));
    return false;
  }
  return true;
}

void Device::enqueue(cudaStream_t stream, const std::string& what, const std::vector<Range>& touched,
                     std::function<void()> body, std::function<void()> instead) {
  const std::lock_guard lock(mutex);
  stream->clock.join(host_clock());
  stream->clock.advance(stream->line);
  bool is_right = true;
  for (const Range& range : touched) is_right = is_right && check_use(range, stream->clock, what);
  if (!is_right) {
    put(stream, std::move(instead));
    return;
  }
  const std::shared_ptr<Point> end = put(stream, std::move(body));
  for (const Range& range : touched) {
    // Who knows of this use knows of those that it covers, too.
    std::erase_if(uses, [&](const Use& use) {
      return use.line == stream->line && covers(range, use.range) &&
             (range.is_written || !use.range.is_written);
    });
    uses.push_back({range, stream->line, stream->clock[stream->line], what, end});
  }
}

// Memory whose last use is over goes back to the heap.
void Device::sweep_memory() {
  std::erase_if(given_back, [](GivenBack& block) {
    const bool is_unused =
        std::ranges::all_of(block.uses, [](const auto& point) { return point->has_happened; });
    if (is_unused) std::free(block.memory);
    return is_unused;
  });
}

std::vector<std::string> take_reports() {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  return std::exchange(device.reports, {});
}

void set_delays(uint64_t seed, std::chrono::microseconds longest) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  device.seed = seed;
  device.longest_delay = longest;
}

void set_devices(int count) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  device.device_count = count;
}

void set_caller_stream(StreamHandle stream) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  device.callers_stream = stream;
}

void host_reads(const void* memory, size_t bytes) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  device.check_use({memory, bytes, false}, host_clock(), "the host");
}

void host_writes(const void* memory, size_t bytes) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  device.check_use({memory, bytes, true}, host_clock(), "the host");
}

void* allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!memory) throw std::bad_alloc();
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  device.sweep_memory();
  device.allocated[memory] = bytes;
  return memory;
}

// As a caching allocator gives memory to later work of the caller's stream.
void give_back(void* memory) {
  if (!memory) return;
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  const auto found = device.allocated.find(memory);
  const Range whole{memory, found->second, true};
  device.allocated.erase(found);
  VectorClock clock = host_clock();
  if (device.callers_stream) clock.join(device.callers_stream->clock);
  Device::GivenBack block{memory, {}};
  std::erase_if(device.uses, [&](const Device::Use& use) {
    if (!overlap(whole, use.range)) return false;
    if (use.tick > clock[use.line])
      device.report_locked(fmt::format("memory is given back while {} may still use it", use.what));
    block.uses.push_back(use.end);
    return true;
  });
  device.given_back.push_back(std::move(block));
  device.sweep_memory();
}

struct Gate::State {
  bool is_open = false;
  bool is_left = false;
};

Gate::Gate(StreamHandle stream) : state_(new State) {
  Device& device = Device::get();
  device.enqueue(stream, "a gate", {}, [&device, state = state_] {
    std::unique_lock lock(device.mutex);
    device.changed.wait(lock, [state] { return state->is_open; });
    delete state;
  });
}

void Gate::open() {
  if (!state_) return;
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  std::exchange(state_, nullptr)->is_open = true;
  device.changed.notify_all();
}

NoHostWait::NoHostWait() { ++no_host_wait; }
NoHostWait::~NoHostWait() { --no_host_wait; }

Counts counts() {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  return device.made;
}

namespace {

// With the mutex: the host waits for a point.
void wait_for(Device& device, std::unique_lock<std::mutex>& lock, const std::shared_ptr<Point>& point,
              const char* call) {
  if (no_host_wait > 0) device.report_locked(fmt::format("{}: the host waits where it may not", call));
  device.changed.wait(lock, [&] { return point->has_happened; });
}

// With the mutex: nothing may be put on a stream behind a launch that is not on it yet.
void check_no_launch(Device& device, cudaStream_t stream, const char* call) {
  if (stream->launches_in_progress > 0)
    device.report_locked(fmt::format("{} on a stream where NCCL is still launching", call));
}

// With the mutex: false when the handle cannot be used.
template <class Handle>
bool check_live(Device& device, Handle handle, const char* call) {
  if (device.is_live(handle)) return true;
  device.report_locked(fmt::format("{} on a handle that is gone", call));
  return false;
}

}  // namespace
}  // namespace tmd::test::stand_in

using namespace tmd::test::stand_in;

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    default:
      return "cudaError";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    default:
      return "an error of the stand-in";
  }
}

cudaError_t cudaGetLastError(void) { return std::exchange(the_last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError(void) { return the_last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  *count = device.device_count;
  return device.device_count > 0 ? cudaSuccess : fail(cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp* prop, int device) {
  *prop = {};
  std::strncpy(prop->name, "Stand-in", sizeof(prop->name) - 1);
  prop->uuid.bytes[0] = static_cast<char>(device + 1);
  prop->totalGlobalMem = kMemory;
  prop->major = 9;
  prop->multiProcessorCount = 132;
  prop->pciBusID = device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  Device& all = Device::get();
  const std::lock_guard lock(all.mutex);
  if (device < 0 || device >= all.device_count) return fail(cudaErrorInvalidDevice);
  the_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = the_device;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = kMemory / 2;
  *total = kMemory;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* leastPriority, int* greatestPriority) {
  *leastPriority = 0;
  *greatestPriority = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* pStream, unsigned int flags, int) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  if (flags != cudaStreamNonBlocking)
    device.report_locked("a stream is made that waits for the default stream");
  *pStream = device.make_stream(the_device);
  ++device.made.streams;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  if (!check_live(device, stream, "cudaStreamDestroy")) return fail(cudaErrorInvalidResourceHandle);
  if (!stream->used_by.empty())
    device.report_locked("a stream is destroyed before the communicator that used it");
  if (device.callers_stream == stream) device.callers_stream = nullptr;
  device.streams.erase(stream);
  stream->ends = true;  // its thread does what is left, and deletes it
  device.changed.notify_all();
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  stream = device.resolve(stream, the_device);
  if (!check_live(device, stream, "cudaStreamWaitEvent") || !check_live(device, event, "cudaStreamWaitEvent"))
    return fail(cudaErrorInvalidResourceHandle);
  check_no_launch(device, stream, "cudaStreamWaitEvent");
  if (!event->is_recorded) {
    device.report_locked("cudaStreamWaitEvent: the event was never recorded");
    return cudaSuccess;
  }
  stream->clock.join(host_clock());
  stream->clock.join(event->clock);
  device.put(stream, [&device, point = event->point] {
    std::unique_lock waiting(device.mutex);
    device.changed.wait(waiting, [&] { return point->has_happened; });
  });
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  stream = device.resolve(stream, the_device);
  if (!check_live(device, stream, "cudaStreamQuery")) return fail(cudaErrorInvalidResourceHandle);
  if (!stream->last->has_happened) return fail(cudaErrorNotReady);
  host_clock().join(stream->clock);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Device& device = Device::get();
  std::unique_lock lock(device.mutex);
  stream = device.resolve(stream, the_device);
  if (!check_live(device, stream, "cudaStreamSynchronize")) return fail(cudaErrorInvalidResourceHandle);
  check_no_launch(device, stream, "cudaStreamSynchronize");
  const VectorClock clock = stream->clock;
  wait_for(device, lock, stream->last, "cudaStreamSynchronize");
  host_clock().join(clock);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  if (flags != cudaEventDisableTiming) device.report_locked("an event is made that takes the time");
  *event = new CUevent_st{};
  (*event)->device = the_device;
  device.events.insert(*event);
  ++device.made.events;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  if (!check_live(device, event, "cudaEventDestroy")) return fail(cudaErrorInvalidResourceHandle);
  device.events.erase(event);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  if (!check_live(device, event, "cudaEventRecord")) return fail(cudaErrorInvalidResourceHandle);
  stream = device.resolve(stream, event->device);
  if (!check_live(device, stream, "cudaEventRecord")) return fail(cudaErrorInvalidResourceHandle);
  if (stream->device != event->device) return fail(cudaErrorInvalidResourceHandle);
  check_no_launch(device, stream, "cudaEventRecord");
  stream->clock.join(host_clock());
  event->clock = stream->clock;
  event->is_recorded = true;
  event->point = device.put(stream, nullptr);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  if (!check_live(device, event, "cudaEventQuery")) return fail(cudaErrorInvalidResourceHandle);
  if (!event->is_recorded) return cudaSuccess;
  if (!event->point->has_happened) return fail(cudaErrorNotReady);
  host_clock().join(event->clock);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Device& device = Device::get();
  std::unique_lock lock(device.mutex);
  if (!check_live(device, event, "cudaEventSynchronize")) return fail(cudaErrorInvalidResourceHandle);
  if (!event->is_recorded) return cudaSuccess;
  const VectorClock clock = event->clock;
  const std::shared_ptr<Point> point = event->point;
  wait_for(device, lock, point, "cudaEventSynchronize");
  host_clock().join(clock);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** pHost, size_t size, unsigned int) {
  *pHost = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  if (!*pHost) return fail(cudaErrorMemoryAllocation);
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  device.pinned[*pHost] = size;
  ++device.made.pinned;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* ptr) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  const auto found = device.pinned.find(ptr);
  if (found == device.pinned.end()) return fail(cudaErrorInvalidValue);
  const Range whole{ptr, found->second, true};
  device.check_use(whole, host_clock(), "cudaFreeHost");
  std::erase_if(device.uses, [&](const Device::Use& use) { return overlap(whole, use.range); });
  device.pinned.erase(found);
  std::free(ptr);
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void* ptr, size_t size, unsigned int) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  if (!device.registered.emplace(ptr, size).second) return fail(cudaErrorHostMemoryAlreadyRegistered);
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* ptr) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  return device.registered.erase(ptr) > 0 ? cudaSuccess : fail(cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t count, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Device& device = Device::get();
  {
    const std::lock_guard lock(device.mutex);
    stream = device.resolve(stream, the_device);
    if (!check_live(device, stream, "cudaMemcpyAsync")) return fail(cudaErrorInvalidResourceHandle);
    check_no_launch(device, stream, "cudaMemcpyAsync");
    const void* host_side = kind == cudaMemcpyHostToDevice ? src : dst;
    if (!holds(device.pinned, host_side, count) && !holds(device.registered, host_side, count))
      device.report_locked("cudaMemcpyAsync: the memory of the host is not pinned");
  }
  const char* what = kind == cudaMemcpyHostToDevice ? "a copy to the device" : "a copy to the host";
  device.enqueue(stream, what, {{src, count, false}, {dst, count, true}},
                 [dst, src, count] { std::memcpy(dst, src, count); });
  return cudaSuccess;
}

}  // extern "C"
