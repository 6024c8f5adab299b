#include <csignal>
#include <filesystem>
#include <thread>
#include <unistd.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include "comm/agree.h"
#include "comm/algorithm.h"
#include "comm/journal.h"
#include "tests/support/mpi_main.h"

namespace tmd::comm {
namespace {
namespace fs = std::filesystem;

Communicator& world() { return test::world(); }

bool is_stopped(int64_t process) {
  std::string state;
  std::FILE* file = std::fopen(fmt::format("/proc/{}/stat", process).c_str(), "r");
  if (!file) return false;
  char letter = 0;
  if (std::fscanf(file, "%*d %*s %c", &letter) != 1) letter = 0;
  std::fclose(file);
  return letter == 'T';
}

// The last rank stops in the middle of a large all_reduce. The others go on among themselves, its journal
// says where it is, and when it goes on the result is right.
void stop_in_the_middle(Communicator& comm, Communicator& others) {
  const int last = comm.size() - 1;
  const std::vector<std::string> processes = gather_strings(comm, std::to_string(::getpid()));
  const int64_t process = std::stoll(processes[static_cast<size_t>(last)]);
  const at::Tensor numbers = at::full({4'000'000}, 1.0f);
  comm.barrier();
  // The rank that stops works so slowly that it cannot be through before.
  if (comm.rank() == last) test::runtime().delay_work(std::chrono::milliseconds(20));
  Work work = comm.all_reduce(numbers, ReduceOp::kSum);
  if (comm.rank() == last) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ::raise(SIGSTOP);
    test::runtime().delay_work(std::chrono::microseconds(0));
  } else {
    while (!is_stopped(process)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    for (int i = 0; i < 20; ++i) EXPECT_EQ(agree_max(others, i), i);
    const at::Tensor among_others = at::ones({300'000});
    others.all_reduce(among_others, ReduceOp::kSum).wait();
    EXPECT_TRUE(among_others.eq(others.size()).all().item<bool>());
    EXPECT_FALSE(work.is_done());

    const fs::path file = fs::temp_directory_path() / fmt::format("tmd_stopped_{}", process);
    const JournalContent journal = read_journal(file);
    EXPECT_EQ(journal.rank, last);
    const JournalEntry& entry = journal.entries.back();
    EXPECT_EQ(entry.kind, OperationKind::kAllReduce);
    EXPECT_EQ(entry.communicator, comm.name());
    EXPECT_GT(entry.started_s, 0);
    EXPECT_EQ(entry.finished_s, 0);
    others.barrier();
    if (comm.rank() == 0) ::kill(static_cast<pid_t>(process), SIGCONT);
  }
  work.wait();
  EXPECT_TRUE(numbers.eq(comm.size()).all().item<bool>());
}

TEST(StoppedPeer, leaves_its_journal_and_the_other_ranks_alive) {
  if (world().size() == 1) return;
  const fs::path file = fs::temp_directory_path() / fmt::format("tmd_stopped_{}", ::getpid());
  test::runtime().journal().move_to_file(file, world().rank());
  const auto others = world().split(world().rank() == world().size() - 1 ? 1 : 0, world().rank(), "others");
  for (Algorithm algorithm : {Algorithm::kMessages, Algorithm::kWindow}) {
    const auto comm = with_algorithm(world(), algorithm, name(algorithm));
    stop_in_the_middle(*comm, *others);
    comm->close();
  }
  others->close();
  fs::remove(file);
}

}  // namespace
}  // namespace tmd::comm
