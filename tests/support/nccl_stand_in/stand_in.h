#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct CUstream_st;

// A stand-in for NCCL and for the calls of the CUDA runtime that the project makes, on machines without a
// GPU. The "device" of a process is its host: streams are threads that do what was put on them in order,
// events are flags, device memory is memory of the host. NCCL's operations move that memory between the
// processes of one machine, through a shared mapping that each family of communicators has (a memfd which the
// others open through /proc, as comm/node_window does).
//
// Not through MPI: the operations run on the threads of the streams, and one thread of the product calls MPI
// already. A second user would need MPI_THREAD_MULTIPLE, hence another MPI under test than in the product,
// and a message that never comes could not be given up when a communicator is aborted. In shared memory every
// wait is a loop that looks at a flag.
//
// As in NCCL, a call on a communicator with blocking = 0 returns before its work is on the stream; it gets
// there when ncclCommGetAsyncError has been asked some times. Communicators that share resources do one
// operation at a time, in the order of their launches. Priorities are ignored.
//
// What the programs of the project may not do is found and reported:
//   - an operation of NCCL on the default stream, a stream of the caller or of another device;
//   - a missing wait: two uses of the same memory, one of which writes, by work that nothing orders
//     (happens-before, from events and waits of the host, so it is found whatever the timing is);
//   - memory that is given back while a stream may still use it;
//   - ranks that differ in the order, kind, count, type or root of their operations, also between
//     communicators;
//   - calls on communicators that are in progress, destroyed or aborted, and on handles that are gone; a
//     split while operations are under way, a destruction before the end, a stream destroyed before its
//     communicator;
//   - waits of the host where none may be, copies through memory that is not pinned, waits for events that
//     were never recorded;
//   - what is left over at the end.
// Work that is reported is not done, so that a planted mistake does not damage the test itself.

namespace tmd::test::stand_in {

using StreamHandle = CUstream_st*;

/// What was reported in this process since the last call, one line for each.
std::vector<std::string> take_reports();

/// What has not been destroyed: streams, events, communicators, pinned and registered memory.
std::vector<std::string> leaks();

/// The communicators that are there, with what they were made with: "NAME, shares resources, blocks 2 to 8".
std::vector<std::string> communicators();

/// From now on each stream sleeps before each piece of work, for a random time up to `longest`.
void set_delays(uint64_t seed, std::chrono::microseconds longest);

/// What the process sees: `count` devices, whose numbers mean the same in all processes of the machine.
void set_devices(int count);
/// What ncclGetVersion says, as NCCL codes it.
void set_nccl_version(int version);

/// `stream` belongs to the program that calls NCCL; memory that is given back is ordered by it.
void set_caller_stream(StreamHandle stream);

/// The host is about to use the memory itself.
void host_reads(const void* memory, size_t bytes);
void host_writes(const void* memory, size_t bytes);

/// Memory as an allocator of device memory hands it out: `give_back` orders its next use after what is on the
/// caller's stream.
void* allocate(size_t bytes);
void give_back(void* memory);

/// What is put on `stream` after this waits until it is opened or destroyed.
class Gate {
 public:
  explicit Gate(StreamHandle stream);
  ~Gate() { open(); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  void open();

 private:
  struct State;
  State* state_;  // freed by the stream
};

/// While one lives, a wait of this thread for a stream or an event is reported.
class NoHostWait {
 public:
  NoHostWait();
  ~NoHostWait();
  NoHostWait(const NoHostWait&) = delete;
  NoHostWait& operator=(const NoHostWait&) = delete;
};

/// All communicators of this process report `nccl_result` from now on, with `text` as NCCL's last error.
void fail_communicators(int nccl_result, const std::string& text);

/// From now on ncclCommAbort does not return.
void hang_in_abort();

/// Made since the process began.
struct Counts {
  int64_t streams = 0, events = 0, pinned = 0;
};
Counts counts();

}  // namespace tmd::test::stand_in
