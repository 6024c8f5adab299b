#include "base/host_memory.h"

#include <fstream>
#include <vector>

#include <gtest/gtest.h>

#include "../data/temporary_folder.h"
#include "base/file.h"

namespace tmd {
namespace {

namespace fs = std::filesystem;

TEST(HostMemory, resident_memory_follows_what_is_touched) {
  constexpr size_t kBytes = size_t{64} << 20;
  const uint64_t before = resident_memory();
  const std::vector<char> touched(kBytes, 1);
  EXPECT_GE(resident_memory(), before + kBytes / 2);
  EXPECT_GE(peak_resident_memory(), before + kBytes / 2);
  EXPECT_GT(available_memory().value(), 0u);
  EXPECT_EQ(touched.back(), 1);
}

TEST(HostMemory, reads_are_counted) {
  const File file = File::open_to_read("/proc/self/exe");
  std::vector<std::byte> bytes(100'000);
  const uint64_t before = bytes_read_by_process();
  file.read_at(0, bytes);
  const uint64_t read = bytes_read_by_process() - before;
  EXPECT_GE(read, bytes.size());
  EXPECT_LE(read, bytes.size() + 50'000);  // reading the counter is counted too
}

/// A folder that looks like mounted control groups, and the /proc/PID/cgroup of a process in them.
class ControlGroups : public testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) {
    const fs::path path = folder_.path() / file;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void group(const std::string& name, const std::string& limit, uint64_t used, uint64_t inactive,
             uint64_t active) {
    write(name + "/memory.max", limit + "\n");
    write(name + "/memory.current", std::to_string(used) + "\n");
    write(name + "/memory.stat", "anon 77\nfile 99\ninactive_file " + std::to_string(inactive) +
                                     "\nactive_file " + std::to_string(active) + "\nunevictable 0\n");
  }
  std::optional<uint64_t> left(const std::string& groups) {
    write("cgroup", groups);
    return left_in_control_groups(folder_.path() / "cgroup", folder_.path() / "mount");
  }

  data::TemporaryFolder folder_;
};

TEST_F(ControlGroups, page_cache_counts_as_free) {
  group("mount/job", "1000", 900, 300, 200);
  EXPECT_EQ(left("0::/job\n"), 600u);
}

TEST_F(ControlGroups, a_full_group_has_nothing_left_which_is_not_unknown) {
  group("mount/job", "1000", 1000, 0, 0);
  EXPECT_EQ(left("0::/job\n"), 0u);
  group("mount/job", "1000", 1100, 0, 0);
  EXPECT_EQ(left("0::/job\n"), 0u);
}

TEST_F(ControlGroups, the_tightest_of_the_groups_around_counts) {
  group("mount/a", "500", 100, 0, 0);
  group("mount/a/b", "max", 90, 0, 0);
  group("mount/a/b/c", "800", 80, 0, 0);
  EXPECT_EQ(left("0::/a/b/c\n"), 400u);
}

TEST_F(ControlGroups, the_root_of_a_private_namespace_is_looked_at) {
  group("mount", "700", 100, 50, 0);
  EXPECT_EQ(left("0::/\n"), 650u);
  EXPECT_EQ(left("0::/../elsewhere\n"), 650u);
}

TEST_F(ControlGroups, version_1_has_other_names) {
  write("mount/memory/job/memory.limit_in_bytes", "1000\n");
  write("mount/memory/job/memory.usage_in_bytes", "700\n");
  write("mount/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 30\ntotal_active_file 20\n");
  EXPECT_EQ(left("12:cpuset:/job\n5:cpu,memory:/job\n1:name=systemd:/job\n0::/\n"), 350u);
  EXPECT_EQ(left("12:cpuset:/job\n4:memory:/job\n"), 350u);
}

TEST_F(ControlGroups, no_limit_is_nothing) {
  group("mount/job", "max", 900, 0, 0);
  EXPECT_EQ(left("0::/job\n"), std::nullopt);
  EXPECT_EQ(left("12:cpuset:/job\n"), std::nullopt);
  EXPECT_EQ(left(""), std::nullopt);
}

}  // namespace
}  // namespace tmd
