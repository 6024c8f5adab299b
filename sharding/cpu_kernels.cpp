#include "sharding/cpu_kernels.h"

#include <algorithm>
#include <string>

#include <ATen/Parallel.h>
#include <ATen/Version.h>

namespace tmd::sharding {

CpuKernels cpu_kernels() {
  static const CpuKernels choice = [] {
    const std::string capability = at::get_cpu_capability();
    if (capability.starts_with("AVX512")) return CpuKernels::kAvx512;
    return capability == "AVX2" ? CpuKernels::kAvx2 : CpuKernels::kPlain;
  }();
  return choice;
}

void run_tasks(int64_t tasks, int64_t elements_per_task, const std::function<void(int64_t)>& task) {
  constexpr int64_t kWorthAThread = 32768;
  const int64_t grain = std::max<int64_t>(1, kWorthAThread / std::max<int64_t>(1, elements_per_task));
  at::parallel_for(0, tasks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) task(i);
  });
}

}  // namespace tmd::sharding
