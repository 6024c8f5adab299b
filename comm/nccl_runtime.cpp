#include "comm/nccl_runtime.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/cuda_runtime.h"
#include "base/log.h"
#include "comm/agree.h"
#include "comm/nccl_communicator.h"
#include "comm/nccl_launch_thread.h"
#include "comm/single_communicator.h"

namespace tmd::comm {
namespace {

constexpr std::chrono::seconds kLeaveTimeout{1};
constexpr int kSharedDeviceVersion = 23000;

void check_versions() {
  const int built = nccl_built_version(), loaded = nccl_loaded_version();
  check(loaded / 100 >= built / 100, ErrorKind::kUnavailable,
        fmt::format("NCCL {} is loaded, but this program was built for {}", nccl_version_text(loaded),
                    nccl_version_text(built)),
        "LD_LIBRARY_PATH may name an older library");
}

void check_device(int device) {
  const cuda::DeviceCount found = cuda::device_count();
  check(device >= 0 && device < found.count, ErrorKind::kUnavailable,
        found.count == 0 ? fmt::format("no CUDA device: {}", found.reason)
                         : fmt::format("no CUDA device {}: there are {}", device, found.count),
        "CUDA_VISIBLE_DEVICES chooses the devices of a process; start as many ranks on a node as it has");
}

/// "ranks 0, 1 on NVIDIA H100 (0000:1b:00.0)" for every device that several ranks have.
std::vector<std::string> shared_devices(Communicator& host, int device) {
  std::string own;
  run_agreed(host, [&] {
    const cuda::DeviceInfo info = cuda::device_info(device);
    own = fmt::format("{} {} ({})", info.uuid, info.name, info.pci);
  });
  std::map<std::string, std::vector<int>> ranks_of;
  const std::vector<std::string> devices = gather_strings(host, own);
  for (size_t rank = 0; rank < devices.size(); ++rank)
    ranks_of[devices[rank]].push_back(static_cast<int>(rank));
  std::vector<std::string> shared;
  for (const auto& [text, ranks] : ranks_of) {
    if (ranks.size() > 1)
      shared.push_back(
          fmt::format("ranks {} on {}", fmt::join(ranks, ", "), text.substr(text.find(' ') + 1)));
  }
  return shared;
}

void check_shared(const std::vector<std::string>& shared, bool allows_shared_device) {
  const std::string who = fmt::format("{}", fmt::join(shared, "; "));
  check(allows_shared_device, ErrorKind::kUnavailable, fmt::format("several ranks use one device: {}", who),
        "start as many ranks on a node as it has devices");
  const int loaded = nccl_loaded_version();
  check(loaded >= kSharedDeviceVersion, ErrorKind::kUnavailable,
        fmt::format("several ranks use one device, which NCCL {} cannot: {}", nccl_version_text(loaded), who),
        "NCCL 2.30 or newer can");
  log_warning("several ranks use one device, which is for tests only: {}", who);
  ::setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
}

}  // namespace

struct NcclRuntime::State {
  Options options;
  Journal* journal = nullptr;
  std::unique_ptr<NcclLaunchThread> thread;  // none for a single rank
  bool is_finalized = false;
  std::mutex ending;  // held to end the thread, and by a watchdog that aborts it at the same time

  // Also where the constructor throws after the thread was made.
  ~State() {
    if (thread && !is_finalized && !thread->leave(kLeaveTimeout)) (void)thread.release();
  }
};

NcclRuntime::NcclRuntime(Communicator& host, DeviceStreams& streams, const Options& options)
    : state_(std::make_unique<State>()) {
  ensure(host.journal() != nullptr, "the host communicator has a journal");
  state_->options = options;
  state_->journal = host.journal();
  run_agreed(host, [&] { check_device(options.device_index); });
  if (host.size() == 1) return;
  run_agreed(host, [] { check_versions(); });
  const std::vector<std::string> shared = shared_devices(host, options.device_index);
  run_agreed(host, [&] {
    if (!shared.empty()) check_shared(shared, options.allows_shared_device);
    // Belt and braces: launches come in one order from one thread, and NCCL keeps it on the device too.
    ::setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 0);
    state_->thread = std::make_unique<NcclLaunchThread>(
        *host.journal(), streams,
        NcclLaunchThread::Options{.device = options.device_index, .patience = options.patience});
  });
}

NcclRuntime::~NcclRuntime() {
  if (state_->thread && !state_->is_finalized)
    log_warning("NCCL was not finalized: the process leaves it as it is");
}

std::unique_ptr<Communicator> NcclRuntime::connect(std::unique_ptr<Communicator> host) {
  ensure(!state_->is_finalized, "NCCL is connected before it is finalized");
  const Options& options = state_->options;
  if (host->size() > 1) {
    ensure(state_->thread != nullptr, "the ranks that are connected are those of the constructor");
    return NcclCommunicator::make(*state_->thread, std::move(host), options.device, options.nccl);
  }
  std::string name = host->name();
  host->close();
  return std::make_unique<SingleCommunicator>(std::move(name), state_->journal, options.device);
}

void NcclRuntime::check_health() const {
  if (!state_->thread) return;
  if (const std::optional<Error> failed = state_->thread->failure()) throw *failed;
}

bool NcclRuntime::abort(std::chrono::milliseconds timeout) noexcept {
  const std::lock_guard lock(state_->ending);
  return !state_->thread || state_->is_finalized || state_->thread->abort(timeout);
}

void NcclRuntime::finalize() {
  const std::lock_guard lock(state_->ending);
  ensure(!state_->is_finalized, "NCCL is finalized once");
  if (state_->thread) {
    const int open = state_->thread->open_communicators();
    check(open == 0, ErrorKind::kInternal,
          fmt::format("NCCL cannot be finalized: {} communicators are open", open));
    if (!state_->thread->leave(kLeaveTimeout)) {
      (void)state_->thread.release();
      throw Error(ErrorKind::kInternal, "the thread that calls NCCL does not end");
    }
  }
  state_->is_finalized = true;
}

}  // namespace tmd::comm
