#include "base/hash.h"

#include <gtest/gtest.h>

namespace tmd {
namespace {

TEST(Xxh3, digest_of_nothing_and_of_text) {
  // Reference values of `xxhsum -H3`.
  EXPECT_EQ(Xxh3().digest(), 0x2d06800538d394c2ULL);
  EXPECT_EQ(xxh3_64("abc"), 0x78af5f94892f3950ULL);
}

TEST(Xxh3, update_in_pieces) {
  const std::string text(1000, 'x');
  Xxh3 hash;
  hash.update(text.substr(0, 1)).update(text.substr(1, 700)).update(text.substr(701));
  EXPECT_EQ(hash.digest(), xxh3_64(text));
  EXPECT_EQ(hash.digest(), xxh3_64(text)) << "digest changes nothing";
  EXPECT_NE(hash.update("y").digest(), xxh3_64(text));
}

}  // namespace
}  // namespace tmd
