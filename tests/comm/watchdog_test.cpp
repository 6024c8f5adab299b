#include "comm/watchdog.h"

#include <filesystem>
#include <future>
#include <unistd.h>

#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

namespace tmd::comm {
namespace {

namespace fs = std::filesystem;

JournalEntry entry(uint64_t sequence, OperationKind kind, const std::string& communicator) {
  JournalEntry entry;
  entry.sequence = sequence;
  entry.kind = kind;
  entry.communicator = communicator;
  entry.elements = 10;
  return entry;
}

Standing idle(int rank, const std::string& phase) {
  Standing one;
  one.rank = rank;
  one.has_journal = true;
  one.journal.phase = phase;
  one.journal.entries.push_back(entry(6, OperationKind::kAllGather, "copy"));
  return one;
}

Standing waiting(int rank, OperationKind kind, const std::string& communicator) {
  Standing one = idle(rank, "critic: fake blocks.3");
  one.awaited = entry(7, kind, communicator);
  return one;
}

const auto kGather = OperationKind::kAllGather;

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / fmt::format("tmd_watchdog_{}", ::getpid())) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

TEST(Judge, rank_that_waits_for_nothing_is_late) {
  const Verdict verdict = judge({waiting(0, kGather, "copy"), idle(1, "data"), waiting(2, kGather, "copy")});
  EXPECT_EQ(verdict.late, std::vector<int>{1});
  EXPECT_NE(verdict.text.find("rank 1 waits for nothing in phase 'data'"), std::string::npos) << verdict.text;
  EXPECT_NE(verdict.text.find("ranks 0, 2 wait"), std::string::npos) << verdict.text;
  EXPECT_NE(verdict.text.find("critic: fake blocks.3"), std::string::npos) << verdict.text;
}

TEST(Judge, stopped_and_gone_ranks_come_before_those_that_compute) {
  Standing stopped = waiting(2, kGather, "copy"), gone = idle(3, "optimizer");
  stopped.is_stopped = gone.is_gone = true;
  const Verdict verdict = judge({waiting(0, kGather, "copy"), idle(1, "data"), stopped, gone});
  EXPECT_EQ(verdict.late, (std::vector<int>{2, 3}));
  EXPECT_NE(verdict.text.find("rank 2 is stopped"), std::string::npos) << verdict.text;
  EXPECT_NE(verdict.text.find("rank 3 is gone in phase 'optimizer'; its last operation was all_gather"),
            std::string::npos)
      << verdict.text;
}

TEST(Judge, rank_at_another_collective_than_most_is_late) {
  const Verdict verdict = judge({waiting(0, kGather, "copy"), waiting(1, OperationKind::kBarrier, "world"),
                                 waiting(2, kGather, "copy"), waiting(3, kGather, "copy")});
  EXPECT_EQ(verdict.late, std::vector<int>{1});
  EXPECT_TRUE(verdict.text.starts_with("rank 1 waits in barrier on 'world'")) << verdict.text;
}

TEST(Judge, two_ranks_at_two_collectives_blame_nobody_and_show_both) {
  const Verdict verdict = judge({waiting(0, kGather, "copy"), waiting(1, OperationKind::kBarrier, "world")});
  EXPECT_TRUE(verdict.late.empty());
  EXPECT_NE(verdict.text.find("rank 0 waits in all_gather"), std::string::npos) << verdict.text;
  EXPECT_NE(verdict.text.find("rank 1 waits in barrier"), std::string::npos) << verdict.text;
}

TEST(Standings, missing_and_broken_journals_are_no_errors) {
  const Folder folder;
  Journal journal;
  journal.move_to_file(journal_file(folder.path(), 0), 0);
  journal.set_phase("here");
  const std::vector<Standing> all = standings(folder.path(), 2);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(all[0].has_journal);
  EXPECT_FALSE(all[0].is_gone);
  EXPECT_EQ(all[0].journal.phase, "here");
  EXPECT_FALSE(all[1].has_journal);
  EXPECT_EQ(judge(all).late, std::vector<int>{1});
}

TEST(Watchdog, acts_once_when_the_host_is_blocked_beyond_the_deadline) {
  const Folder folder;
  Journal journal;
  std::promise<Verdict> acted;
  Watchdog watchdog(journal, {.folder = folder.path(), .rank = 0, .ranks = 1, .deadline_s = 0.2},
                    [&](const Verdict& verdict) { acted.set_value(verdict); });
  journal.mark_waiting(journal.enter(OperationKind::kAllGather, "copy", 5));
  const Verdict verdict = acted.get_future().get();
  EXPECT_NE(verdict.text.find("all_gather on 'copy' (5 elements)"), std::string::npos) << verdict.text;
}

TEST(Watchdog, leaves_a_host_alone_that_goes_on) {
  const Folder folder;
  Journal journal;
  bool has_acted = false;
  {
    const Watchdog watchdog(journal, {.folder = folder.path(), .rank = 0, .ranks = 1, .deadline_s = 5},
                            [&](const Verdict&) { has_acted = true; });
    for (int i = 0; i < 20; ++i) {
      journal.mark_waiting(journal.enter(OperationKind::kAllGather, "copy", 5));
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      journal.mark_waiting(0);
    }
  }
  EXPECT_FALSE(has_acted);
}

}  // namespace tmd::comm
