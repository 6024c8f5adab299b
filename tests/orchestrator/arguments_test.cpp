#include "orchestrator/arguments.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::orchestrator {

TEST(Arguments, both_forms_switches_and_plain_words_are_told_apart) {
  const Arguments a("verb", {"plain", "--run=out", "--json", "file", "--average", "--allow", "x.y", "z.w"},
                    {"run", "json"}, {"average"}, {"allow"});

  EXPECT_EQ(a.required("run"), "out");
  EXPECT_EQ(a.value_or("json", ""), "file");
  EXPECT_TRUE(a.has("average"));
  EXPECT_EQ(a.all("allow"), (std::vector<std::string>{"x.y", "z.w"}));
  EXPECT_EQ(a.plain(), (std::vector<std::string>{"plain"}));
  EXPECT_EQ(a.integer_or("count", 7), 7);
}

TEST(Arguments, only_a_list_takes_the_words_behind_its_value) {
  const Arguments a("verb", {"--for", "wan", "RUN", "--allow", "x", "--average", "y"}, {"for"}, {"average"},
                    {"allow"});
  EXPECT_EQ(a.required("for"), "wan");
  EXPECT_EQ(a.all("allow"), (std::vector<std::string>{"x"}));
  EXPECT_EQ(a.plain(), (std::vector<std::string>{"RUN", "y"}));
  EXPECT_THROW(a.refuse_plain(), Error);
  EXPECT_NO_THROW(Arguments("verb", {"--for", "wan"}, {"for"}).refuse_plain());
}

TEST(Arguments, wrong_words_are_usage_errors) {
  const auto kind = [](const std::vector<std::string>& words) {
    try {
      const Arguments a("verb", words, {"run", "count"});
      a.required("run");
      a.integer_or("count", 1);
    } catch (const Error& e) {
      return e.kind();
    }
    return ErrorKind::kInternal;
  };
  EXPECT_EQ(kind({"--unknown=1"}), ErrorKind::kUsage);
  EXPECT_EQ(kind({"--run"}), ErrorKind::kUsage);
  EXPECT_EQ(kind({}), ErrorKind::kUsage);
  EXPECT_EQ(kind({"--run=x", "--count=three"}), ErrorKind::kUsage);
}

}  // namespace tmd::orchestrator
