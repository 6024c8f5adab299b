#include "comm/journal.h"

#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::comm {
namespace {
namespace fs = std::filesystem;

class JournalFile : public testing::Test {
 protected:
  fs::path file_ = fs::temp_directory_path() / ("tmd_journal_" + std::to_string(::getpid()));
  void TearDown() override { fs::remove(file_); }
};

TEST(Journal, entry_goes_through_its_states) {
  Journal journal;
  journal.set_phase("student: backward");
  const uint64_t first = journal.enter(OperationKind::kAllGather, "shard", 4096);
  const uint64_t second = journal.enter(OperationKind::kSend, "data", 7, 2, 5);
  journal.set_phase("optimizer");
  journal.mark_started(first);
  journal.mark_started(second);
  journal.mark_finished(second);

  const JournalContent content = journal.content();

  EXPECT_EQ(content.phase, "optimizer");
  ASSERT_EQ(content.entries.size(), 2u);
  const JournalEntry& gather = content.entries[0];
  EXPECT_EQ(gather.sequence, 1u);
  EXPECT_EQ(gather.kind, OperationKind::kAllGather);
  EXPECT_EQ(gather.communicator, "shard");
  EXPECT_EQ(gather.elements, 4096);
  EXPECT_EQ(gather.phase, "student: backward");
  EXPECT_GE(gather.started_s, gather.queued_s);
  EXPECT_EQ(gather.finished_s, 0);
  EXPECT_EQ(content.entries[1].peer, 2);
  EXPECT_EQ(content.entries[1].tag, 5);
  EXPECT_GE(content.entries[1].finished_s, content.entries[1].started_s);
}

TEST(Journal, ring_keeps_the_last_entries) {
  Journal journal(4);
  for (int i = 1; i <= 10; ++i) journal.enter(OperationKind::kBarrier, "world", i);
  journal.mark_finished(2);  // gone from the ring: may not mark the entry in its place

  const JournalContent content = journal.content();

  EXPECT_EQ(content.entered, 10u);
  ASSERT_EQ(content.entries.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(content.entries[i].elements, static_cast<int64_t>(7 + i));
    EXPECT_EQ(content.entries[i].finished_s, 0);
  }
}

TEST(Journal, long_texts_are_cut) {
  Journal journal;
  journal.set_phase(std::string(100, 'p'));
  journal.enter(OperationKind::kBarrier, std::string(100, 'c'), 0);
  EXPECT_EQ(journal.content().phase, std::string(39, 'p'));
  EXPECT_EQ(journal.content().entries[0].communicator, std::string(23, 'c'));
}

TEST(Journal, text_names_what_is_not_finished) {
  Journal journal;
  journal.set_phase("critic");
  journal.mark_finished(journal.enter(OperationKind::kBarrier, "world", 0));
  journal.mark_started(journal.enter(OperationKind::kAllReduce, "replicate", 12));
  journal.enter(OperationKind::kRecv, "data", 3, 1, 8);

  const std::string text = to_text(journal.content(), 2);

  EXPECT_EQ(text.find("barrier"), std::string::npos) << text;
  EXPECT_NE(text.find("#2 all_reduce on 'replicate', 12 elements, in 'critic': started"), std::string::npos)
      << text;
  EXPECT_NE(text.find("NOT FINISHED"), std::string::npos) << text;
  EXPECT_NE(text.find("#3 recv on 'data', peer 1, tag 8, 3 elements"), std::string::npos) << text;
  EXPECT_NE(text.find("NOT STARTED"), std::string::npos) << text;
}

TEST_F(JournalFile, entries_of_a_killed_process_are_readable) {
  const pid_t child = ::fork();
  if (child == 0) {
    Journal journal;
    journal.enter(OperationKind::kBarrier, "world", 0);  // before the file: moves there
    journal.move_to_file(file_, 3);
    journal.set_phase("teacher");
    journal.mark_started(journal.enter(OperationKind::kReduceScatter, "shard", 99));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));

  const JournalContent content = read_journal(file_);

  EXPECT_EQ(content.rank, 3);
  EXPECT_EQ(content.pid, child);
  EXPECT_EQ(content.phase, "teacher");
  ASSERT_EQ(content.entries.size(), 2u);
  EXPECT_EQ(content.entries[1].kind, OperationKind::kReduceScatter);
  EXPECT_GT(content.entries[1].started_s, 0);
  EXPECT_EQ(content.entries[1].finished_s, 0);
}

TEST_F(JournalFile, other_files_are_refused) {
  std::ofstream(file_) << std::string(10'000, 'x');
  try {
    read_journal(file_);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(e.what()).find(file_.string()), std::string::npos) << e.what();
  }
}

TEST_F(JournalFile, truncated_file_is_refused) {
  Journal journal;
  journal.move_to_file(file_, 0);
  const auto size = fs::file_size(file_);
  fs::copy_file(file_, file_.string() + ".cut");
  fs::resize_file(file_.string() + ".cut", size - 500);
  EXPECT_THROW(read_journal(file_.string() + ".cut"), Error);
  fs::remove(file_.string() + ".cut");
}

TEST_F(JournalFile, folder_that_does_not_exist_is_an_io_error_and_the_journal_goes_on) {
  Journal journal;
  try {
    journal.move_to_file("/nonexistent/journal", 0);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kIo);
  }
  journal.enter(OperationKind::kBarrier, "world", 0);
  EXPECT_EQ(journal.content().entries.size(), 1u);
}

}  // namespace
}  // namespace tmd::comm
