// Each mistake that a backend over NCCL could make is made here, on purpose, in plain calls, and must be
// found by the stand-in: its silence in the other tests means something.

#include <cstring>
#include <cuda_runtime_api.h>
#include <functional>
#include <nccl.h>
#include <thread>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "comm/agree.h"
#include "tests/support/mpi_main.h"
#include "tests/support/nccl_stand_in/stand_in.h"

namespace tmd::test {
namespace {

constexpr size_t kCount = 1000;

int rank() { return world().rank(); }
int size() { return world().size(); }

ncclResult_t settle(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) {
    EXPECT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
    std::this_thread::yield();
  }
  return state;
}

cudaStream_t make_stream() {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, 0), cudaSuccess);
  return stream;
}

ncclConfig_t config_of(const char* name) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.splitShare = 1;
  config.commName = name;
  return config;
}

class NcclMisuseTest : public testing::Test {
 protected:
  void SetUp() override {
    EXPECT_EQ(stand_in::leaks(), std::vector<std::string>());
    cudaSetDevice(rank());
    ncclUniqueId id{};
    const at::Tensor bytes = at::empty({static_cast<int64_t>(sizeof(id))}, at::kByte);
    if (rank() == 0) {
      ncclGetUniqueId(&id);
      std::memcpy(bytes.mutable_data_ptr(), &id, sizeof(id));
    }
    world().broadcast(bytes, 0).wait();
    std::memcpy(&id, bytes.const_data_ptr(), sizeof(id));
    ncclConfig_t config = config_of("planted");
    EXPECT_EQ(ncclCommInitRankConfig(&comm_, size(), id, rank(), &config), ncclInProgress);
    EXPECT_EQ(settle(comm_), ncclSuccess);
    stream_ = make_stream();
    compute_ = make_stream();
    stand_in::set_caller_stream(compute_);
    cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
    buffer_ = static_cast<float*>(stand_in::allocate(kCount * sizeof(float)));
    EXPECT_EQ(cudaHostAlloc(&pinned_, kCount * sizeof(float), cudaHostAllocDefault), cudaSuccess);
    std::memset(pinned_, 0, kCount * sizeof(float));
  }

  void TearDown() override {
    if (is_broken_) {
      ncclCommAbort(comm_);
    } else if (comm_) {
      ncclCommFinalize(comm_);
      settle(comm_);
      ncclCommDestroy(comm_);
    }
    for (cudaStream_t stream : {stream_, compute_}) {
      if (!stream) continue;
      cudaStreamSynchronize(stream);
      cudaStreamDestroy(stream);
    }
    cudaEventDestroy(event_);
    stand_in::give_back(buffer_);
    cudaFreeHost(pinned_);
    EXPECT_EQ(stand_in::take_reports(), std::vector<std::string>());
    EXPECT_EQ(stand_in::leaks(), std::vector<std::string>());
  }

  void all_reduce(cudaStream_t stream) { all_reduce(comm_, buffer_, kCount, stream); }
  static void all_reduce(ncclComm_t comm, float* buffer, size_t count, cudaStream_t stream) {
    if (ncclAllReduce(buffer, buffer, count, ncclFloat32, ncclSum, comm, stream) == ncclInProgress)
      settle(comm);
  }
  void write_on(cudaStream_t stream) {
    cudaMemcpyAsync(buffer_, pinned_, kCount * sizeof(float), cudaMemcpyHostToDevice, stream);
  }
  void order(cudaStream_t first, cudaStream_t second) {
    cudaEventRecord(event_, first);
    cudaStreamWaitEvent(second, event_, 0);
  }

