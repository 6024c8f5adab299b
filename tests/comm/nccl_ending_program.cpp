// One of three ranks does not come to a collective of the devices, while the hosts of the others are blocked
// in a call of the CUDA runtime that waits for it.
//   nccl_ending_program stopped   rank 1 stops: the watchdog of another rank finds it, aborts what the
//   devices do,
//                                 and ends all with code 76
//   nccl_ending_program hanging   the same when NCCL's abort hangs: after the deadline all end nevertheless
//   nccl_ending_program killed    rank 1 is killed: the launcher ends the others
// And one that ends without a collective:
//   nccl_ending_program left_open a group is destroyed while it is open: it is leaked, and the rest is closed

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "comm/agree.h"
#include "comm/mpi_runtime.h"
#include "comm/nccl_runtime.h"
#include "comm/watchdog.h"
#include "tests/support/nccl_stand_in/memory.h"
#include "tests/support/nccl_stand_in/stand_in.h"

namespace {

// NCCL cannot end a communicator without the other ranks, and a destructor cannot know that they come.
[[noreturn]] void leave_a_group_open(tmd::comm::NcclRuntime& nccl, tmd::comm::Communicator& world,
                                     tmd::comm::MpiRuntime& mpi) {
  world.split(0, world.rank(), "left open").reset();
  world.close();
  bool is_refused = false;
  try {
    nccl.finalize();
  } catch (const tmd::Error& e) {
    is_refused = e.kind() == tmd::ErrorKind::kInternal;
  }
  const std::string left = fmt::format("{}", fmt::join(tmd::test::stand_in::communicators(), "; "));
  if (!is_refused || left.rfind("left open, ", 0) != 0 || left.find(';') != std::string::npos) {
    std::fputs(fmt::format("left: {}\n", left).c_str(), stderr);
    mpi.abort(1);
  }
  mpi.world().barrier();
  mpi.abort(76);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tmd;
  using namespace tmd::comm;
  if (argc != 2) return 1;
  const auto is_case = [&](const char* name) { return std::strcmp(argv[1], name) == 0; };
  MpiRuntime mpi;
  Communicator& host = mpi.world();
  cuda::set_device(host.rank());
  test::StandInStreams streams;
  NcclRuntime nccl(host, streams, {.device = at::kCPU, .device_index = host.rank(), .nccl = {}});
  const std::unique_ptr<Communicator> world = nccl.connect(host.split(0, host.rank(), "devices"));

  if (is_case("left_open")) leave_a_group_open(nccl, *world, mpi);

  const std::filesystem::path folder =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "nccl_ending_journals" / argv[1];
  std::filesystem::create_directories(folder);
  std::atomic<bool> is_free = false;
  const auto act = [&](const Verdict& verdict) {
    if (verdict.late != std::vector<int>{1}) {
      std::fputs(fmt::format("the wrong ranks are blamed:\n{}\n", verdict.text).c_str(), stderr);
      mpi.abort(1);
    }
    if (is_case("hanging")) {
      test::stand_in::hang_in_abort();
      if (nccl.abort(std::chrono::milliseconds(500))) mpi.abort(1);
    } else {
      if (!nccl.abort(std::chrono::seconds(20))) mpi.abort(1);
      while (!is_free)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // until the time of the test is up
    }
    world->abort(76);
  };
  const Watchdog watchdog(
      mpi.journal(), {.folder = folder, .rank = host.rank(), .ranks = host.size(), .deadline_s = 2}, act);
  host.barrier();
  if (host.rank() == 1) std::raise(is_case("killed") ? SIGKILL : SIGSTOP);
  const at::Tensor numbers = at::ones({300'000});
  world->all_reduce(numbers, ReduceOp::kSum).wait();
  cuda::synchronize(streams.current());
  is_free = true;
  while (true) std::this_thread::sleep_for(std::chrono::seconds(1));
}
