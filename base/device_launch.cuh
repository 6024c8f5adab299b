#pragma once

#include <type_traits>
#include <utility>

#include "base/device_launch.h"

// launch() on a device. Included by sources of device code alone.

namespace tmd::device {

template <class Kernel, int... phase>
__device__ inline void run_phases(const Kernel& kernel, typename Kernel::Shared& shared,
                                  std::integer_sequence<int, phase...>) {
  const Place at{static_cast<int64_t>(blockIdx.x), static_cast<int>(threadIdx.x),
                 static_cast<int>(blockDim.x)};
  typename Kernel::State state;
  const auto barrier_before = [](int number) {
    if (number > 0) __syncthreads();
  };
  ((barrier_before(phase), kernel.template run<phase>(at, state, shared)), ...);
}

template <class Kernel>
__global__ void __launch_bounds__(kMaxThreads) run_kernel(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  run_phases(kernel, shared, std::make_integer_sequence<int, Kernel::kPhases>{});
}

template <class Kernel>
void launch(const char* name, const Kernel& kernel, int64_t blocks, int threads, Stream stream) {
  static_assert(sizeof(Kernel) <= kMaxKernelBytes);
  static_assert(std::is_trivially_copyable_v<Kernel>);
  if (blocks == 0) return;
  ensure(blocks > 0 && blocks <= INT32_MAX && threads > 0 && threads <= kMaxThreads && threads % 32 == 0,
         "a launch fits the device");
  run_kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), 0, stream>>>(kernel);
  const cudaError_t code = cudaGetLastError();
  if (code != cudaSuccess) refuse_launch(name, blocks, threads, cudaGetErrorString(code));
}

}  // namespace tmd::device
