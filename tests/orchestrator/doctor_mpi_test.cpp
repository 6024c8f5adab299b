#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "comm/agree.h"
#include "mpi_main.h"
#include "orchestrator/doctor.h"
#include "orchestrator/doctor_config.h"
#include "orchestrator/library_versions.h"
#include "orchestrator/rank_facts.h"
#include "orchestrator/write_test.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;
using test::world;

// The same folder on all ranks, made by rank 0 and removed by it.
class SharedFolder {
 public:
  explicit SharedFolder(const std::string& name) {
    path_ =
        fs::path(comm::broadcast_string(world(), testing::TempDir() + name + std::to_string(::getpid()), 0));
    if (world().rank() == 0) fs::create_directories(path_);
    world().barrier();
  }
  ~SharedFolder() {
    if (world().rank() == 0) fs::remove_all(path_);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

TEST(GatherFacts, every_rank_knows_all) {
  const std::vector<RankFacts> facts = gather_facts(world(), world().rank() + 1);
  EXPECT_EQ(static_cast<int>(facts.size()), world().size());
  for (size_t rank = 0; rank < facts.size(); ++rank) {
    EXPECT_EQ(facts[rank].threads, static_cast<int64_t>(rank) + 1);
    EXPECT_FALSE(facts[rank].host.empty());
    EXPECT_FALSE(facts[rank].cores.empty());
    EXPECT_GT(facts[rank].memory_total_bytes, facts[rank].memory_available_bytes);
    EXPECT_GT(facts[rank].memory_available_bytes, 0u);
    EXPECT_EQ(facts[rank].clock_us.size(), facts.front().clock_us.size());
    EXPECT_EQ(facts[rank].versions, facts.front().versions);
  }
}

TEST(LibraryVersions, every_library_tells) {
  for (const LibraryVersion& library : library_versions()) {
    EXPECT_FALSE(library.version.empty()) << library.name;
    // This program makes no pictures: what writes them may be left out when it is linked.
    const bool may_be_missing = library.name == "libpng" || library.name == "libwebp";
    EXPECT_TRUE(may_be_missing || library.version != "unknown") << library.name;
    EXPECT_FALSE(library.use.empty()) << library.name;
  }
}

TEST(TestWriting, leaves_nothing_behind) {
  const SharedFolder folder("tmd_write_test_");
  const WriteTest inside = test_writing(world(), folder.path());
  EXPECT_TRUE(inside.failures.empty());
  EXPECT_FALSE(inside.is_parent);
  EXPECT_GT(inside.free_bytes, 0u);
  EXPECT_TRUE(fs::is_empty(folder.path()));
  world().barrier();
  const WriteTest above = test_writing(world(), folder.path() / "runs/new");
  EXPECT_TRUE(above.failures.empty());
  EXPECT_TRUE(above.is_parent);
  EXPECT_EQ(above.folder, folder.path());
  EXPECT_TRUE(fs::is_empty(folder.path()));
  world().barrier();
}

TEST(TestWriting, tells_all_ranks_what_fails) {
  const SharedFolder folder("tmd_write_file_");
  const fs::path file = folder.path() / "file";
  if (world().rank() == 0) std::ofstream(file) << "in the way";
  world().barrier();
  const WriteTest test = test_writing(world(), file / "run");
  EXPECT_EQ(test.failures.size(), 1u);
  const std::string first = test.failures.empty() ? "" : test.failures.front();
  EXPECT_NE(first.find("rank 0 on "), std::string::npos) << first;
  EXPECT_NE(first.find("is no folder"), std::string::npos) << first;
  world().barrier();
}

TEST(CheckConfig, a_file_that_one_rank_lacks_is_a_finding) {
  const SharedFolder folder("tmd_doctor_config_");
  const fs::path file = folder.path() / "good.ini";
  if (world().rank() == 0) std::ofstream(file) << "[train]\nglobal_batch = 12\n";
  world().barrier();
  const int last = world().size() - 1;
  const ConfigCheck good = check_config(world(), {file.string()}, {});
  EXPECT_TRUE(good.is_complete);
  const fs::path other = world().rank() == last ? folder.path() / "missing.ini" : file;
  const ConfigCheck bad = check_config(world(), {other.string()}, {});
  EXPECT_FALSE(bad.is_complete);
  EXPECT_EQ(bad.findings.size(), 1u);
  EXPECT_EQ(bad.findings.front().severity, Severity::kError);
  EXPECT_NE(bad.findings.front().text.find("missing.ini"), std::string::npos) << bad.findings.front().text;
  world().barrier();
}

TEST(CheckConfig, settings_that_differ_are_a_finding) {
  const int last = world().size() - 1;
  const std::string setting =
      world().rank() == last && last > 0 ? "--train.global_batch=24" : "--train.global_batch=12";
  const ConfigCheck result = check_config(world(), {}, {setting});
  EXPECT_EQ(result.is_complete, last == 0);
  if (last == 0) return;
  EXPECT_EQ(exit_code(result.findings), 78);
  EXPECT_NE(result.findings.front().text.find("disagree"), std::string::npos) << result.findings.front().text;
}

TEST(QuickFindings, are_on_rank_0) {
  const SharedFolder folder("tmd_quick_");
  configs::Config config;
  configs::complete(config);
  const std::vector<Finding> findings = quick_findings(world(), folder.path(), config);
  EXPECT_EQ(findings.empty(), world().rank() != 0);
  EXPECT_EQ(count(findings, Severity::kError), 0) << findings_text(findings);
  EXPECT_EQ(findings.empty() ? "" : findings.back().name, world().rank() == 0 ? "free space" : "");
  EXPECT_TRUE(fs::is_empty(folder.path()));
  world().barrier();
}

TEST(Diagnose, finds_no_error_on_this_machine) {
  const SharedFolder folder("tmd_diagnose_");
  DoctorRequest request;
  request.run = folder.path();
  request.seconds = 0.2;
  const Diagnosis diagnosis = diagnose(world(), request);
  EXPECT_EQ(diagnosis.code, 0) << findings_text(diagnosis.findings);
  EXPECT_EQ(static_cast<int>(diagnosis.ranks.size()), world().size());
  EXPECT_EQ(diagnosis.findings.empty(), world().rank() != 0);
  world().barrier();
}

}  // namespace
}  // namespace tmd::orchestrator
