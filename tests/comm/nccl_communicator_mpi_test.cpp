#include <cstdlib>
#include <cstring>
#include <thread>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "comm/agree.h"
#include "comm/nccl_communicator.h"
#include "comm/nccl_runtime.h"
#include "comm/self_check.h"
#include "comm/single_communicator.h"
#include "tests/support/borrowed_communicator.h"
#include "tests/support/error_of.h"
#include "tests/support/mpi_main.h"
#include "tests/support/nccl_stand_in/memory.h"
#include "tests/support/nccl_stand_in/stand_in.h"

namespace tmd::comm {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::error_of;
using test::StandInMemory;
using test::StandInStreams;
namespace stand_in = test::stand_in;

constexpr int kRemoteError = 6;  // ncclRemoteError

[[maybe_unused]] const bool takes_memory = (test::take_tensors_from_stand_in(), true);

int rank() { return test::world().rank(); }
int size() { return test::world().size(); }
NcclRuntime::Options options_of(int device_index) {
  return {.device = at::kCPU, .device_index = device_index, .nccl = {}, .patience = seconds(120)};
}

/// All ranks, each with a device of its own.
struct Devices {
  explicit Devices(NcclRuntime::Options options = options_of(rank()))
      : device(options.device_index),
        nccl(test::world(), streams, options),
        world(nccl.connect(host_ranks())) {
    memory.set_waits(size() == 1);
  }
  void close() {
    world->close();
    nccl.finalize();
  }
  /// After an abort. The hosts' communicators are in order.
  void drop() {
    world.reset();
    nccl.finalize();
    hosts.close();
  }
  std::unique_ptr<Communicator> host_ranks() { return hosts.lend(test::world().split(0, rank(), "devices")); }

  at::Tensor put(const at::Tensor& tensor) { return memory.put(tensor); }
  at::Tensor get(const at::Tensor& tensor) { return memory.get(tensor); }

  // It splits off halves: one of two or three ranks are groups of one.
  void expect_contract(Communicator& comm) {
    memory.set_waits(comm.size() <= 3);
    for (const std::string& failure : self_check(comm, memory)) ADD_FAILURE() << failure;
    memory.set_waits(size() == 1);
  }

  test::HostGroups hosts;
  cuda::DeviceScope device;
  StandInStreams streams;
  StandInMemory memory{streams};
  NcclRuntime nccl;
  std::unique_ptr<Communicator> world;
};

/// Nothing may have been reported, and nothing be left.
class NcclCommunicatorTest : public testing::Test {
 protected:
  void SetUp() override { before_ = stand_in::leaks(); }
  void TearDown() override {
    for (const std::string& report : stand_in::take_reports()) ADD_FAILURE() << report;
    EXPECT_EQ(stand_in::leaks(), before_);
    stand_in::set_delays(0, microseconds(0));
    stand_in::set_devices(8);
    stand_in::set_nccl_version(22809);
  }

