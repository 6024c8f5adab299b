#include "base/host_memory.h"

#include <vector>

#include <gtest/gtest.h>

#include "base/file.h"

namespace tmd {
namespace {

TEST(HostMemory, resident_memory_follows_what_is_touched) {
  constexpr size_t kBytes = size_t{64} << 20;
  const uint64_t before = resident_memory();
  const std::vector<char> touched(kBytes, 1);
  EXPECT_GE(resident_memory(), before + kBytes / 2);
  EXPECT_GE(peak_resident_memory(), before + kBytes / 2);
  EXPECT_GT(available_memory(), 0u);
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

}  // namespace
}  // namespace tmd
