// The contract suite over NCCL itself. Needs a device for each rank, or NCCL 2.30, which lets two ranks use
// one; built by the preset gpu and started on as many ranks as there are devices by scripts/gpu-check. One
// rank alone calls no NCCL.

#include <algorithm>
#include <chrono>
#include <cstdio>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/cuda_runtime.h"
#include "comm/agree.h"
#include "comm/nccl_runtime.h"
#include "comm/self_check.h"
#include "comm/torch_streams.h"
#include "tests/support/mpi_main.h"

namespace tmd::comm {
namespace {

int rank() { return test::world().rank(); }
int size() { return test::world().size(); }

/// All ranks, each with a device; they take turns at the devices where those are too few.
class Devices {
 public:
  explicit Devices(const NcclOptions& nccl = {})
      : device_(at::kCUDA, static_cast<c10::DeviceIndex>(index())),
        streams_(torch_streams(index())),
        nccl_(test::world(), *streams_, options(nccl)),
        world_(nccl_.connect(test::world().split(0, rank(), "devices"))),
        memory_(device_) {}

  Communicator& world() { return *world_; }
  SelfCheckMemory& memory() { return memory_; }
  at::Device device() const { return device_; }
  cuda::StreamHandle stream() { return streams_->current(); }
  void close() {
    world_->close();
    nccl_.finalize();
  }

 private:
  static int count() { return std::max(1, cuda::device_count().count); }
  static int index() {
    const int index = rank() % count();
    cuda::set_device(index);
    return index;
  }
  NcclRuntime::Options options(const NcclOptions& nccl) const {
    return {.device = device_,
            .device_index = device_.index(),
            .allows_shared_device = size() > count(),
            .nccl = nccl,
            .patience = std::chrono::seconds(120)};
  }

  at::Device device_;
  std::unique_ptr<DeviceStreams> streams_;
  NcclRuntime nccl_;
  std::unique_ptr<Communicator> world_;
  DeviceMemory memory_;
};

void expect_contract(Communicator& comm, SelfCheckMemory& memory) {
  for (const std::string& failure : self_check(comm, memory)) ADD_FAILURE() << failure;
}

TEST(NcclOnDevice, world_and_groups_keep_the_contract) {
  Devices devices;
  expect_contract(devices.world(), devices.memory());
  const auto pairs = devices.world().split(rank() / 2, rank(), "pairs");
  expect_contract(*pairs, devices.memory());
  pairs->close();
  devices.close();
}

TEST(NcclOnDevice, contract_holds_when_groups_share_nothing) {
  NcclOptions nccl;
  nccl.shares_resources = false;
  Devices devices(nccl);
  expect_contract(devices.world(), devices.memory());
  devices.close();
}

TEST(NcclOnDevice, tensors_of_the_host_go_through_the_host) {
  Devices devices;
  const at::Tensor sum = at::full({4}, rank() + 1);
  devices.world().all_reduce(sum, ReduceOp::kSum).wait();
  EXPECT_TRUE(sum.eq(size() * (size() + 1) / 2).all().item<bool>());
  EXPECT_EQ(agree_max(devices.world(), rank()), size() - 1);
  devices.close();
}

// While the device computes, operations of two groups are called again and again into the same memory.
TEST(NcclOnDevice, operations_follow_what_was_computed_before) {
  Devices devices;
  const auto pairs = devices.world().split(rank() / 2, rank(), "pairs");
  const at::TensorOptions options = at::TensorOptions(at::kFloat).device(devices.device());
  const at::Tensor value = at::zeros({1 << 20}, options), gathered = at::empty({(1 << 20) * size()}, options);
  for (int i = 1; i <= 50; ++i) {
    value.fill_(i);
    Work whole = devices.world().all_gather(value, gathered);
    whole.wait();
    value.copy_(gathered.narrow(0, 0, value.numel()));
    pairs->all_reduce(value, ReduceOp::kMax).wait();
    value.add_(1);
    const float expected = static_cast<float>(i) + 1;
    if (i % 10 == 0) {
      EXPECT_TRUE(value.eq(expected).all().item<bool>()) << "round " << i;
    }
  }
  pairs->close();
  devices.close();
}

/// Prints how fast `call` moves `bytes` to a rank; no rate is right or wrong.
void print_rate(Devices& devices, const char* name, double bytes, const std::function<void()>& call) {
  constexpr int kRepeats = 20;
  for (int i = 0; i < 3; ++i) call();
  cuda::synchronize(devices.stream());
  test::world().barrier();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kRepeats; ++i) call();
  cuda::synchronize(devices.stream());
  const double own = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double seconds = agree_slowest(test::world(), own) / kRepeats;
  if (rank() == 0) std::printf("figure %s %.3f GB/s\n", name, bytes / seconds * 1e-9);
}

TEST(NcclOnDevice, rates_are_printed) {
  Devices devices;
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t part = kBytes / 4 / size();
  const at::TensorOptions options = at::TensorOptions(at::kFloat).device(devices.device());
  const at::Tensor shard = at::ones({part}, options), whole = at::ones({part * size()}, options);
  const double from_others = static_cast<double>(part * 4 * (size() - 1));
  if (size() > 1) {
    print_rate(devices, "all_gather_64MiB", from_others,
               [&] { devices.world().all_gather(shard, whole).wait(); });
    print_rate(devices, "reduce_scatter_64MiB", from_others,
               [&] { devices.world().reduce_scatter(whole, shard, ReduceOp::kSum).wait(); });
    print_rate(devices, "all_to_all_64MiB", from_others,
               [&] { devices.world().all_to_all(whole, whole.clone()).wait(); });
  }
  EXPECT_TRUE(shard.isfinite().all().item<bool>());
  devices.close();
}

}  // namespace
}  // namespace tmd::comm
