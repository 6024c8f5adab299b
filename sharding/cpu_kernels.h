#pragma once

#include <cstdint>
#include <functional>

namespace tmd::sharding {

/// The build of kernels that this machine can run (cmake/Targets.cmake, tmd_kernels). It follows ATen's own
/// choice, ATEN_CPU_CAPABILITY=default|avx2 included. The results do not depend on it.
template <class Kernels>
const Kernels& kernels_for_this_cpu(const Kernels& plain, const Kernels& avx2, const Kernels& avx512);

/// Calls `task` with 0 .. tasks - 1, in any order, on ATen's compute threads, or on this one
/// alone when there are less than about 32768 elements to work on. Which thread does what must not matter to
/// the result.
void run_tasks(int64_t tasks, int64_t elements_per_task, const std::function<void(int64_t)>& task);

// ---------------------------------------------------------------------------------------------------------

enum class CpuKernels { kPlain, kAvx2, kAvx512 };
CpuKernels cpu_kernels();

template <class Kernels>
const Kernels& kernels_for_this_cpu(const Kernels& plain, const Kernels& avx2, const Kernels& avx512) {
  if (cpu_kernels() == CpuKernels::kAvx512) return avx512;
  return cpu_kernels() == CpuKernels::kAvx2 ? avx2 : plain;
}

}  // namespace tmd::sharding
