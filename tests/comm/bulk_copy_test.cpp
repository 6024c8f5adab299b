#include "comm/bulk_copy.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

namespace tmd::comm {
namespace {

// Nothing but the bytes of the copy is written, for every position within a cache line and lengths around it.
TEST(BulkCopy, every_alignment_and_length_is_exact) {
  std::vector<std::byte> from(1024);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 7 + 1);
  for (size_t whole : {size_t{0}, kBulkBytes}) {
    for (size_t to_offset = 0; to_offset < 64; to_offset += 3) {
      for (size_t from_offset : {size_t{0}, size_t{5}}) {
        for (size_t bytes : {0, 1, 63, 64, 65, 127, 128, 200, 640}) {
          std::vector<std::byte> to(1024, std::byte{0});
          bulk_copy(to.data() + to_offset, from.data() + from_offset, bytes, whole);
          std::vector<std::byte> expected(1024, std::byte{0});
          std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(from_offset), bytes,
                      expected.begin() + static_cast<std::ptrdiff_t>(to_offset));
          EXPECT_EQ(to, expected) << whole << ", " << to_offset << ", " << from_offset << ", " << bytes;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tmd::comm
