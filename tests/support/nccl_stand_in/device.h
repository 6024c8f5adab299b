#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/support/nccl_stand_in/stand_in.h"

namespace tmd::test::stand_in {

/// How far the streams are known to have come. Every stream has one: what its next work comes after. So does
/// every thread of the host: what one thread has seen another knows only through an event.
class VectorClock {
 public:
  uint64_t operator[](size_t line) const { return line < ticks_.size() ? ticks_[line] : 0; }
  void advance(size_t line) {
    if (line >= ticks_.size()) ticks_.resize(line + 1);
    ++ticks_[line];
  }
  void join(const VectorClock& other) {
    if (other.ticks_.size() > ticks_.size()) ticks_.resize(other.ticks_.size());
    for (size_t i = 0; i < other.ticks_.size(); ++i) ticks_[i] = std::max(ticks_[i], other.ticks_[i]);
  }

 private:
  std::vector<uint64_t> ticks_;
};

/// Something that happens once; guarded by the device's mutex.
struct Point {
  bool has_happened = false;
};

/// Memory that a piece of work touches.
struct Range {
  const void* begin = nullptr;
  size_t bytes = 0;
  bool is_written = false;
};

/// A piece of work of a stream.
struct Item {
  std::function<void()> body;
  std::shared_ptr<Point> end;
};

}  // namespace tmd::test::stand_in

/// All members but the constants are guarded by the device's mutex.
struct CUstream_st {
  int device = 0;
  size_t line = 0;
  bool is_default = false;
  tmd::test::stand_in::VectorClock clock;
  std::deque<tmd::test::stand_in::Item> queue;
  std::shared_ptr<tmd::test::stand_in::Point> last;  // of what was put on it
  bool ends = false;
  int launches_in_progress = 0;     // of NCCL, which are not on it yet
  std::set<const void*> used_by{};  // communicators that are not destroyed
};

struct CUevent_st {
  int device = 0;
  bool is_recorded = false;
  std::shared_ptr<tmd::test::stand_in::Point> point;
  tmd::test::stand_in::VectorClock clock;
};

namespace tmd::test::stand_in {

/// The one device of the process. It lives as long as the process, since threads of streams may.
class Device {
 public:
  static Device& get();

  std::mutex mutex;
  std::condition_variable changed;  // any Point, queue or state

  // Without the mutex.
  void report(const std::string& what);
  /// Puts work on `stream`; checks what it uses against all that may still be using it. The body runs without
  /// the mutex; `instead` runs when a use was reported.
  void enqueue(cudaStream_t stream, const std::string& what, const std::vector<Range>& touched,
               std::function<void()> body, std::function<void()> instead = nullptr);

  // With the mutex.
  void report_locked(const std::string& what) { reports.push_back(what); }
  bool is_live(cudaStream_t stream) const { return streams.count(stream) > 0; }
  bool is_live(cudaEvent_t event) const { return events.count(event) > 0; }
  /// The default stream of the device for null.
  cudaStream_t resolve(cudaStream_t stream, int device);
  cudaStream_t make_stream(int device);
  std::shared_ptr<Point> put(cudaStream_t stream, std::function<void()> body);
  /// Reports conflicts of a use with those that `clock` does not know; false when there is one.
  bool check_use(const Range& range, const VectorClock& clock, const std::string& what);
  void sweep_memory();

  struct Use {
    Range range;
    size_t line;
    uint64_t tick;
    std::string what;
    std::shared_ptr<Point> end;
  };
  struct GivenBack {
    void* memory;
    std::vector<std::shared_ptr<Point>> uses;
  };

  std::set<cudaStream_t> streams;
  std::map<int, cudaStream_t> default_streams;
  std::set<cudaEvent_t> events;
  std::map<const void*, size_t> pinned, registered;
  std::vector<Use> uses;
  std::map<void*, size_t> allocated;
  std::vector<GivenBack> given_back;
  std::vector<std::string> reports;
  size_t lines = 0;
  cudaStream_t callers_stream = nullptr;
  Counts made;
  int device_count = 8;
  uint64_t seed = 0;
  std::chrono::microseconds longest_delay{0};

 private:
  void work(cudaStream_t stream);
};

/// Of the calling thread.
int current_device();
VectorClock& host_clock();

}  // namespace tmd::test::stand_in
