#include "orchestrator/evaluator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../data/expect_error.h"
#include "../data/small_file.h"
#include "../data/temporary_folder.h"
#include "base/philox.h"
#include "data/toy_file.h"
#include "data/toy_mixture.h"
#include "orchestrator/judge.h"

namespace tmd::orchestrator {
namespace {

using data::expect_error;
using data::TemporaryFolder;

constexpr int64_t kCount = 34;

at::Tensor noise(uint64_t seed, int64_t rows) {
  at::Tensor latents = at::empty({rows, 12, 2, 2, 3}, at::kFloat);
  PhiloxStream(seed, 0, 0, Purpose::kToy)
      .fill_normal(std::span<float>(latents.mutable_data_ptr<float>(), latents.numel()));
  return latents;
}

// Latents of noise; `prompts` different prompts in turn.
std::filesystem::path noise_file(const TemporaryFolder& folder, int64_t prompts) {
  const data::LatentHeader header = data::small_header(2 * kCount);
  const at::Tensor latents = noise(1, 2 * kCount);
  data::LatentWriter writer(folder / "noise.h5", header);
  for (int64_t i = 0; i < header.samples; ++i) {
    data::Sample sample = data::small_sample(header, 1 + 4 * (i % prompts));
    sample.latent = latents[i];
    writer.write(i, sample);
  }
  writer.write_negative_text({at::zeros(header.text_shape, at::kFloat), 1});
  writer.finish();
  return folder / "noise.h5";
}

TEST(Evaluator, fewer_samples_than_a_metric_needs_are_refused_with_the_number) {
  const TemporaryFolder folder;
  data::write_toy_shapes(folder / "shapes.h5", data::ToyShapesSpec::mini(), 1, 0, 4);
  data::write_toy_mixture(folder / "mixture.h5", {}, 1, 0, 4);
  data::DataSet shapes({folder / "shapes.h5"}), mixture({folder / "mixture.h5"}),
      latents({noise_file(folder, 1)});
  const auto refused = [](data::DataSet& set, int64_t count, const std::string& message) {
    expect_error(ErrorKind::kUsage, message, [&] { Evaluator::make(set, count, 1); });
  };
  refused(shapes, 11, "the Fréchet distance of 11 features needs 12");
  refused(mixture, 7, "covering 8 modes needs 8");
  refused(latents, 32, "the Fréchet distance of 32 features needs 33");
  EXPECT_EQ(Evaluator::make(shapes, 12, 1)->judge(), "shapes");
  EXPECT_EQ(Evaluator::make(mixture, 8, 1)->judge(), "mixture");
  EXPECT_EQ(Evaluator::make(latents, 33, 1)->judge(), "latents");
}

TEST(Evaluator, a_set_that_is_too_small_for_references_is_bad_data) {
  const TemporaryFolder folder;
  data::DataSet latents({noise_file(folder, 1)});
  expect_error(ErrorKind::kData, "has 68 samples, the evaluation needs 70",
               [&] { Evaluator::make(latents, 35, 1); });
}

TEST(Evaluator, prompts_that_differ_are_repeated_for_the_diversity) {
  const TemporaryFolder folder;
  data::DataSet set({noise_file(folder, kCount)});
  const auto evaluator = Evaluator::make(set, kCount, 1);
  EXPECT_EQ(evaluator->count(), kCount);
  EXPECT_EQ(evaluator->prompts().size(), static_cast<size_t>(kCount));
  const auto& rows = evaluator->prompt_of_row();
  ASSERT_EQ(evaluator->text().size(0), kCount + 8 * 3);
  ASSERT_EQ(rows.size(), static_cast<size_t>(kCount + 8 * 3));
  for (int64_t prompt = 0; prompt < kCount; ++prompt)
    EXPECT_EQ(std::ranges::count(rows, prompt), prompt < 8 ? 4 : 1) << prompt;
  EXPECT_TRUE(evaluator->text()[kCount].equal(evaluator->text()[0]));
  EXPECT_EQ(evaluator->prompts()[2].text, "prompt ä 9");

  const Score teacher = evaluator->measure(noise(2, kCount + 24));
  EXPECT_TRUE(teacher.json["prompt_diversity_ratio"].is_null());
  EXPECT_EQ(teacher.values.at("prompt_diversity").size(), 8u);
  const Score student = evaluator->measure(noise(3, kCount + 24), noise(2, kCount + 24));
  EXPECT_NEAR(student.json["prompt_diversity_ratio"].get<double>(), 1, 0.3);
  EXPECT_EQ(student.json["prompt_diversity_ratio_to"], "teacher");
}

TEST(Evaluator, prompts_that_repeat_are_held_against_the_data) {
  const TemporaryFolder folder;
  data::DataSet set({noise_file(folder, 4)});
  const auto evaluator = Evaluator::make(set, kCount, 1);
  EXPECT_EQ(evaluator->text().size(0), kCount);
  EXPECT_EQ(evaluator->prompts().size(), 4u);
  EXPECT_EQ(evaluator->prompts()[3].first, 3);
  const Score score = evaluator->measure(noise(2, kCount));
  EXPECT_NEAR(score.json["prompt_diversity_ratio"].get<double>(), 1, 0.2);
  EXPECT_EQ(score.json["prompt_diversity_ratio_to"], "data");
}

TEST(Evaluator, every_metric_stands_in_the_score_and_means_are_those_of_their_values) {
  const TemporaryFolder folder;
  data::write_toy_shapes(folder / "shapes.h5", data::ToyShapesSpec::mini(), 1, 0, 96);
  data::write_toy_mixture(folder / "mixture.h5", {}, 1, 0, 96);
  for (const auto& file : {folder / "shapes.h5", folder / "mixture.h5", noise_file(folder, 4)}) {
    data::DataSet set({file});
    const auto evaluator = Evaluator::make(set, kCount, 1);
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < kCount; ++i) rows.push_back(std::get<data::Sample>(set.read(i)).latent);
    const at::Tensor samples = at::stack(rows);
    const Score score = evaluator->measure(samples.flip(0), samples);
    for (const evaluation::Metric& metric : evaluator->metrics()) {
      ASSERT_TRUE(score.json.contains(metric.key)) << evaluator->judge() << " " << metric.key;
      EXPECT_TRUE(score.json[metric.key].is_number()) << evaluator->judge() << " " << metric.key;
      EXPECT_TRUE(evaluator->floor().json.contains(metric.key)) << evaluator->judge() << " " << metric.key;
    }
    EXPECT_FALSE(score.values.empty());
    for (const auto& [key, values] : score.values)
      EXPECT_NEAR(score.json.at(key).get<double>(), evaluation::mean_of(values), 1e-9) << key;
    // The teacher itself agrees with itself.
    EXPECT_EQ(evaluator->measure(samples, samples).json["teacher_distance"], 0) << evaluator->judge();
    EXPECT_TRUE(evaluator->measure(samples).json["teacher_distance"].is_null());
  }
}

// Samples have the prompts of the first rows of the data: those rows themselves score the floor, no less.
TEST(Evaluator, copies_of_the_data_score_the_floor) {
  const TemporaryFolder folder;
  data::DataSet set({noise_file(folder, 4)});
  const auto evaluator = Evaluator::make(set, kCount, 1);
  const Score copies = evaluator->measure(noise(1, 2 * kCount).narrow(0, 0, kCount)),
              floor = evaluator->floor();
  for (const char* key : {"frechet", "sliced_w1", "coverage", "precision"})
    EXPECT_EQ(copies.json[key], floor.json[key]) << key;
  EXPECT_EQ(floor.json["frechet"], floor.json["frechet_floor"]);
  EXPECT_EQ(copies.json["nearest_ratio"], 0);
}

TEST(Evaluator, the_mixture_is_held_against_points_that_are_not_of_the_training_set) {
  const TemporaryFolder folder;
  data::write_toy_mixture(folder / "mixture.h5", {}, 1, 0, 96);
  data::DataSet set({folder / "mixture.h5"});
  const auto evaluator = Evaluator::make(set, 96, 1);
  const nlohmann::json floor = evaluator->floor().json;
  EXPECT_NEAR(floor["sliced_w2"].get<double>(), floor["sliced_w2_floor"].get<double>(), 1e-6);
  EXPECT_GT(evaluator->measure(data::toy_mixture_latents({}, 1, 0, 96)).json["sliced_w2"], 0);
}

TEST(MetricNamed, what_is_held_against_the_teacher_judges_no_checkpoint) {
  const TemporaryFolder folder;
  data::DataSet repeats({noise_file(folder, 4)});
  EXPECT_EQ(metric_named(*Evaluator::make(repeats, kCount, 1), "prompt_diversity_ratio").better,
            evaluation::Better::kNearOne);
  data::write_toy_shapes(folder / "shapes.h5", data::ToyShapesSpec::mini(), 1, 0, 4);
  data::DataSet differ({noise_file(folder, kCount)}), shapes({folder / "shapes.h5"});
  const auto latents = Evaluator::make(differ, kCount, 1), videos = Evaluator::make(shapes, kCount, 1);
  const auto refused = [](const Evaluator& evaluator, const std::string& name, const std::string& message) {
    expect_error(ErrorKind::kConfig, message, [&] { metric_named(evaluator, name); });
  };
  for (const char* name : {"prompt_diversity_ratio", "temporal_energy_to_teacher", "teacher_distance"})
    refused(*latents, name, "needs samples of the teacher");
  refused(*videos, "motion_energy_to_teacher", "needs samples of the teacher");
  refused(*videos, "beauty", "cannot say how good samples of this data are");
  EXPECT_EQ(metric_named(*videos, "prompt_diversity_ratio").better, evaluation::Better::kNearOne);
}

TEST(Evaluator, other_data_are_another_reference) {
  const TemporaryFolder folder;
  data::DataSet set({noise_file(folder, 4)});
  const std::string whole = Evaluator::make(set, kCount, 1)->reference();
  EXPECT_EQ(whole, Evaluator::make(set, kCount, 2)->reference());
  EXPECT_NE(whole, Evaluator::make(set, kCount - 1, 1)->reference());
}

}  // namespace
}  // namespace tmd::orchestrator
