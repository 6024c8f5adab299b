#include "orchestrator/eval_compare.h"

#include <gtest/gtest.h>

#include "../data/temporary_folder.h"
#include "../support/error_of.h"
#include "base/philox.h"
#include "base/publish.h"
#include "orchestrator/eval_report.h"

namespace tmd::orchestrator {
namespace {

using evaluation::Better;
using nlohmann::json;

constexpr size_t kSamples = 64;

// Normal numbers around `mean`; the same ones for the same seed.
std::vector<double> around(double mean, uint64_t seed, double spread = 1) {
  std::vector<double> values(kSamples);
  PhiloxStream(seed, 0, 0, Purpose::kToy).fill_normal(std::span<double>(values));
  for (double& value : values) value = mean + spread * value;
  return values;
}

json row(const std::string& name, const std::string& network,
         const std::map<std::string, std::vector<double>>& values) {
  json metrics = {{"frechet", 3.0}};
  for (const auto& [key, numbers] : values) metrics[key] = evaluation::mean_of(numbers);
  return {{"name", name},
          {"method", {{"network", network}}},
          {"metrics", metrics},
          {"values", values},
          {"intervals", json::object()}};
}

json metric_list() {
  return {{{"key", "joint"}, {"better", "more"}},      {{"key", "residual"}, {"better", "less"}},
          {{"key", "energy"}, {"better", "near one"}}, {{"key", "teacher_distance"}, {"better", "neither"}},
          {{"key", "frechet"}, {"better", "less"}},    {{"key", "absent"}, {"better", "less"}}};
}

json report(double joint = 0.5) {
  return {{"format", "tmd-eval"},
          {"version", 2},
          {"run", {{"step", 9}, {"average", false}}},
          {"judge", "latents"},
          {"samples", kSamples},
          {"seed", 1},
          {"reference", "00000000000000aa"},
          {"prompts", {{{"first", 0}, {"hash", "aa"}, {"text", "a cat"}}, {{"first", 1}, {"hash", "bb"}}}},
          {"prompt_of_sample", {0, 1, 1}},
          {"metrics", metric_list()},
          {"rows",
           {row("teacher-4", "teacher", {{"joint", around(0.9, 1)}}),
            row("student-2", "student", {{"joint", around(joint, 2)}})}}};
}

const MetricChange& change(const std::vector<MetricChange>& changes, const std::string& key) {
  for (const MetricChange& one : changes) {
    if (one.key == key) return one;
  }
  throw std::runtime_error("no change of " + key);
}

TEST(CompareRows, verdicts_follow_the_direction_of_the_metric) {
  const json a = row("a", "student",
                     {{"joint", around(0, 1)},
                      {"residual", around(0, 2)},
                      {"energy", around(0.6, 3)},
                      {"teacher_distance", around(0, 4)}});
  const json b = row("b", "student",
                     {{"joint", around(0.2, 1)},
                      {"residual", around(0.2, 2)},
                      {"energy", around(0.9, 3)},
                      {"teacher_distance", around(0.2, 4)}});
  const auto forth = compare_rows(metric_list(), a, b, 1), back = compare_rows(metric_list(), b, a, 1);
  EXPECT_EQ(change(forth, "joint").verdict, "better");
  EXPECT_EQ(change(back, "joint").verdict, "worse");
  EXPECT_EQ(change(forth, "residual").verdict, "worse");
  EXPECT_EQ(change(back, "residual").verdict, "better");
  EXPECT_EQ(change(forth, "energy").verdict, "better");
  EXPECT_EQ(change(back, "energy").verdict, "worse");
  EXPECT_EQ(change(forth, "teacher_distance").verdict, "differs");
  EXPECT_NEAR(change(forth, "joint").difference->estimate, 0.2, 1e-12);
  EXPECT_GT(change(forth, "joint").difference->low, 0);
}

TEST(CompareRows, unpaired_noise_of_the_same_size_is_no_difference) {
  const auto changes = compare_rows(metric_list(), row("a", "student", {{"joint", around(0, 1)}}),
                                    row("b", "student", {{"joint", around(0.2, 2)}}), 1);
  EXPECT_EQ(change(changes, "joint").verdict, "no difference");
}

// The difference excludes 0, and neither is nearer to one.
TEST(CompareRows, ratios_on_both_sides_of_one_differ_and_are_equally_good) {
  const auto changes = compare_rows(metric_list(), row("a", "student", {{"energy", around(0.8, 1)}}),
                                    row("b", "student", {{"energy", around(1.2, 1)}}), 1);
  EXPECT_TRUE(change(changes, "energy").difference->excludes_zero());
  EXPECT_EQ(change(changes, "energy").verdict, "no difference");
}

// Resampled, five of five pairs on one side exclude 0; a coin falls so in one of sixteen cases.
TEST(CompareRows, a_handful_of_pairs_that_differ_decide_nothing) {
  std::vector<double> a(kSamples, 1), five = a, six = a;
  std::fill_n(five.begin(), 5, 0);
  std::fill_n(six.begin(), 6, 0);
  const auto verdict = [&](const std::vector<double>& b) {
    return change(compare_rows(metric_list(), row("a", "student", {{"joint", a}}),
                               row("b", "student", {{"joint", b}}), 1),
                  "joint");
  };
  EXPECT_TRUE(verdict(five).difference->excludes_zero());
  EXPECT_EQ(verdict(five).verdict, "no difference");
  EXPECT_EQ(verdict(six).verdict, "worse");
}

TEST(CompareRows, numbers_without_values_have_no_interval) {
  const auto changes = compare_rows(metric_list(), row("a", "student", {}), row("b", "student", {}), 1);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].key, "frechet");
  EXPECT_FALSE(changes[0].difference.has_value());
  EXPECT_EQ(changes[0].verdict, "no interval");
}

