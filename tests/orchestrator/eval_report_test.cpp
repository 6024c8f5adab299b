#include "orchestrator/eval_report.h"

#include <fmt/ranges.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../data/temporary_folder.h"
#include "base/publish.h"
#include "data/codec.h"
#include "data/toy_file.h"

namespace tmd::orchestrator {
namespace {

using nlohmann::json;

constexpr int64_t kCount = 64;

configs::Config config() {
  configs::Config config;
  config.stages.method.outer_steps = 2;
  return config;
}

const std::vector<Contender>& contenders() {
  static const std::vector<Contender> list = {
      {"teacher-50", true, 50}, {"teacher-2", true, 2}, {"student-2", false, 2}};
  return list;
}

// Shapes, of which the teacher's many steps obey and the few steps and the student miss some.
class EvalReport : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const data::TemporaryFolder folder;
    data::write_toy_shapes(folder / "shapes.h5", data::ToyShapesSpec::mini(), 1, 0, 4);
    data::DataSet set({folder / "shapes.h5"});
    evaluator = Evaluator::make(set, kCount, 3);
    const at::Tensor obeying = samples(0);
    const std::vector<EvaluationRow> rows = {row("teacher-50", obeying, {}),
                                             row("teacher-2", samples(40), obeying),
                                             row("student-2", samples(10), obeying)};
    report = evaluation_report(*evaluator, {.step = 9, .seed = 3, .config = config()}, contenders(), rows);
  }
  static void TearDownTestSuite() {
    evaluator.reset();
    report = nullptr;
  }

  static EvaluationRow row(const std::string& name, const at::Tensor& latents, const at::Tensor& teacher) {
    return {.name = name,
            .effective_nfe = 2,
            .seconds_per_sample = 0.5,
            .score = evaluator->measure(latents, teacher),
            .samples = latents};
  }
  // Videos of the captions that were asked for, the first `missed` of them black.
  static at::Tensor samples(int64_t missed) {
    const data::ToyShapesSpec spec = data::ToyShapesSpec::mini();
    const data::ChannelStatistics statistics = data::toy_shapes_statistics(spec);
    std::vector<at::Tensor> latents;
    for (int64_t i = 0; i < kCount; ++i) {
      at::Tensor video =
          render_toy_shape(spec, data::toy_shapes_label(spec, 3, i), data::toy_shapes_jitter(9, i));
      if (i < missed) video.fill_(-1);
      latents.push_back(
          data::normalise(data::make_codec("pixels-2x2")->encode(video), statistics.mean, statistics.std));
    }
    return at::stack(latents);
  }

  static inline std::unique_ptr<Evaluator> evaluator;
  static inline json report;
};

TEST_F(EvalReport, says_what_was_evaluated) {
  EXPECT_EQ(report["format"], "tmd-eval");
  EXPECT_EQ(report["version"], 2);
  EXPECT_EQ(report["judge"], "shapes");
  EXPECT_EQ(report["samples"], kCount);
  EXPECT_EQ(report["seed"], 3);
  EXPECT_EQ(report["run"]["step"], 9);
  EXPECT_EQ(report["prompt_of_sample"].size(), static_cast<size_t>(kCount));
  const json& first = report["prompts"][0];
  EXPECT_EQ(first["first"], 0);
  EXPECT_EQ(first["hash"].get<std::string>().size(), 16u);
  const auto words = toy_caption_words(data::ToyShapesSpec::mini(),
                                       data::toy_shapes_label(data::ToyShapesSpec::mini(), 3, 0));
  EXPECT_EQ(first["text"], fmt::format("{}", fmt::join(words, " ")));
  const json &teacher = report["rows"][0]["method"], &student = report["rows"][2]["method"];
  EXPECT_EQ(teacher["network"], "teacher");
  EXPECT_EQ(teacher["steps"], 50);
  EXPECT_EQ(teacher["grid"], "wan");
  EXPECT_EQ(teacher["model_time"], "integer");
  EXPECT_EQ(student["network"], "student");
  EXPECT_EQ(student["name"], "tmd");
  EXPECT_EQ(student["outer_steps"], 2);
  EXPECT_TRUE(student.contains("inner_steps"));
}

TEST_F(EvalReport, rows_have_values_and_intervals_around_their_means) {
  const json& student = report["rows"][2];
  EXPECT_DOUBLE_EQ(student["metrics"]["joint"].get<double>(), 54.0 / 64);
  EXPECT_EQ(student["values"]["joint"].size(), static_cast<size_t>(kCount));
  for (const auto& [key, ends] : student["intervals"].items()) {
    EXPECT_LE(ends[0].get<double>(), student["metrics"][key].get<double>() + 1e-9) << key;
    EXPECT_GE(ends[1].get<double>(), student["metrics"][key].get<double>() - 1e-9) << key;
  }
  EXPECT_TRUE(student["intervals"].contains("motion_energy_to_teacher"));
  EXPECT_FALSE(report["rows"][0]["metrics"]["teacher_distance"].is_number());
}

TEST_F(EvalReport, student_is_paired_with_the_teacher_of_as_many_steps) {
  ASSERT_EQ(report["differences"].size(), 1u);
  const json& pair = report["differences"][0];
  EXPECT_EQ(pair["a"], "teacher-2");
  EXPECT_EQ(pair["b"], "student-2");
  for (const json& change : pair["changes"]) {
    if (change["key"] != "joint") continue;
    EXPECT_DOUBLE_EQ(change["b"].get<double>() - change["a"].get<double>(), 30.0 / 64);
    EXPECT_EQ(change["verdict"], "better");
    EXPECT_GT(change["interval"][0].get<double>(), 0);
  }
}

TEST_F(EvalReport, text_reads_back_and_keeps_lists_of_numbers_together) {
  const std::string text = report_text(report);
  // Numbers that a sample has not are null in a file.
  EXPECT_EQ(json::parse(text), json::parse(report.dump()));
  EXPECT_NE(text.find("\n        \"joint\": [0"), std::string::npos);
  EXPECT_EQ(report_text(json{{"text", "\xff"}}), "{\n  \"text\": \"\xEF\xBF\xBD\"\n}\n");
}

TEST_F(EvalReport, a_file_compared_with_itself_shows_no_difference) {
  const data::TemporaryFolder folder;
  publish_file(folder / "a.json", report_text(report));
  const std::string text = compare_evaluations(folder / "a.json", folder / "a.json");
  EXPECT_NE(text.find("no difference"), std::string::npos);
  for (const char* verdict : {"better", "worse", "differs"})
    EXPECT_EQ(text.find(verdict), std::string::npos) << verdict << "\n" << text;
}

TEST_F(EvalReport, table_shows_real_data_rows_and_intervals) {
  const std::string table = vector_table(report);
  for (const evaluation::Metric& metric : evaluator->metrics())
    EXPECT_NE(table.find("\n" + metric.key), std::string::npos) << metric.key;
  EXPECT_NE(table.find("0.8438 ["), std::string::npos) << table;
  EXPECT_NE(table.find("near one"), std::string::npos);
}

}  // namespace
}  // namespace tmd::orchestrator
