// Ranks with a device each, of the stand-in, for tests that know nothing of devices: tensors stay the host's,
// and all that is communicated goes through NcclRuntime, its launch thread, streams and events.

#include <utility>

#include <spdlog/fmt/fmt.h>

#include "base/cuda_runtime.h"
#include "comm/nccl_runtime.h"
#include "tests/support/nccl_stand_in/memory.h"
#include "tests/support/nccl_stand_in/stand_in.h"
#include "tests/support/test_world.h"
#include "tests/support/wrapped_communicator.h"

namespace tmd::test {
namespace {

using comm::Communicator;
using comm::Work;

/// The host computes in the place of the device: what a wait has put on the stream must be done before the
/// host goes on, as a kernel behind it on the stream would find it.
class Settled final : public comm::Operation {
 public:
  Settled(Work work, StandInStreams& streams) : work_(std::move(work)), streams_(streams) {}
  void wait() override {
    work_.wait();
    cuda::synchronize(streams_.current());
  }
  bool is_done() override { return work_.is_done(); }

 private:
  Work work_;
  StandInStreams& streams_;
};

class SettledCommunicator final : public WrappedCommunicator {
 public:
  SettledCommunicator(std::unique_ptr<Communicator> group, StandInStreams& streams)
      : WrappedCommunicator(std::move(group)), streams_(streams) {}

  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    return std::make_unique<SettledCommunicator>(inner().split(color, key, name), streams_);
  }

 private:
  Work collective(Start start) override { return settled(start()); }
  Work message(Start start) override { return settled(start()); }
  Work settled(Work work) { return Work(std::make_shared<Settled>(std::move(work), streams_)); }

  StandInStreams& streams_;
};

class DeviceWorld final : public TestWorld {
 public:
  explicit DeviceWorld(comm::MpiRuntime& mpi)
      : device_(mpi.rank()),
        nccl_(mpi.world(), streams_, {.device = at::kCPU, .device_index = mpi.rank(), .nccl = {}}),
        world_(nccl_.connect(mpi.world().split(0, mpi.rank(), "devices")), streams_) {}

  Communicator& ranks() override { return world_; }

  std::vector<std::string> close() override {
    world_.close();
    nccl_.finalize();
    std::vector<std::string> faults = stand_in::take_reports();
    for (const std::string& group : stand_in::communicators()) faults.push_back("left open: " + group);
    return faults;
  }

 private:
  cuda::DeviceScope device_;
  StandInStreams streams_;
  comm::NcclRuntime nccl_;
  SettledCommunicator world_;
};

}  // namespace

std::unique_ptr<TestWorld> make_world(comm::MpiRuntime& mpi) { return std::make_unique<DeviceWorld>(mpi); }

}  // namespace tmd::test