TEST(CompareRows, too_few_values_and_unequal_ones_have_no_interval) {
  json a = row("a", "student", {{"joint", around(0, 1)}}), b = row("b", "student", {{"joint", around(1, 1)}});
  b["values"]["joint"].erase(0);
  EXPECT_EQ(change(compare_rows(metric_list(), a, b, 1), "joint").verdict, "no interval");
  a["values"]["joint"] = b["values"]["joint"] = std::vector<double>(7, 0.5);
  EXPECT_EQ(change(compare_rows(metric_list(), a, b, 1), "joint").verdict, "no interval");
}

TEST(CompareRows, samples_without_a_value_are_left_out_of_both) {
  json a = row("a", "student", {{"joint", around(0, 1)}}), b = row("b", "student", {{"joint", around(1, 1)}});
  a["values"]["joint"][0] = nullptr;
  b["values"]["joint"][1] = 1e6;
  b["values"]["joint"][0] = 1e6;
  a["values"]["joint"][1] = nullptr;
  EXPECT_NEAR(change(compare_rows(metric_list(), a, b, 1), "joint").difference->estimate, 1, 1e-9);
}

class CompareEvaluations : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const json& content) const {
    publish_file(folder / name, report_text(content));
    return folder / name;
  }
  void expect_refused(const json& other, const std::string& reason) const {
    const auto a = write("a.json", report()), b = write("b.json", other);
    test::expect_bad_data(test::error_of([&] { compare_evaluations(a, b); }), {reason});
  }
  data::TemporaryFolder folder;
};

TEST_F(CompareEvaluations, rows_stand_beside_each_other) {
  const std::string text = compare_evaluations(write("a.json", report(0.5)), write("b.json", report(0.9)));
  EXPECT_NE(text.find("teacher-4"), std::string::npos) << text;
  EXPECT_NE(text.find("student-2"), std::string::npos) << text;
  EXPECT_NE(text.find("+0.4"), std::string::npos) << text;
  EXPECT_NE(text.find("better"), std::string::npos) << text;
  EXPECT_NE(text.find("no difference"), std::string::npos) << text;
}

TEST_F(CompareEvaluations, students_of_other_steps_are_held_against_each_other) {
  json other = report(0.1);
  other["rows"][1]["name"] = "student-1";
  const std::string text = compare_evaluations(write("a.json", report()), write("b.json", other));
  EXPECT_NE(text.find("student-2 (A) and student-1 (B)"), std::string::npos) << text;
  EXPECT_NE(text.find("worse"), std::string::npos) << text;
}

