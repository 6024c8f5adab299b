#include <ctime>
#include <thread>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "comm/agree.h"
#include "tests/support/mpi_main.h"

namespace tmd::comm {
namespace {

Communicator& world() { return test::world(); }

std::optional<ErrorKind> kind_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.kind();
  }
  return std::nullopt;
}

double cpu_s() {
  std::timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

TEST(MpiCommunicator, sum_is_taken_in_rank_order_whatever_the_size) {
  // Small and large tensors take different ways, which must agree: 300000 numbers are more than one chunk per
  // rank.
  for (int64_t elements : {int64_t{100}, int64_t{300'001}, int64_t{1'500'000}}) {
    const auto part = [&](int rank) {
      return (at::arange(elements) * (0.1 + rank)).sin().to(at::kFloat) * 1e3;
    };
    at::Tensor expected = part(0);
    for (int rank = 1; rank < world().size(); ++rank) expected = expected + part(rank);
    const at::Tensor all = part(world().rank());
    world().all_reduce(all, ReduceOp::kSum).wait();
    EXPECT_TRUE(all.equal(expected)) << elements;
  }
}

TEST(MpiCommunicator, silent_peer_holds_up_nothing_else) {
  if (world().size() == 1) return;
  const int peer = (world().rank() + 1) % world().size();
  const std::unique_ptr<Communicator> data = world().split(0, world().rank(), "data");
  const at::Tensor large = at::zeros({500'000});
  Work pending = data->recv(large, peer, 1);
  Work also_pending = world().recv(at::zeros({3}), peer, 2);

  for (int i = 0; i < 50; ++i) EXPECT_EQ(agree_max(world(), i), i);
  const at::Tensor all = at::ones({200'000});
  world().all_reduce(all, ReduceOp::kSum).wait();

  EXPECT_TRUE(all.eq(world().size()).all().item<bool>());
  EXPECT_FALSE(pending.is_done());
  world().barrier();
  data->send(at::ones({500'000}), (peer + world().size() - 2) % world().size(), 1);
  world().send(at::ones({3}), (peer + world().size() - 2) % world().size(), 2);
  pending.wait();
  also_pending.wait();
  EXPECT_TRUE(large.eq(1).all().item<bool>());
  world().barrier();
  data->close();
}

TEST(MpiCommunicator, open_receive_takes_little_processor_time) {
  if (world().size() == 1) return;
  const int peer = (world().rank() + 1) % world().size();
  Work pending = world().recv(at::zeros({3}), peer, 1);
  world().barrier();
  const double before_s = cpu_s();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const double used_s = cpu_s() - before_s;
  world().barrier();
  world().send(at::zeros({3}), (world().rank() + world().size() - 1) % world().size(), 1).wait();
  pending.wait();
  EXPECT_LT(used_s, 0.15);
}

TEST(MpiCommunicator, two_threads_use_two_communicators_at_once) {
  const std::unique_ptr<Communicator> other = world().split(0, world().rank(), "other");
  const auto work = [](Communicator& comm, int64_t elements) {
    for (int i = 0; i < 100; ++i) {
      const at::Tensor all = at::full({elements}, i + comm.rank(), at::kDouble);
      comm.all_reduce(all, ReduceOp::kMax).wait();
      if (!all.eq(i + comm.size() - 1).all().item<bool>()) return false;
    }
    return true;
  };
  bool is_right_there = false;
  std::thread thread([&] { is_right_there = work(*other, 9000); });
  const bool is_right_here = work(world(), 10);
  thread.join();
  EXPECT_TRUE(is_right_here && is_right_there);
  other->close();
}

TEST(MpiCommunicator, arguments_that_do_not_fit_are_refused_at_the_call) {
  const int size = world().size();
  const at::Tensor three = at::zeros({3});
  const auto refuses = [](const std::function<void()>& call) {
    EXPECT_EQ(kind_of(call), ErrorKind::kInternal);
  };
  refuses([&] { world().all_gather(three, at::zeros({3 * size + 1})); });
  refuses([&] { world().all_gather(three, at::zeros({3 * size}, at::kDouble)); });
  refuses([&] { world().reduce_scatter(at::zeros({3 * size + 1}), three, ReduceOp::kSum); });
  refuses([&] { world().all_reduce(at::zeros({4, 4}).t().narrow(0, 0, 3), ReduceOp::kSum); });
  refuses([&] { world().all_reduce(at::zeros({3}, at::kHalf), ReduceOp::kSum); });
  refuses([&] { world().all_reduce(at::Tensor(), ReduceOp::kSum); });
  refuses([&] { world().broadcast(three, size); });
  refuses([&] { world().all_to_all(three, three); });
  refuses([&] { world().send(three, -1, 0); });
  refuses([&] { world().recv(three, 0, 32768); });
  refuses([&] { world().split(-1, 0, "none"); });
  EXPECT_EQ(agree_max(world(), world().rank()), size - 1);  // nothing was started
}

// Small messages travel at once, large ones when both sides are there. (A large message that is longer than
// its receive is no case: Open MPI 4.1 writes beyond the buffer.)
TEST(MpiCommunicator, message_of_another_size_fails_the_wait) {
  if (world().size() == 1) return;
  const int next = (world().rank() + 1) % world().size();
  const int previous = (world().rank() + world().size() - 1) % world().size();
  const std::vector<std::pair<int64_t, int64_t>> sent_and_expected{{15, 10}, {5, 10}, {500'000, 1'000'000}};
  for (const auto& [sent, expected] : sent_and_expected) {
    Work receipt = world().recv(at::zeros({expected}), previous, 3);
    Work message = world().send(at::zeros({sent}), next, 3);
    EXPECT_EQ(kind_of([&] { receipt.wait(); }), ErrorKind::kInternal) << sent << " for " << expected;
    EXPECT_TRUE(receipt.is_done());
    EXPECT_FALSE(kind_of([&] { message.wait(); }));
  }
  world().barrier();
}

TEST(MpiCommunicator, communicator_with_an_open_receive_is_not_closed) {
  if (world().size() == 1) return;
  const std::unique_ptr<Communicator> group = world().split(0, world().rank(), "open");
  const int next = (world().rank() + 1) % world().size();
  const int previous = (world().rank() + world().size() - 1) % world().size();
  Work receipt = group->recv(at::zeros({1}), previous, 0);
  EXPECT_EQ(kind_of([&] { group->close(); }), ErrorKind::kInternal);
  world().barrier();
  group->send(at::zeros({1}), next, 0).wait();
  receipt.wait();
  group->close();
}

TEST(MpiCommunicator, operations_are_entered_in_the_journal) {
  const uint64_t before = test::runtime().journal().content().entered;
  test::runtime().journal().set_phase("the test");
  world().all_reduce(at::zeros({12}), ReduceOp::kSum).wait();
  const JournalContent content = test::runtime().journal().content();
  EXPECT_EQ(content.entered, before + 1);
  const JournalEntry& entry = content.entries.back();
  EXPECT_EQ(entry.kind, OperationKind::kAllReduce);
  EXPECT_EQ(entry.communicator, "world");
  EXPECT_EQ(entry.phase, "the test");
  EXPECT_EQ(entry.elements, 12);
  EXPECT_GT(entry.finished_s, 0);
}

TEST(MpiCommunicator, dropped_work_is_completed_all_the_same) {
  const at::Tensor total = at::ones({100'000});
  world().all_reduce(total, ReduceOp::kSum);
  world().all_reduce(at::ones({3}), ReduceOp::kSum);
  world().barrier();
  while (!total.eq(world().size()).all().item<bool>())
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace
}  // namespace tmd::comm
