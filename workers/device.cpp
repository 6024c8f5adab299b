#include "workers/device.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <unistd.h>

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/agree.h"
#include "comm/torch_streams.h"
#include "sharding/memory_counter.h"

namespace tmd::workers {
namespace {

using Attention = DeviceOptions::Attention;

std::string this_host() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

// What holds for the whole process, and so for every network in it.
void set_context(const DeviceOptions& options) {
  // cuBLAS reads it when it starts: without, products on several streams may differ from run to run.
  if (options.deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::Context& context = at::globalContext();
  // Operators that know no deterministic way only warn: they are not in our losses.
  context.setDeterministicAlgorithms(options.deterministic, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
  context.setDeterministicCuDNN(options.deterministic);
  context.setBenchmarkCuDNN(!options.deterministic);
  context.setUserEnabledCuDNN(options.cudnn);
  context.setAllowTF32CuBLAS(options.tf32);
  context.setAllowTF32CuDNN(options.tf32);
  const auto uses = [&](Attention kind) {
    return options.attention == Attention::kAuto || options.attention == kind;
  };
  context.setSDPUseFlash(uses(Attention::kFlash));
  context.setSDPUseCuDNN(uses(Attention::kCudnn));
  context.setSDPUseMemEfficient(uses(Attention::kEfficient));
  context.setSDPUseMath(uses(Attention::kMath));
}

const char* name(Attention attention) {
  switch (attention) {
    case Attention::kAuto:
      return "chosen by ATen";
    case Attention::kFlash:
      return "flash";
    case Attention::kCudnn:
      return "cudnn";
    case Attention::kEfficient:
      return "efficient";
    case Attention::kMath:
      break;
  }
  return "math";
}

std::string describe(int device, const DeviceOptions& options) {
  const cuda::DeviceInfo info = cuda::device_info(device);
  return fmt::format("cuda:{} ({}, {:.0f} GB), attention {}, TF32 {}, cuDNN {}, {}", device, info.name,
                     static_cast<double>(info.memory_bytes) / 1e9, name(options.attention),
                     options.tf32 ? "on" : "off", options.cudnn ? "on" : "off",
                     options.deterministic ? "deterministic" : "not deterministic");
}

}  // namespace

int device_of(int rank, const std::vector<std::string>& hosts, const cuda::DeviceCount& found,
              const DeviceOptions& options) {
  using Kind = DeviceOptions::Kind;
  const auto here = [&](const std::string& host) { return host == hosts[rank]; };
  const auto local = static_cast<int>(std::count_if(hosts.begin(), hosts.begin() + rank, here));
  const auto on_host = static_cast<int>(std::ranges::count_if(hosts, here));
  if (options.kind == Kind::kCpu) return -1;
  if (found.count == 0) {
    check(options.kind == Kind::kAuto, ErrorKind::kUnavailable,
          fmt::format("device.kind = cuda, and {} has no device: {}", hosts[rank], found.reason),
          "start on a host with NVIDIA GPUs, or leave device.kind at auto");
    return -1;
  }
  if (found.count == 1) return 0;  // the launcher may show each rank its own; a shared one is refused later
  check(options.share || on_host <= found.count, ErrorKind::kConfig,
        fmt::format("{} trainers run on {}, which shows {} devices", on_host, hosts[rank], found.count),
        "start one trainer for each device, or set device.share = true or device.kind = cpu");
  return local % found.count;
}

DeviceChoice choose_device(comm::Communicator& trainers, const DeviceOptions& options) {
  const std::vector<std::string> hosts = comm::gather_strings(trainers, this_host());
  DeviceChoice choice;
  int device = -1;
  cuda::DeviceCount found;
  comm::run_agreed(trainers, [&] {
    if (options.kind != DeviceOptions::Kind::kCpu) found = cuda::device_count();
    device = device_of(trainers.rank(), hosts, found, options);
  });
  const bool all = comm::agree_all(trainers, device >= 0), none = comm::agree_all(trainers, device < 0);
  comm::run_agreed(trainers, [&] {
    check(all || none, ErrorKind::kUnavailable,
          fmt::format("{} {} device, other trainers {}", hosts[trainers.rank()],
                      device < 0 ? "shows no" : "shows a", device < 0 ? "have one" : "have none"),
          "give every trainer a GPU, or set device.kind = cpu");
    if (device < 0) {
      choice.text = found.reason.empty() ? "CPU" : "CPU (no GPU: " + found.reason + ")";
      return;
    }
    set_context(options);
    cuda::set_device(device);
    choice.device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    choice.text = describe(device, options);
  });
  return choice;
}

void synchronize(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

int64_t peak_memory(at::Device device) {
  if (device.is_cpu()) return sharding::MemoryCounter::process().peak().total;
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

void reset_peak_memory(at::Device device) {
  if (device.is_cpu()) {
    sharding::MemoryCounter::process().reset_peak();
  } else {
    c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
  }
}

DeviceGroup::DeviceGroup(std::unique_ptr<comm::Communicator> ranks, const DeviceOptions& options) {
  const DeviceChoice choice = choose_device(*ranks, options);
  if (ranks->rank() == 0) log_info("device: {}", choice.text);
  device_ = choice.device;
  if (device_.is_cpu()) {
    comm_ = std::move(ranks);
    return;
  }
  streams_ = comm::torch_streams(device_.index());
  comm::NcclRuntime::Options nccl;
  nccl.device = device_;
  nccl.device_index = device_.index();
  nccl.allows_shared_device = options.share;
  nccl_ = std::make_unique<comm::NcclRuntime>(*ranks, *streams_, nccl);
  comm_ = nccl_->connect(std::move(ranks));
  upload_ = std::make_unique<BatchUpload>(device_, *streams_);
}

void DeviceGroup::settle() const {
  synchronize(device_);
  if (nccl_) nccl_->check_health();
}

void DeviceGroup::abort() noexcept {
  constexpr std::chrono::milliseconds kPatience{5000};
  if (nccl_ && !nccl_->abort(kPatience)) log_error("the device did not let go of its communicators in time");
}

void DeviceGroup::close() {
  upload_.reset();
  comm_->close();
  if (nccl_) nccl_->finalize();
}

}  // namespace tmd::workers
