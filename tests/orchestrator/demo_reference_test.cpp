#include "orchestrator/demo_reference.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::orchestrator {
namespace {

class ReferenceFile : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }
  DemoReference read(const std::string& text) const {
    std::ofstream(path_) << text;
    return DemoReference(path_);
  }
  std::filesystem::path path_ = std::filesystem::temp_directory_path() / "tmd_demo_reference_test.json";
};

constexpr const char* kText =
    R"({"phases": [{"name": "a", "seconds": 10}, {"name": "b", "seconds": 30}, {"name": "c", "seconds": 20}],
  "parts": {"shapes": {"TMD": {"joint": 0.75, "note": null}}}})";

TEST_F(ReferenceFile, gives_numbers_and_nothing_for_what_it_lacks) {
  const DemoReference reference = read(kText);
  EXPECT_EQ(reference.value("shapes", "TMD", "joint"), 0.75);
  EXPECT_EQ(reference.value("shapes", "TMD", "note"), std::nullopt);
  EXPECT_EQ(reference.value("shapes", "DMD", "joint"), std::nullopt);
  EXPECT_EQ(reference.value("mixture", "TMD", "joint"), std::nullopt);
  EXPECT_EQ(reference.seconds("b"), 30);
  EXPECT_EQ(reference.seconds("d"), 0);
  EXPECT_EQ(DemoReference().value("shapes", "TMD", "joint"), std::nullopt);
}

TEST_F(ReferenceFile, broken_or_missing_files_are_named) {
  for (const char* text : {"", "{", "[1]"}) {
    try {
      read(text);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData);
      EXPECT_NE(std::string(error.what()).find("tmd_demo_reference_test"), std::string::npos);
    }
  }
  EXPECT_THROW(DemoReference("/nowhere/demo-reference.json"), Error);
}

TEST_F(ReferenceFile, clock_scales_the_plan_by_the_pace_so_far) {
  DemoClock clock(read(kText), {"a", "b", "c"});
  clock.begin("a", 0);
  EXPECT_DOUBLE_EQ(*clock.left(0), 60);
  EXPECT_DOUBLE_EQ(*clock.left(4), 56);
  clock.begin("b", 20);  // twice as slow as the reference
  EXPECT_DOUBLE_EQ(*clock.left(20), 100);
  EXPECT_DOUBLE_EQ(*clock.left(30), 90);
  EXPECT_DOUBLE_EQ(*clock.left(500), 0);
}

TEST_F(ReferenceFile, clock_knows_nothing_without_a_plan) {
  DemoClock clock(DemoReference{}, {"a"});
  clock.begin("a", 0);
  EXPECT_EQ(clock.left(1), std::nullopt);
}

TEST_F(ReferenceFile, clock_refuses_an_unplanned_phase) {
  DemoClock clock(read(kText), {"a", "b"});
  EXPECT_THROW(clock.begin("b", 0), Error);
  clock.begin("a", 0);
  clock.begin("b", 1);
  EXPECT_THROW(clock.begin("c", 2), Error);
}

TEST_F(ReferenceFile, clock_reports_the_seconds_of_its_phases) {
  DemoClock clock(read(kText), {"a", "b", "c"});
  clock.begin("a", 1);
  clock.begin("b", 4);
  const nlohmann::json phases = clock.phases(10);
  ASSERT_EQ(phases.size(), 2u);
  EXPECT_EQ(phases[0], (nlohmann::json{{"name", "a"}, {"seconds", 3.0}}));
  EXPECT_EQ(phases[1], (nlohmann::json{{"name", "b"}, {"seconds", 6.0}}));
}

}  // namespace
}  // namespace tmd::orchestrator
