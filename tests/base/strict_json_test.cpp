#include "base/strict_json.h"

#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "../support/error_of.h"
#include "base/host_memory.h"

namespace tmd {
namespace {

void expect_refused(const std::string& text, const std::string& part) {
  SCOPED_TRACE(text.substr(0, 60));
  test::expect_bad_data(test::error_of([&] { parse_strict_json(text, "config.json"); }),
                        {"config.json", part});
}

std::string repeated(const std::string& text, size_t times) {
  std::string result;
  result.reserve(text.size() * times);
  for (size_t i = 0; i < times; ++i) result += text;
  return result;
}

std::string nested(size_t levels) { return repeated("[", levels) + repeated("]", levels); }

TEST(StrictJson, every_kind_of_value_is_parsed) {
  const nlohmann::json json =
      parse_strict_json(R"( {"a":[1,-2,0.5,true,null,"x\u00e4\n"],"b":{"a":{}}} )", "config.json");

  EXPECT_EQ(json.at("a").at(0), 1);
  EXPECT_EQ(json.at("a").at(1), -2);
  EXPECT_EQ(json.at("a").at(2), 0.5);
  EXPECT_EQ(json.at("a").at(3), true);
  EXPECT_TRUE(json.at("a").at(4).is_null());
  EXPECT_EQ(json.at("a").at(5), "xä\n");
  EXPECT_TRUE(json.at("b").at("a").empty());
  EXPECT_EQ(parse_strict_json("3", "config.json"), 3);
}

TEST(StrictJson, broken_json_is_refused_with_the_offset) {
  expect_refused("", "not JSON at byte 0");
  expect_refused("   ", "not JSON at byte 3");
  expect_refused("{\"a\":1,}", "not JSON at byte 7");
  expect_refused("[1,2", "not JSON at byte 4");
  expect_refused("[1 2]", "not JSON at byte 3");
  expect_refused("{a:1}", "not JSON at byte 1");
  expect_refused("{'a':1}", "not JSON at byte 1");
  expect_refused("[1]]", "not JSON at byte 3");
  expect_refused("{} // note", "not JSON at byte 3");
  expect_refused("\"a", "not JSON at byte 2");
  expect_refused("[nul]", "not JSON at byte 4");
  expect_refused("[Infinity]", "not JSON at byte 1");
  expect_refused("[.5]", "not JSON at byte 1");
  expect_refused("[1e400]", "not JSON: number overflow");
  expect_refused("[-1e400]", "not JSON: number overflow");
  expect_refused("[\"\xff\"]", "UTF-8");
  expect_refused("[\"\\q\"]", "not JSON at byte 3");
}

// The parser takes a zero byte for the end of the text.
TEST(StrictJson, zero_bytes_are_refused_everywhere) {
  expect_refused(std::string("\0{}", 3), "not JSON at byte 0: a zero byte");
  expect_refused(std::string("{}\0", 3), "not JSON at byte 2: a zero byte");
  expect_refused(std::string("{}\0{\"a\":1}", 10), "not JSON at byte 2: a zero byte");
  expect_refused(std::string("[\"a\0b\"]", 7), "not JSON at byte 3: a zero byte");
}

TEST(StrictJson, names_that_stand_twice_are_refused_at_every_level) {
  expect_refused(R"({"a":1,"a":1})", "the name \"a\" stands twice");
  expect_refused(R"({"a":1,"b":{},"\u0061":1})", "the name \"a\" stands twice");
  expect_refused(R"([{"b":{"c":[{"x":1,"y":2,"x":3}]}}])", "the name \"x\" stands twice");
  expect_refused(R"({"":1,"":2})", "the name \"\" stands twice");
  expect_refused("{\"" + repeated("n", 5000) + "\":1,\"" + repeated("n", 5000) + "\":1}", "nnn...\" stands");
  EXPECT_EQ(parse_strict_json(R"({"a":{"a":[{"a":1},{"a":2}]},"b":{"a":1}})", "config.json").size(), 2u);
}

TEST(StrictJson, sixty_four_levels_are_allowed) {
  EXPECT_EQ(parse_strict_json(nested(64), "config.json").size(), 1u);
  expect_refused(nested(65), "deeper than 64 levels");
  expect_refused(repeated("{\"a\":", 65) + "1" + repeated("}", 65), "deeper than 64 levels");
}

// 10 MB of one bracket, closed or not: neither the stack nor the memory grows with it.
TEST(StrictJson, very_deep_nesting_is_refused_at_once) {
  const size_t levels = 5'000'000;
  const std::string closed = nested(levels), open = repeated("[", 2 * levels),
                    objects = repeated("{\"\":", levels);
  const uint64_t before = peak_resident_memory();
  expect_refused(closed, "deeper than 64 levels");
  expect_refused(open, "deeper than 64 levels");
  expect_refused(objects, "deeper than 64 levels");
  EXPECT_LT(peak_resident_memory(), before + (uint64_t{64} << 20));
}

// A parser that looks at the whole object whenever a member ends takes hours here.
TEST(StrictJson, objects_of_very_many_members_take_no_longer_than_they_are) {
  std::string text = "{";
  for (int i = 0; i < 500'000; ++i) text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":{}";
  EXPECT_EQ(parse_strict_json(text + "}", "it").size(), 500'000u);
}

TEST(StrictJson, five_million_values_and_names_are_allowed) {
  const size_t limit = 5'000'000;
  EXPECT_EQ(parse_strict_json("[" + repeated("1,", limit - 1) + "1]", "config.json").size(), limit);
  expect_refused("[" + repeated("1,", limit) + "1]", "more than 5000000 values and names");
}

TEST(StrictJson, messages_stay_short_and_show_no_control_characters) {
  const std::string text = "[\"" + repeated("a", 1'000'000) + "\x01";
  const std::string message = test::error_of([&] { parse_strict_json(text, "config.json"); }).what();
  EXPECT_LT(message.size(), 400u);
  EXPECT_NE(message.find("not JSON at byte 1000002"), std::string::npos) << message;
  EXPECT_EQ(message.find("last read"), std::string::npos) << message;
  expect_refused("{\"a\\u0007\":1,\"a\\u0007\":1}", "the name \"a\\x07\" stands twice");
}

}  // namespace
}  // namespace tmd
