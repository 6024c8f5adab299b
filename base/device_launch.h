#pragma once

#include <cstdint>

// How the sources of device code (*.cu) start their kernels. A kernel is a struct that is copied to the
// device as it stands (at most kMaxKernelBytes, trivially copyable) with
//
//   using Shared = ...;                // what the threads of a block share
//   using State = ...;                 // what a thread keeps from one phase to the next
//   static constexpr int kPhases = 3;
//   template <int phase>
//   TMD_HOST_DEVICE void run(const device::Place& at, State& state, Shared& shared) const;
//
// Each thread of each block runs the phases 0, 1, ... in order; no thread begins a phase before all threads
// of its block have ended the one before. Within a phase no thread reads what another one of the launch
// writes, and no two write to one place. Shared and State are trivially copyable and begin with arbitrary
// bytes.
//
// launch() has two definitions, and the search path for includes decides which one a source is compiled with:
// base/device_launch.cuh starts the kernel on the device, the one in tests/support/emulated_device plays all
// blocks, phases and threads on the host. Sources of device code are C++17 and are compiled without
// contraction (--fmad=false, -ffp-contract=off), so that a sum of products has the same bits on both.

/// What CUDA's cudaStream_t points to.
struct CUstream_st;

namespace tmd::device {

using Stream = ::CUstream_st*;

/// Which thread of which block.
struct Place {
  int64_t block;
  int thread, threads;  ///< number in the block; threads of a block
};

constexpr int kMaxThreads = 256;       ///< of a block
constexpr int kMaxKernelBytes = 4000;  ///< CUDA passes 4096 bytes on every device

struct None {};  ///< the Shared or State of a kernel that has none

/// Starts `kernel` on `blocks` blocks of `threads` threads each (a multiple of 32, at most kMaxThreads);
/// `name` is for the error. No block, no launch. Stream: enqueues on `stream`, which belongs to the current
/// device. Throws kInternal if the device takes no launch; an earlier error of the device may be the reason.
template <class Kernel>
void launch(const char* name, const Kernel& kernel, int64_t blocks, int threads, Stream stream);

/// Blocks of `per_block` items each that have `n` items.
constexpr int64_t blocks_for(int64_t n, int64_t per_block) { return (n + per_block - 1) / per_block; }

/// Throws Error{kInternal}: sources of device code are C++17 and cannot see base/error.h.
[[noreturn]] void refuse(const char* promise);
/// The same unless `ok`.
inline void ensure(bool ok, const char* promise) {
  if (!ok) refuse(promise);
}
/// The same for a launch that the device did not take: `reason` is the device's.
[[noreturn]] void refuse_launch(const char* name, int64_t blocks, int threads, const char* reason);

}  // namespace tmd::device