  /// On this rank.
  static void expect_report(const std::string& part) { expect_text(stand_in::take_reports(), part); }
  /// On any rank.
  static void expect_report_somewhere(const std::string& part) {
    const std::string own = fmt::format("{}", fmt::join(stand_in::take_reports(), "\n"));
    expect_text(comm::gather_strings(world(), own), part);
  }
  static void expect_text(const std::vector<std::string>& texts, const std::string& part) {
    const std::string all = fmt::format("{}", fmt::join(texts, "\n"));
    EXPECT_NE(all.find(part), std::string::npos) << "no '" << part << "' in: " << all;
  }
  static void expect_nothing() { EXPECT_EQ(stand_in::take_reports(), std::vector<std::string>()); }

  ncclComm_t comm_ = nullptr;
  bool is_broken_ = false;
  cudaStream_t stream_ = nullptr, compute_ = nullptr;
  cudaEvent_t event_ = nullptr;
  float* buffer_ = nullptr;
  void* pinned_ = nullptr;
};

TEST_F(NcclMisuseTest, right_use_is_not_reported) {
  write_on(compute_);
  order(compute_, stream_);
  all_reduce(stream_);
  order(stream_, compute_);
  write_on(compute_);
  cudaStreamSynchronize(compute_);
  stand_in::host_writes(buffer_, kCount * sizeof(float));
  expect_nothing();
}

TEST_F(NcclMisuseTest, wrong_stream) {
  all_reduce(nullptr);
  expect_report("on the default stream");
  all_reduce(compute_);
  expect_report("on a stream of the caller");
  cudaSetDevice(rank() + 1);
  cudaStream_t elsewhere = make_stream();
  all_reduce(elsewhere);
  expect_report("on a stream of another device");
  cudaStreamDestroy(elsewhere);
  all_reduce(elsewhere);
  expect_report("on a stream that is gone");
  cudaSetDevice(rank());
}

TEST_F(NcclMisuseTest, operation_does_not_wait_for_what_fills_its_input) {
  write_on(compute_);
  all_reduce(stream_);
  expect_report("missing wait: ncclAllReduce of 'planted' reads memory that a copy to the device writes");
}

TEST_F(NcclMisuseTest, caller_does_not_wait_for_the_result) {
  all_reduce(stream_);
  cudaMemcpyAsync(pinned_, buffer_, kCount * sizeof(float), cudaMemcpyDeviceToHost, compute_);
  expect_report("missing wait: a copy to the host reads memory that ncclAllReduce of 'planted' writes");
}

// Also when the operation happens to be over.
TEST_F(NcclMisuseTest, host_does_not_wait_for_the_result) {
  all_reduce(stream_);
  std::thread([&] { cudaStreamSynchronize(stream_); }).join();
  stand_in::host_reads(buffer_, kCount * sizeof(float));
  expect_report("missing wait: the host reads memory");
  cudaStreamSynchronize(stream_);
  stand_in::host_reads(buffer_, kCount * sizeof(float));
  expect_nothing();
}

TEST_F(NcclMisuseTest, event_is_recorded_before_the_operation_that_it_stands_for) {
  cudaEventRecord(event_, stream_);
  all_reduce(stream_);
  cudaStreamWaitEvent(compute_, event_, 0);
  write_on(compute_);
  expect_report("missing wait: a copy to the device writes memory that ncclAllReduce of 'planted' ");
}

TEST_F(NcclMisuseTest, event_is_recorded_while_the_launch_is_in_progress) {
  EXPECT_EQ(ncclAllReduce(buffer_, buffer_, kCount, ncclFloat32, ncclSum, comm_, stream_), ncclInProgress);
  cudaEventRecord(event_, stream_);
  expect_report("cudaEventRecord on a stream where NCCL is still launching");
  settle(comm_);
}

TEST_F(NcclMisuseTest, buffer_is_used_again_too_early) {
  all_reduce(stream_);
  write_on(compute_);
  expect_report("missing wait: a copy to the device writes memory that ncclAllReduce of 'planted' ");
}

TEST_F(NcclMisuseTest, buffer_is_given_back_too_early) {
  all_reduce(stream_);
  stand_in::give_back(buffer_);
  buffer_ = nullptr;
  expect_report("memory is given back while ncclAllReduce of 'planted' may still use it");
}

