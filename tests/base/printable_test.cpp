#include "base/printable.h"

#include <vector>

#include <gtest/gtest.h>

namespace tmd {
namespace {

TEST(Printable, ordinary_text_stays_as_it_is) {
  EXPECT_EQ(printable("blocks.0.ffn.2.weight"), "blocks.0.ffn.2.weight");
  EXPECT_EQ(printable("Größe \"\\\" 重み"), "Größe \"\\\" 重み");
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable(std::string(200, 'a')), std::string(200, 'a'));
}

TEST(Printable, control_characters_are_escaped) {
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("\x1b[2J\n\x7f"), "\\x1b[2J\\x0a\\x7f");
}

TEST(Printable, long_text_is_cut_between_two_characters) {
  EXPECT_EQ(printable(std::string(201, 'a')), std::string(200, 'a') + "...");
  EXPECT_EQ(printable(std::string(199, 'a') + "ß" + "b"), std::string(199, 'a') + "...");
  EXPECT_EQ(printable(std::string(198, 'a') + "ß" + "b"), std::string(198, 'a') + "ß...");
  EXPECT_EQ(printable(std::string(300, '\x80')), "...") << "no character at all";
}

TEST(Printable, sixteen_numbers_are_shown) {
  std::vector<uint64_t> numbers(16, 7);
  numbers.front() = ~uint64_t{0};
  EXPECT_EQ(printable(std::span<const uint64_t>()), "");
  EXPECT_EQ(printable(numbers), "18446744073709551615, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7");
  numbers.push_back(8);
  EXPECT_EQ(printable(numbers), "18446744073709551615, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, ...");
}

}  // namespace
}  // namespace tmd