// What `text` says from a line that begins with `begin` to its end.
std::string line_with(const std::string& text, const std::string& begin) {
  const size_t at = text.find("\n" + begin);
  return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

TEST_F(CompareEvaluations, numbers_to_the_teacher_are_left_out_when_it_was_sampled_differently) {
  json a = report();
  a["metrics"].push_back({{"key", "prompt_diversity_ratio"}, {"better", "near one"}});
  a["rows"][1] = row("student-2", "student",
                     {{"joint", around(0.5, 2)},
                      {"teacher_distance", around(0.5, 3)},
                      {"prompt_diversity_ratio", around(1, 4)}});
  a["rows"][1]["metrics"]["prompt_diversity_ratio_to"] = "teacher";
  const auto compare_with = [&](const json& b) {
    return compare_evaluations(write("a.json", a), write("b.json", b));
  };
  const std::string same = compare_with(a);
  EXPECT_EQ(same.find("left out"), std::string::npos) << same;
  EXPECT_EQ(same.find("sampled differently"), std::string::npos) << same;
  EXPECT_NE(line_with(same, "teacher_distance "), "") << same;

  json other = a;
  other["rows"][0]["method"]["cfg"] = 5;
  const std::string text = compare_with(other);
  EXPECT_NE(text.find("left out: teacher_distance, prompt_diversity_ratio, since"), std::string::npos)
      << text;
  EXPECT_NE(line_with(text, "sampled differently:"), "") << text;
  EXPECT_NE(line_with(text, "  B {\"cfg\":5"), "") << text;
  EXPECT_EQ(line_with(text, "teacher_distance "), "") << text;
  EXPECT_EQ(line_with(text, "prompt_diversity_ratio "), "") << text;
  EXPECT_NE(line_with(text, "joint "), "") << text;

  other["rows"][1]["metrics"]["prompt_diversity_ratio_to"] = "data";
  EXPECT_NE(compare_with(other).find("left out: prompt_diversity_ratio, which is to \"teacher\" in A and to"),
            std::string::npos);
  // To the data in both: whatever the teacher is.
  a["rows"][1]["metrics"]["prompt_diversity_ratio_to"] = "data";
  EXPECT_NE(line_with(compare_with(other), "prompt_diversity_ratio "), "");
}

TEST_F(CompareEvaluations, what_cannot_be_compared_is_refused_with_the_reason) {
  const auto with = [](const std::string& key, const json& value) {
    json changed = report();
    changed[key] = value;
    return changed;
  };
  expect_refused(with("judge", "shapes"), "different judges, \"latents\" and \"shapes\"");
  expect_refused(with("samples", 65), "numbers of samples, 64 and 65");
  expect_refused(with("seed", 2), "seeds, 1 and 2");
  expect_refused(with("prompt_of_sample", {0, 1, 0}), "different prompts");
  expect_refused(with("reference", "00000000000000ab"), "different real data");
  expect_refused(with("format", "tmd-latents"), "no result of tmd eval");
  expect_refused(with("version", 1), "version 1, this program reads 2");
  json other_names = report();
  other_names["rows"] = {row("teacher-8", "teacher", {})};
  expect_refused(other_names, "no row in common");
}

TEST_F(CompareEvaluations, the_order_in_which_prompts_are_listed_does_not_matter) {
  json other = report();
  std::swap(other["prompts"][0], other["prompts"][1]);
  other["prompt_of_sample"] = {1, 0, 0};
  EXPECT_NO_THROW(compare_evaluations(write("a.json", report()), write("b.json", other)));
}

TEST_F(CompareEvaluations, garbled_files_are_bad_data) {
  for (const char* key : {"judge", "rows", "prompts", "reference", "run"}) {
    json other = report();
    other.erase(key);
    expect_refused(other, "garbled");
  }
  json other = report();
  other["rows"][1]["values"]["joint"][3] = "one";
  expect_refused(other, "garbled");
  other = report();
  other["prompt_of_sample"][0] = 7;
  expect_refused(other, "garbled");
  other = report();
  other["metrics"][0]["better"] = "bigger";
  const auto a = write("a.json", report()), b = write("b.json", other);
  EXPECT_EQ(test::error_of([&] { compare_evaluations(b, a); }).kind(), ErrorKind::kData);
  publish_file(folder / "b.json", std::string_view("{\"format\": "));
  EXPECT_EQ(test::error_of([&] { compare_evaluations(a, b); }).kind(), ErrorKind::kData);
  EXPECT_EQ(test::error_of([&] { compare_evaluations(a, folder / "none.json"); }).kind(), ErrorKind::kData);
}

}  // namespace
}  // namespace tmd::orchestrator