TEST_F(NcclMisuseTest, buffer_is_given_back_in_order) {
  stand_in::Gate gate(stream_);
  all_reduce(stream_);
  order(stream_, compute_);
  stand_in::give_back(buffer_);  // the gate is shut: it is used after that
  buffer_ = nullptr;
  gate.open();
  expect_nothing();
}

TEST_F(NcclMisuseTest, ranks_call_in_another_order) {
  if (size() == 1) return;
  const auto broadcast = [&] {
    if (ncclBroadcast(buffer_, buffer_, kCount, ncclFloat32, 0, comm_, stream_) == ncclInProgress)
      settle(comm_);
  };
  if (rank() == 0) {
    all_reduce(stream_);
    broadcast();
  } else {
    broadcast();
    all_reduce(stream_);
  }
  cudaStreamSynchronize(stream_);
  world().barrier();
  is_broken_ = true;
  expect_report_somewhere("ranks of communicator 'planted' differ");
}

TEST_F(NcclMisuseTest, ranks_differ_in_the_count) {
  if (size() == 1) return;
  all_reduce(comm_, buffer_, rank() == 0 ? kCount : kCount / 2, stream_);
  cudaStreamSynchronize(stream_);
  world().barrier();
  is_broken_ = true;
  expect_report_somewhere("all_reduce number 1 of 500 elements");
}

TEST_F(NcclMisuseTest, ranks_differ_in_the_type) {
  if (size() == 1) return;
  ncclAllReduce(buffer_, buffer_, kCount / 2, rank() == 0 ? ncclFloat32 : ncclFloat64, ncclSum, comm_,
                stream_);
  settle(comm_);
  cudaStreamSynchronize(stream_);
  world().barrier();
  is_broken_ = true;
  expect_report_somewhere("ranks of communicator 'planted' differ");
}

