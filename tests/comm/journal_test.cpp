#include "comm/journal.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "base/error.h"

namespace tmd::comm {

class JournalFile : public testing::Test {
 protected:
  std::filesystem::path file_ = std::filesystem::temp_directory_path() / "tmd_journal_test.bin";
  void TearDown() override { std::filesystem::remove(file_); }
};

TEST_F(JournalFile, entries_are_readable_while_the_writer_lives) {
  Journal journal;
  journal.set_phase("stage1");
  const uint64_t before = journal.start("all_gather", "shard", 4096);
  journal.finish(before);

  journal.map_to(file_);
  journal.start("barrier", "world", 0);

  const auto entries = read_journal(file_);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].kind, "all_gather");
  EXPECT_EQ(entries[0].elements, 4096u);
  EXPECT_TRUE(entries[0].finished);
  EXPECT_FALSE(entries[1].finished);
  EXPECT_EQ(to_text(entries, 1), "#2 barrier world 0 stage1 waiting\n");
}

TEST_F(JournalFile, ring_keeps_the_newest) {
  Journal journal;
  for (size_t i = 0; i < Journal::kEntries + 10; ++i) journal.start("send", "data", i);

  const auto entries = journal.entries();

  EXPECT_EQ(entries.size(), Journal::kEntries);
  EXPECT_EQ(entries.back().elements, Journal::kEntries + 9);
}

TEST_F(JournalFile, other_files_are_refused) {
  FILE* f = std::fopen(file_.c_str(), "w");
  std::fputs("not a journal", f);
  std::fclose(f);

  EXPECT_THROW(read_journal(file_), Error);
}

}  // namespace tmd::comm