  std::vector<std::string> before_;
};

TEST_F(NcclCommunicatorTest, world_and_groups_keep_the_contract) {
  Devices devices;
  devices.expect_contract(*devices.world);
  const auto pairs = devices.world->split(rank() / 2, rank(), "pairs");
  devices.expect_contract(*pairs);
  pairs->close();
  devices.close();
}

TEST_F(NcclCommunicatorTest, contract_holds_with_streams_that_come_late) {
  stand_in::set_delays(7, microseconds(300));
  Devices devices;
  devices.expect_contract(*devices.world);
  devices.close();
}

TEST_F(NcclCommunicatorTest, contract_holds_when_groups_share_nothing) {
  NcclRuntime::Options options = options_of(rank());
  options.nccl.shares_resources = false;
  Devices devices(options);
  devices.expect_contract(*devices.world);
  devices.close();
}

// The caller's stream stands still: nothing can have been done when the waits return, and what is put on the
// stream behind them sees the result.
TEST_F(NcclCommunicatorTest, neither_call_nor_wait_blocks_the_host) {
  Devices devices;
  const at::Tensor tensor = devices.put(at::full({100}, rank() + 1.0));
  stand_in::Gate gate(devices.streams.current());
  {
    const stand_in::NoHostWait no_wait;
    for (int i = 0; i < 3; ++i) {
      Work work = devices.world->all_reduce(tensor, ReduceOp::kSum);
      work.wait();
      EXPECT_EQ(work.is_done(), size() == 1);
    }
  }
  gate.open();
  float expected = 0;
  for (int i = 1; i <= size(); ++i) expected += static_cast<float>(i);
  for (int i = 1; i < 3; ++i) expected *= static_cast<float>(size());
  EXPECT_TRUE(devices.get(tensor).eq(expected).all().item<bool>());
  devices.close();
}

TEST_F(NcclCommunicatorTest, wait_lets_the_tensors_go_though_the_device_has_not_come_so_far) {
  if (size() == 1) return;
  Devices devices;
  const at::Tensor tensor = devices.put(at::ones({100}));
  stand_in::Gate gate(devices.streams.current());
  Work work = devices.world->all_reduce(tensor, ReduceOp::kSum);
  EXPECT_EQ(tensor.use_count(), 2);
  work.wait();
  EXPECT_EQ(tensor.use_count(), 1);
  gate.open();
  EXPECT_TRUE(devices.get(tensor).eq(size()).all().item<bool>());
  devices.close();
}

// Nobody orders the stream of the tensor's memory after the operation: it is kept to the end.
TEST_F(NcclCommunicatorTest, wait_of_another_stream_keeps_the_tensors) {
  if (size() == 1) return;
  Devices devices;
  const cuda::Stream other = cuda::make_stream(cuda::Priority::kNormal);
  at::Tensor tensor = devices.put(at::ones({100}));
  stand_in::Gate gate(devices.streams.current());
  Work work = devices.world->all_reduce(tensor, ReduceOp::kSum);
  devices.streams.use(other.get());
  work.wait();
  EXPECT_EQ(tensor.use_count(), 2);
  gate.open();
  EXPECT_TRUE(devices.get(tensor).eq(size()).all().item<bool>());
  devices.streams.use(devices.streams.own());
  work.wait();
  devices.close();
}

TEST_F(NcclCommunicatorTest, dropped_work_is_completed_all_the_same) {
  Devices devices;
  const at::Tensor total = devices.put(at::ones({100'000}));
  devices.world->all_reduce(total, ReduceOp::kSum);
  devices.world->all_reduce(devices.put(at::ones({3})), ReduceOp::kSum);
  devices.world->all_reduce(total, ReduceOp::kMax).wait();  // the stream of the communicator keeps the order
  EXPECT_TRUE(devices.get(total).eq(size()).all().item<bool>());
  devices.close();
}

TEST_F(NcclCommunicatorTest, operations_of_several_groups_go_on_at_once) {
  stand_in::set_delays(11, microseconds(200));
  Devices devices;
  const auto pairs = devices.world->split(rank() / 2, rank(), "pairs");
  const auto all = devices.world->split(0, -rank(), "all");
  std::vector<at::Tensor> results;
  std::vector<Work> works;
  for (int i = 0; i < 30; ++i) {
    for (Communicator* group : {devices.world.get(), pairs.get(), all.get()}) {
      results.push_back(devices.put(at::full({i * 17 + 1}, i + 1.0)));
      works.push_back(group->all_reduce(results.back(), ReduceOp::kSum));
    }
  }
  for (auto work = works.rbegin(); work != works.rend(); ++work) work->wait();
  for (int i = 0; i < 30; ++i) {
    for (int group = 0; group < 3; ++group) {
      const int ranks = group == 1 ? pairs->size() : size();
      const at::Tensor result = devices.get(results[static_cast<size_t>(3 * i + group)]);
      EXPECT_TRUE(result.eq((i + 1) * ranks).all().item<bool>()) << i << " in group " << group;
    }
  }
  all->close();
  pairs->close();
  devices.close();
}

TEST_F(NcclCommunicatorTest, split_waits_for_what_is_under_way) {
  if (size() == 1) return;
  Devices devices;
  const at::Tensor tensor = devices.put(at::ones({1000}));
  stand_in::Gate gate(devices.streams.current());
  devices.world->all_reduce(tensor, ReduceOp::kSum);
  std::thread opener([&] {
    std::this_thread::sleep_for(milliseconds(20));  // meanwhile the split has begun, or waits for this rank
    gate.open();
  });
  const auto group = devices.world->split(0, rank(), "after");
  opener.join();
  group->all_reduce(tensor, ReduceOp::kSum).wait();
  group->close();
  devices.close();
}

TEST_F(NcclCommunicatorTest, options_reach_nccl) {
  if (size() == 1) return;
  for (bool shares : {true, false}) {
    NcclRuntime::Options options = options_of(rank());
    options.nccl = {.shares_resources = shares, .min_ctas = 2, .max_ctas = 8};
    Devices devices(options);
    const auto group = devices.world->split(0, rank(), "group");
    const std::string rest = shares ? "shares resources, blocks 2 to 8" : "shares nothing, blocks 2 to 8";
    const std::vector<std::string> found = stand_in::communicators();
    EXPECT_EQ(found, (std::vector<std::string>{"devices, " + rest, "group, " + rest}));
    group->close();
    devices.close();
  }
}

TEST_F(NcclCommunicatorTest, groups_of_one_rank_call_no_library) {
  Devices devices;
  const auto alone = devices.world->split(rank(), 0, "alone");
  EXPECT_NE(dynamic_cast<SingleCommunicator*>(alone.get()), nullptr);
  EXPECT_EQ(alone->size(), 1);
  const at::Tensor output = at::zeros({3});
  alone->all_gather(at::ones({3}), output).wait();
  EXPECT_TRUE(output.eq(1).all().item<bool>());
  alone->close();
  devices.close();
}

// A world whose device is not where CPU tensors are.
TEST_F(NcclCommunicatorTest, tensors_of_the_host_go_through_the_host) {
  NcclRuntime::Options options = options_of(rank());
  options.device = at::kMeta;
  Devices devices(options);
  const at::Tensor sum = at::full({4}, rank() + 1);
  devices.world->all_reduce(sum, ReduceOp::kSum).wait();
  EXPECT_TRUE(sum.eq(size() * (size() + 1) / 2).all().item<bool>());
  EXPECT_EQ(agree_max(*devices.world, rank()), size() - 1);
  EXPECT_EQ(broadcast_string(*devices.world, rank() == 0 ? "text" : "", 0), "text");
  const at::Tensor parts = at::empty({size()}, at::kLong);
  devices.world->all_gather(at::full({1}, rank(), at::kLong), parts).wait();
  EXPECT_TRUE(parts.equal(at::arange(size())));
  devices.close();
}

TEST_F(NcclCommunicatorTest, arguments_that_do_not_fit_are_refused_at_the_call) {
  Devices devices;
  Communicator& world = *devices.world;
  const at::Tensor three = devices.put(at::zeros({3}));
  const auto refuses = [](const std::function<void()>& call) {
    EXPECT_EQ(error_of(call).kind(), ErrorKind::kInternal);
  };
  refuses([&] { world.all_gather(three, at::zeros({3 * size() + 1})); });
  refuses([&] { world.all_gather(three, at::zeros({3 * size()}, at::kDouble)); });
  refuses([&] { world.reduce_scatter(at::zeros({3 * size() + 1}), three, ReduceOp::kSum); });
  refuses([&] { world.all_reduce(at::zeros({4, 4}).t().narrow(0, 0, 3), ReduceOp::kSum); });
  refuses([&] { world.all_reduce(at::zeros({3}, at::kHalf), ReduceOp::kSum); });
  refuses([&] { world.all_reduce(at::zeros({3}, at::kByte), ReduceOp::kSum); });
  refuses([&] { world.all_reduce(at::Tensor(), ReduceOp::kSum); });
  refuses([&] { world.all_reduce(at::zeros({3}, at::kMeta), ReduceOp::kSum); });
  refuses([&] { world.broadcast(three, size()); });
  refuses([&] { world.all_to_all(three, three); });
  refuses([&] { world.send(three, -1, 0); });
  refuses([&] { world.recv(three, 0, 32768); });
  refuses([&] { world.split(-1, 0, "none"); });
  devices.close();
}

TEST_F(NcclCommunicatorTest, message_of_another_size_fails_the_wait) {
  if (size() == 1) return;
  Devices devices;
  const int next = (rank() + 1) % size(), previous = (rank() + size() - 1) % size();
  Work receipt = devices.world->recv(devices.put(at::zeros({10})), previous, 3);
  Work message = devices.world->send(devices.put(at::zeros({5})), next, 3);
  EXPECT_EQ(error_of([&] { receipt.wait(); }).kind(), ErrorKind::kInternal);
  message.wait();
  devices.close();
}

TEST_F(NcclCommunicatorTest, communicator_with_an_open_receive_is_not_closed) {
  if (size() == 1) return;
  Devices devices;
  const auto group = devices.world->split(0, rank(), "open");
  // On one rank only: all hear of it.
  const at::Tensor tensor = devices.put(at::zeros({1}));
  Work receipt = rank() == 0 ? group->recv(tensor, 1, 0) : Work();
  const Error refused = error_of([&] { group->close(); });
  EXPECT_EQ(refused.kind(), ErrorKind::kInternal);
  EXPECT_NE(std::string(refused.what()).find("under way"), std::string::npos) << refused.what();
  if (rank() == 1) group->send(devices.put(at::ones({1})), 0, 0).wait();
  receipt.wait();
  group->close();
  devices.close();
}

TEST_F(NcclCommunicatorTest, closed_communicator_takes_no_calls) {
  if (size() == 1) return;
  Devices devices;
  const auto group = devices.world->split(0, rank(), "closed");
  group->close();
  const at::Tensor tensor = at::zeros({1});
  const auto refuses = [](const std::function<void()>& call) {
    const Error refused = error_of(call);
    EXPECT_EQ(refused.kind(), ErrorKind::kInternal);
    EXPECT_NE(std::string(refused.what()).find("closed"), std::string::npos) << refused.what();
  };
  refuses([&] { group->all_reduce(tensor, ReduceOp::kSum); });
  refuses([&] { group->recv(tensor, 0, 0); });
  refuses([&] { group->barrier(); });
  refuses([&] { group->split(0, 0, "part"); });
  refuses([&] { group->close(); });
  devices.close();
}

TEST_F(NcclCommunicatorTest, operations_are_entered_in_the_journal) {
  Devices devices;
  Journal& journal = test::runtime().journal();
  const at::Tensor tensor = devices.put(at::zeros({12}));
  const uint64_t before = journal.content().entered;
  devices.world->mark("the test");
  devices.world->all_reduce(tensor, ReduceOp::kSum).wait();
  devices.get(tensor);
  EXPECT_EQ(devices.world->journal(), &journal);
  while (journal.content().entries.back().finished_s == 0) std::this_thread::sleep_for(milliseconds(1));
  const JournalContent content = journal.content();
  EXPECT_EQ(content.entered, before + 1);
  const JournalEntry& entry = content.entries.back();
  EXPECT_EQ(entry.kind, OperationKind::kAllReduce);
  EXPECT_EQ(entry.communicator, "devices");
  EXPECT_EQ(entry.phase, "the test");
  EXPECT_EQ(entry.elements, 12);
  EXPECT_GT(entry.started_s, 0);
  devices.world->broadcast(tensor, size() - 1).wait();
  EXPECT_EQ(journal.content().entries.back().peer, size() - 1);
  devices.get(tensor);
  devices.close();
}

// The host goes on, or is blocked in a call that is not ours: a watchdog must see what the device waits for.
TEST_F(NcclCommunicatorTest, late_operation_of_the_device_counts_as_what_the_host_waits_for) {
  if (size() == 1) return;
  Devices devices;
  Journal& journal = test::runtime().journal();
  const at::Tensor tensor = devices.put(at::ones({5}));
  if (rank() == 0) {
    test::world().barrier();  // the others have found it
    devices.world->all_reduce(tensor, ReduceOp::kSum).wait();
  } else {
    devices.world->all_reduce(tensor, ReduceOp::kSum).wait();
    const uint64_t entry = journal.content().entered;
    while (journal.waiting_since_s() == 0) std::this_thread::sleep_for(milliseconds(10));
    EXPECT_EQ(journal.content().awaited, entry);
    test::world().barrier();
  }
  EXPECT_TRUE(devices.get(tensor).eq(size()).all().item<bool>());
  while (journal.waiting_since_s() != 0) std::this_thread::sleep_for(milliseconds(10));
  devices.close();
}

TEST_F(NcclCommunicatorTest, mark_of_the_device_gives_way_to_that_of_the_host) {
  Journal journal;
  journal.mark_waiting(3);
  journal.mark_waiting_on_device(5);
  EXPECT_EQ(journal.content().awaited, 3u);
  journal.unmark_waiting_on_device(5);
  EXPECT_EQ(journal.content().awaited, 3u);
  journal.mark_waiting(0);
  journal.mark_waiting_on_device(5);
  EXPECT_EQ(journal.content().awaited, 5u);
  EXPECT_GT(journal.waiting_since_s(), 0);
  journal.unmark_waiting_on_device(5);
  EXPECT_EQ(journal.waiting_since_s(), 0);
}

TEST_F(NcclCommunicatorTest, loop_makes_no_streams_events_or_pinned_memory) {
  Devices devices;
  const at::Tensor tensor = devices.put(at::ones({1000}));
  const at::Tensor gathered = devices.put(at::zeros({1000 * size()}));
  const auto iterate = [&] {
    for (int i = 0; i < 10; ++i) {
      Work gather = devices.world->all_gather(tensor, gathered);
      devices.world->all_reduce(tensor, ReduceOp::kMax).wait();
      gather.wait();
    }
    Work receipt = devices.world->recv(tensor, (rank() + 1) % size(), 0);
    devices.world->send(gathered.narrow(0, 0, 1000), (rank() + size() - 1) % size(), 0).wait();
    receipt.wait();
    devices.get(tensor);
    test::world().barrier();
  };
  for (int i = 0; i < 3; ++i) iterate();
  const stand_in::Counts before = stand_in::counts();
  for (int i = 0; i < 20; ++i) iterate();
  const stand_in::Counts after = stand_in::counts();
  EXPECT_EQ(after.events, before.events);
  EXPECT_EQ(after.streams, before.streams);
  EXPECT_EQ(after.pinned, before.pinned);
  devices.close();
}

// What NCCL reports of a network or a peer.
TEST_F(NcclCommunicatorTest, lost_peer_fails_waits_and_calls_and_frees_the_stream) {
  if (size() == 1) return;
  Devices devices;
  const at::Tensor tensor = devices.put(at::ones({5}));
  Work work;
  if (rank() != 0) {
    work = devices.world->all_reduce(tensor, ReduceOp::kSum);  // rank 0 never comes
    work.wait();
    EXPECT_FALSE(work.is_done());
  }
  test::world().barrier();
  const at::Tensor kept = devices.put(at::ones({5}));
  Work other = rank() != 0 ? devices.world->all_reduce(kept, ReduceOp::kSum) : Work();
  test::world().barrier();
  stand_in::fail_communicators(kRemoteError, "the cable was pulled");
  if (rank() != 0) {
    while (!other.is_done()) std::this_thread::sleep_for(milliseconds(1));
    for (int i = 0; i < 2; ++i) {
      const Error lost = error_of([&] { other.wait(); });
      EXPECT_EQ(lost.kind(), ErrorKind::kPeerLost);
      EXPECT_NE(std::string(lost.what()).find("the cable was pulled"), std::string::npos) << lost.what();
    }
    devices.get(tensor);  // the stream does not wait any more
    EXPECT_EQ(error_of([&] { devices.world->all_reduce(tensor, ReduceOp::kSum); }).kind(),
              ErrorKind::kPeerLost);
    EXPECT_EQ(error_of([&] { devices.world->split(0, 0, "part"); }).kind(), ErrorKind::kPeerLost);
    EXPECT_EQ(error_of([&] { devices.world->close(); }).kind(), ErrorKind::kPeerLost);
    EXPECT_EQ(error_of([&] { devices.nccl.check_health(); }).kind(), ErrorKind::kPeerLost);
  } else {
    EXPECT_TRUE(devices.nccl.abort(seconds(60)));  // it had nothing under way
  }
  devices.drop();
}

TEST_F(NcclCommunicatorTest, abort_frees_what_waits_for_a_rank_that_does_not_come) {
  if (size() == 1) return;
  Devices devices;
  auto pairs = devices.world->split(rank() / 2, rank(), "pairs");
  const at::Tensor tensor = devices.put(at::ones({300'000}));
  Work work;
  if (rank() != 0) {
    work = devices.world->all_reduce(tensor, ReduceOp::kSum);
    work.wait();
  }
  test::world().barrier();
  std::thread watchdog([&] { EXPECT_TRUE(devices.nccl.abort(seconds(60))); });
  if (rank() != 0) {
    cuda::synchronize(devices.streams.current());
    watchdog.join();
    EXPECT_EQ(error_of([&] { work.wait(); }).kind(), ErrorKind::kPeerLost);
  } else {
    watchdog.join();
  }
  EXPECT_EQ(error_of([&] { devices.world->all_reduce(tensor, ReduceOp::kSum); }).kind(),
            ErrorKind::kPeerLost);
  EXPECT_TRUE(devices.nccl.abort(seconds(60)));  // once more does no harm
  pairs.reset();
  devices.drop();
}

TEST_F(NcclCommunicatorTest, call_into_nccl_that_never_ends_is_given_up) {
  if (size() == 1) return;
  NcclRuntime::Options options = options_of(rank());
  options.patience = milliseconds(300);
  Devices devices(options);
  auto host = devices.host_ranks();
  if (rank() == 0) {  // says how to connect, and does not
    const NcclId id = nccl_make_id();
    const at::Tensor bytes = at::empty({128}, at::kByte);
    std::memcpy(bytes.mutable_data_ptr(), id.data(), id.size());
    run_agreed(*host, [] {});
    host->broadcast(bytes, 0).wait();
    test::world().barrier();
    EXPECT_TRUE(devices.nccl.abort(seconds(60)));
  } else {
    const Error given_up = error_of([&] { devices.nccl.connect(std::move(host)); });
    EXPECT_EQ(given_up.kind(), ErrorKind::kPeerLost);
    EXPECT_NE(std::string(given_up.what()).find("ncclCommInitRankConfig on communicator 'devices' has been"),
              std::string::npos)
        << given_up.what();
    EXPECT_EQ(error_of([&] { devices.world->barrier(); }).kind(), ErrorKind::kPeerLost);
    test::world().barrier();
  }
  devices.drop();
}

TEST_F(NcclCommunicatorTest, two_ranks_on_one_device_are_refused_and_named) {
  if (size() == 1) return;
  StandInStreams streams;
  NcclRuntime::Options options = options_of(0);
  const auto refusal = [&] { return error_of([&] { NcclRuntime(test::world(), streams, options); }); };
  const Error refused = refusal();
  EXPECT_EQ(refused.kind(), ErrorKind::kUnavailable);
  EXPECT_NE(std::string(refused.what()).find("ranks 0, 1"), std::string::npos) << refused.what();

  stand_in::set_nccl_version(23004);
  EXPECT_EQ(refusal().kind(), ErrorKind::kUnavailable);
  stand_in::set_nccl_version(22809);
  options.allows_shared_device = true;
  EXPECT_NE(std::string(refusal().what()).find("NCCL 2.28.9 cannot"), std::string::npos) << refusal().what();

  stand_in::set_nccl_version(23004);
  Devices devices(options);
  EXPECT_STREQ(std::getenv("NCCL_MULTI_RANK_GPU_ENABLE"), "1");
  devices.close();
}

TEST_F(NcclCommunicatorTest, machine_that_does_not_suit_is_refused_with_the_reason) {
  StandInStreams streams;
  const auto refusal = [&] {
    return error_of([&] { NcclRuntime(test::world(), streams, options_of(rank())); });
  };
  stand_in::set_devices(0);
  const Error none = refusal();
  EXPECT_EQ(none.kind(), ErrorKind::kUnavailable);
  EXPECT_NE(std::string(none.what()).find("no CUDA-capable device is detected"), std::string::npos)
      << none.what();
  stand_in::set_devices(rank() + 1 < size() ? 8 : rank());  // one rank too many
  EXPECT_EQ(refusal().kind(), ErrorKind::kUnavailable);
  stand_in::set_devices(8);
  if (size() == 1) return;  // no NCCL
  stand_in::set_nccl_version(22403);
  EXPECT_NE(std::string(refusal().what()).find("NCCL 2.24.3 is loaded"), std::string::npos)
      << refusal().what();
}

TEST_F(NcclCommunicatorTest, runtime_calls_name_what_failed) {
  EXPECT_EQ(cuda::device_count().count, 8);
  const cuda::DeviceInfo info = cuda::device_info(3);
  EXPECT_EQ(info.uuid, "04000000000000000000000000000000");
  EXPECT_EQ(info.pci, "0000:03:00.0");
  const Error refused = error_of([] { cuda::set_device(8); });
  EXPECT_EQ(refused.kind(), ErrorKind::kUnavailable);
  EXPECT_STREQ(refused.what(), "cudaSetDevice failed: cudaErrorInvalidDevice: invalid device ordinal");
  EXPECT_EQ(cuda::last_error(), "");
  std::vector<std::byte> memory(8192);
  {
    const cuda::RegisteredMemory registered(memory.data(), memory.size());
    EXPECT_THROW(cuda::RegisteredMemory(memory.data(), memory.size()), Error);
    const cuda::DeviceScope scope(2);
    const cuda::Stream stream = cuda::make_stream(cuda::Priority::kHigh);
    const cuda::Event event = cuda::make_event();
    stand_in::Gate gate(stream.get());
    cuda::record(event.get(), stream.get());
    EXPECT_FALSE(cuda::has_passed(event.get()));
    EXPECT_FALSE(cuda::is_idle(stream.get()));
    EXPECT_EQ(cuda::last_error(), "");
    gate.open();
    cuda::synchronize(event.get());
    EXPECT_TRUE(cuda::has_passed(event.get()));
    cuda::synchronize(stream.get());
    EXPECT_TRUE(cuda::is_idle(stream.get()));
  }
  EXPECT_GT(cuda::memory_info().total_bytes, cuda::memory_info().free_bytes);
}

}  // namespace
}  // namespace tmd::comm
