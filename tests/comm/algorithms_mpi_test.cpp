#include <functional>
#include <optional>
#include <sys/resource.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include "comm/agree.h"
#include "comm/algorithm.h"
#include "comm/bulk_copy.h"
#include "comm/node_window.h"
#include "comm/self_check.h"
#include "tests/support/mpi_main.h"

namespace tmd::comm {
namespace {

Communicator& world() { return test::world(); }

/// Communicators of the world, each forced to one of the algorithms. Close it.
struct Forced {
  std::unique_ptr<Communicator> messages = with_algorithm(world(), Algorithm::kMessages, "messages");
  std::unique_ptr<Communicator> window = with_algorithm(world(), Algorithm::kWindow, "window");

  std::vector<Communicator*> all() const {
    std::vector<Communicator*> list{messages.get()};
    if (window) list.push_back(window.get());
    return list;
  }
  void close() {
    for (Communicator* comm : all()) comm->close();
  }
};

// Numbers whose sum depends on the order of the summands.
at::Tensor uneven(int rank, int64_t elements, int salt = 0) {
  const at::Tensor steps = at::arange(elements, at::kFloat).add_(1 + salt);
  return (steps * (0.37f + static_cast<float>(rank))).sin_().mul_(1000.0f / static_cast<float>(rank + 3));
}

// What every collective makes of `elements` numbers for each rank.
std::vector<at::Tensor> results_of(Communicator& comm, int64_t elements, int salt = 0) {
  const int rank = comm.rank(), size = comm.size();
  const at::Tensor part = uneven(rank, elements, salt), whole = uneven(rank, elements * size, salt);
  std::vector<at::Tensor> results;
  std::vector<Work> works;
  results.push_back(at::full({elements * size}, -1.0f));
  works.push_back(comm.all_gather(part, results.back()));
  results.push_back(at::full({elements * size}, -1.0f));
  results.back().narrow(0, rank * elements, elements).copy_(part);
  works.push_back(comm.all_gather(results.back().narrow(0, rank * elements, elements), results.back()));
  results.push_back(at::full({elements}, -1.0f));
  works.push_back(comm.reduce_scatter(whole, results.back(), ReduceOp::kSum));
  results.push_back(uneven(rank, elements, salt));
  works.push_back(comm.all_reduce(results.back(), ReduceOp::kSum));
  results.push_back(at::full({elements * size}, -1.0f));
  works.push_back(comm.all_to_all(whole, results.back()));
  for (int root = 0; root < size; ++root) {
    results.push_back(uneven(rank, elements, salt));
    works.push_back(comm.broadcast(results.back(), root));
  }
  for (Work& work : works) work.wait();
  return results;
}

// The same, from the definition. Reductions in rank order.
std::vector<at::Tensor> expected_of(int rank, int size, int64_t elements, int salt = 0) {
  std::vector<at::Tensor> parts, wholes, chunks;
  for (int from = 0; from < size; ++from) {
    parts.push_back(uneven(from, elements, salt));
    wholes.push_back(uneven(from, elements * size, salt));
    chunks.push_back(wholes.back().narrow(0, rank * elements, elements));
  }
  at::Tensor sum = parts[0], whole_sum = wholes[0];
  for (size_t from = 1; from < parts.size(); ++from) {
    sum = sum + parts[from];
    whole_sum = whole_sum + wholes[from];
  }
  std::vector<at::Tensor> expected{at::cat(parts), at::cat(parts),
                                   whole_sum.narrow(0, rank * elements, elements), sum, at::cat(chunks)};
  for (int root = 0; root < size; ++root) expected.push_back(parts[static_cast<size_t>(root)]);
  return expected;
}

void expect_equal(const std::vector<at::Tensor>& actual, const std::vector<at::Tensor>& expected,
                  const std::string& what) {
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(actual[i].equal(expected[i])) << what << ", result " << i;
}

TEST(Algorithms, ranks_of_one_machine_can_use_the_window) {
  Forced forced;
  EXPECT_EQ(forced.window != nullptr, world().size() > 1);
  forced.close();
}

TEST(Algorithms, each_keeps_the_contract) {
  Forced forced;
  const auto library = with_algorithm(world(), Algorithm::kLibrary, "library");
  std::vector<Communicator*> comms = forced.all();
  if (library) comms.push_back(library.get());
  for (Communicator* comm : comms) {
    for (const std::string& failure : self_check(*comm)) ADD_FAILURE() << failure;
  }
  if (library) library->close();
  forced.close();
}

TEST(Algorithms, results_are_right_around_every_border_between_chunks) {
  Forced forced;
  const auto slot = static_cast<int64_t>(NodeWindow::kSlotBytes / sizeof(float));
  const int others = std::max(1, world().size() - 1);
  const int64_t piece = slot / others / 16 * 16;
  const auto slots = static_cast<int64_t>(NodeWindow::kSlots);
  std::vector<int64_t> sizes{0, 1, 2, 15, 16, 17, 2 * slot + 5, (slots + 1) * slot + 3};
  for (int64_t border : {slot, piece, slots * slot, slots * piece, piece * world().size(),
                         static_cast<int64_t>(kSmallReduceBytes / sizeof(float))}) {
    for (int64_t elements : {border - 1, border, border + 1}) sizes.push_back(elements);
  }
  for (int64_t elements : sizes) {
    const auto expected = expected_of(world().rank(), world().size(), elements);
    for (Communicator* comm : forced.all())
      expect_equal(results_of(*comm, elements), expected, fmt::format("{}, {}", comm->name(), elements));
  }
  forced.close();
}

// Results of at least kBulkBytes are written in another way, from addresses that begin no cache line as well.
TEST(Algorithms, largest_results_are_right_wherever_they_begin) {
  Forced forced;
  const int size = world().size(), rank = world().rank();
  const int64_t share = static_cast<int64_t>(kBulkBytes) / 4 / size + 3;
  const at::Tensor room = at::empty({share * size + 1}, at::kInt);
  const at::Tensor odd = room.narrow(0, 1, share * size);
  const at::Tensor expected = at::arange(share * size, at::kInt);
  for (Communicator* comm : forced.all()) {
    room.zero_();
    comm->all_gather(expected.narrow(0, rank * share, share), odd).wait();
    EXPECT_TRUE(odd.equal(expected)) << comm->name();
    if (rank != size - 1) odd.zero_();
    comm->broadcast(odd, size - 1).wait();
    EXPECT_TRUE(odd.equal(expected)) << comm->name();
    EXPECT_EQ(room[0].item<int>(), 0);
  }
  forced.close();
}

TEST(Algorithms, many_operations_on_several_communicators_are_under_way_at_once) {
  constexpr int kRounds = 12;
  Forced first, second;
  std::vector<Communicator*> comms = first.all();
  for (Communicator* comm : second.all()) comms.push_back(comm);
  std::vector<Work> works;
  std::vector<std::pair<at::Tensor, at::Tensor>> results;  // and what is expected
  for (int round = 0; round < kRounds; ++round) {
    for (Communicator* comm : comms) {
      const int64_t elements = 1 + round * 30'011 % 200'000;
      at::Tensor sum = uneven(0, elements, round);
      std::vector<at::Tensor> parts{sum};
      for (int rank = 1; rank < comm->size(); ++rank) {
        parts.push_back(uneven(rank, elements, round));
        sum = sum + parts.back();
      }
      const at::Tensor own = parts[static_cast<size_t>(comm->rank())];
      results.emplace_back(own.clone(), sum);
      works.push_back(comm->all_reduce(results.back().first, ReduceOp::kSum));
      results.emplace_back(at::zeros({elements * comm->size()}), at::cat(parts));
      works.push_back(comm->all_gather(own, results.back().first));
    }
  }
  // Ranks wait in different orders.
  for (size_t i = 0; i < works.size(); ++i) works[world().rank() % 2 == 0 ? i : works.size() - 1 - i].wait();
  for (size_t i = 0; i < results.size(); ++i) EXPECT_TRUE(results[i].first.equal(results[i].second)) << i;
  first.close();
  second.close();
}

TEST(Algorithms, window_serves_operations_in_the_order_of_the_calls) {
  Forced forced;
  if (Communicator* comm = forced.window.get()) {
    std::vector<Work> works;
    for (int i = 0; i < 20; ++i) {
      const int64_t elements = i % 3 == 0 ? 400'000 : 10;
      works.push_back(comm->all_reduce(at::ones({elements}), ReduceOp::kSum));
    }
    for (size_t i = works.size(); i-- > 0;) {
      works[i].wait();
      for (size_t earlier = 0; earlier < i; ++earlier) EXPECT_TRUE(works[earlier].is_done());
    }
  }
  forced.close();
}

// Whatever the progress threads come upon first, the bits are the same.
TEST(Algorithms, delays_of_the_progress_thread_change_no_bit) {
  constexpr int64_t kElements = 200'003;
  Forced forced;
  for (Communicator* comm : forced.all()) {
    const auto undisturbed = results_of(*comm, kElements);
    for (int repeat = 0; repeat < 3; ++repeat) {
      test::runtime().delay_work(std::chrono::microseconds(500));
      const auto delayed = results_of(*comm, kElements);
      test::runtime().delay_work(std::chrono::microseconds(0));
      expect_equal(delayed, undisturbed, comm->name());
    }
  }
  forced.close();
}

TEST(Algorithms, ranks_that_cannot_share_memory_use_messages) {
  // One rank may open no more files, so that it cannot make its memory.
  const bool is_limited = world().rank() == world().size() - 1;
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  if (is_limited) ::setrlimit(RLIMIT_NOFILE, &none);
  const auto impossible = with_algorithm(world(), Algorithm::kWindow, "window");
  const auto group = world().split(0, world().rank(), "group");
  const auto results = results_of(*group, 100'000);
  if (is_limited) ::setrlimit(RLIMIT_NOFILE, &before);

  EXPECT_EQ(impossible, nullptr);
  expect_equal(results, expected_of(world().rank(), world().size(), 100'000), "without common memory");
  expect_equal(results_of(*group, 70'000), expected_of(world().rank(), world().size(), 70'000),
               "with memory that is free too late");
  group->close();
}

}  // namespace
}  // namespace tmd::comm