TEST_F(NcclMisuseTest, ranks_launch_on_two_communicators_in_another_order) {
  if (size() == 1) return;
  ncclConfig_t config = config_of("second");
  ncclComm_t second = nullptr;
  ncclCommSplit(comm_, 0, rank(), &second, &config);
  settle(comm_);
  settle(second);
  cudaStream_t other_stream = make_stream();
  auto* other_buffer = static_cast<float*>(stand_in::allocate(kCount * sizeof(float)));
  if (rank() == 0) {
    all_reduce(stream_);
    all_reduce(second, other_buffer, kCount, other_stream);
  } else {
    all_reduce(second, other_buffer, kCount, other_stream);
    all_reduce(stream_);
  }
  const auto has_error = [](ncclComm_t comm) {
    ncclResult_t state = ncclSuccess;
    ncclCommGetAsyncError(comm, &state);
    return state != ncclSuccess;
  };
  while (!has_error(comm_) && !has_error(second)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  world().barrier();
  is_broken_ = true;
  ncclCommAbort(second);
  ncclCommAbort(comm_);
  is_broken_ = false;
  comm_ = nullptr;
  cudaStreamSynchronize(stream_);
  cudaStreamSynchronize(other_stream);
  cudaStreamDestroy(other_stream);
  stand_in::give_back(other_buffer);
  expect_report_somewhere("their orders differ");
}

TEST_F(NcclMisuseTest, next_call_while_one_is_in_progress) {
  ncclAllReduce(buffer_, buffer_, kCount, ncclFloat32, ncclSum, comm_, stream_);
  EXPECT_EQ(ncclAllReduce(buffer_, buffer_, kCount, ncclFloat32, ncclSum, comm_, stream_),
            ncclInvalidArgument);
  expect_report("ncclAllReduce on communicator 'planted' while an earlier call is in progress");
  settle(comm_);
}

TEST_F(NcclMisuseTest, call_after_the_end) {
  ncclCommFinalize(comm_);
  settle(comm_);
  all_reduce(stream_);
  expect_report("after ncclCommFinalize");
  ncclCommDestroy(comm_);
  all_reduce(std::exchange(comm_, nullptr), buffer_, kCount, stream_);
  expect_report("ncclAllReduce on a communicator that was destroyed or aborted");
}

TEST_F(NcclMisuseTest, call_after_abort) {
  ncclCommAbort(comm_);
  all_reduce(comm_, buffer_, kCount, stream_);
  expect_report("ncclAllReduce on a communicator that was destroyed or aborted");
  EXPECT_EQ(ncclCommAbort(std::exchange(comm_, nullptr)), ncclInvalidArgument);
  expect_report("ncclCommAbort on a communicator that was destroyed or aborted");
}

TEST_F(NcclMisuseTest, communicator_is_destroyed_before_it_is_finalized) {
  ncclCommDestroy(std::exchange(comm_, nullptr));
  expect_report("before ncclCommFinalize");
}

TEST_F(NcclMisuseTest, communicator_that_blocks) {
  ncclUniqueId id{};
  ncclGetUniqueId(&id);
  ncclConfig_t config = config_of("blocking");
  config.blocking = 1;
  ncclComm_t comm = nullptr;
  ncclCommInitRankConfig(&comm, 1, id, 0, &config);
  settle(comm);
  ncclCommAbort(comm);
  expect_report("made without blocking = 0");
}

TEST_F(NcclMisuseTest, split_while_an_operation_is_under_way) {
  stand_in::Gate gate(stream_);
  all_reduce(stream_);
  ncclConfig_t config = config_of("child");
  ncclComm_t child = nullptr;
  ncclCommSplit(comm_, 0, rank(), &child, &config);
  settle(comm_);
  settle(child);
  expect_report("ncclCommSplit of 'planted' while operations are under way");
  gate.open();
  ncclCommFinalize(child);
  settle(child);
  ncclCommDestroy(child);
}

TEST_F(NcclMisuseTest, stream_is_destroyed_before_its_communicator) {
  all_reduce(stream_);
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(std::exchange(stream_, nullptr));
  expect_report("a stream is destroyed before the communicator that used it");
}

TEST_F(NcclMisuseTest, host_waits_where_it_may_not) {
  const stand_in::NoHostWait no_wait;
  cudaStreamSynchronize(stream_);
  expect_report("cudaStreamSynchronize: the host waits where it may not");
  cudaEventRecord(event_, stream_);
  cudaEventSynchronize(event_);
  expect_report("cudaEventSynchronize: the host waits where it may not");
}

TEST_F(NcclMisuseTest, copy_through_memory_that_is_not_pinned) {
  std::vector<float> pageable(kCount);
  cudaMemcpyAsync(buffer_, pageable.data(), kCount * sizeof(float), cudaMemcpyHostToDevice, compute_);
  expect_report("the memory of the host is not pinned");
  cudaStreamSynchronize(compute_);
}

TEST_F(NcclMisuseTest, wait_for_an_event_that_was_never_recorded) {
  cudaStreamWaitEvent(compute_, event_, 0);
  expect_report("the event was never recorded");
}

TEST_F(NcclMisuseTest, stream_that_waits_for_the_default_stream) {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithPriority(&stream, 0, 0);
  expect_report("waits for the default stream");
  cudaStreamDestroy(stream);
  cudaStreamQuery(stream);
  expect_report("cudaStreamQuery on a handle that is gone");
}

TEST_F(NcclMisuseTest, what_is_left_over) {
  std::vector<float> registered(4096);
  cudaHostRegister(registered.data(), registered.size() * sizeof(float), cudaHostRegisterDefault);
  const std::vector<std::string> left = stand_in::leaks();
  for (const char* what : {"communicator 'planted'", "2 streams", "1 events", "1 blocks of pinned memory",
                           "1 registered blocks of memory"})
    expect_text(left, what);
  cudaHostUnregister(registered.data());
}

}  // namespace
}  // namespace tmd::test
