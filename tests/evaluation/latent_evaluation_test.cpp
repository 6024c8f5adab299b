// The metric vector for any latents against "real" ones that are damaged in known ways: each damage must be
// seen by the metrics that can see it and leave the others alone.

#include "evaluation/latent_evaluation.h"

#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "../support/error_of.h"
#include "base/error.h"
#include "base/philox.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kSamples = 128, kPrompts = 16, kChannels = 3, kFrames = 6, kSize = 8;

// A soft blob that drifts over a faint texture; the prompt decides the direction and the channel mixture.
struct Blob {
  double x, y, speed, strength;
};

Blob blob(uint64_t seed, int64_t index) {
  const PhiloxStream draws(seed, 0, static_cast<uint64_t>(index), Purpose::kToy);
  return {2 + 3 * draws.uniform(0), 2 + 3 * draws.uniform(1), 0.3 + 0.2 * draws.uniform(2),
          2 + draws.uniform(3)};
}

struct Damage {
  double speed = 1, tremble = 0;
  bool is_left = false, is_one_per_prompt = false;
};

at::Tensor latent(uint64_t seed, int64_t index, const Damage& damage) {
  const int64_t prompt = index % kPrompts, source = damage.is_one_per_prompt ? prompt : index;
  Blob b = blob(seed, source);
  if (damage.is_left) b.x = 2 + 0.2 * (b.x - 2);
  const PhiloxStream draws(seed, 1, static_cast<uint64_t>(source), Purpose::kToy);
  const double angle = 2 * M_PI * static_cast<double>(prompt) / static_cast<double>(kPrompts);
  at::Tensor out = at::empty({kChannels, kFrames, kSize, kSize}, at::kFloat);
  auto values = out.accessor<float, 4>();
  uint64_t number = 0;
  for (int64_t t = 0; t < kFrames; ++t) {
    const double moved = b.speed * damage.speed * static_cast<double>(t);
    const double x = b.x + std::cos(angle) * moved + damage.tremble * draws.normal(5000 + 2 * t);
    const double y = b.y + std::sin(angle) * moved + damage.tremble * draws.normal(5001 + 2 * t);
    for (int64_t i = 0; i < kSize; ++i) {
      for (int64_t j = 0; j < kSize; ++j) {
        const double dx = static_cast<double>(j) - x, dy = static_cast<double>(i) - y;
        const double shape = b.strength * std::exp(-(dx * dx + dy * dy) / 3);
        for (int64_t c = 0; c < kChannels; ++c) {
          const double share = std::cos(angle + static_cast<double>(c));
          values[c][t][i][j] = static_cast<float>(share * shape + 0.1 * draws.normal(number++));
        }
      }
    }
  }
  return out;
}

at::Tensor set(uint64_t seed, const Damage& damage = {}) {
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < kSamples; ++i) rows.push_back(latent(seed, i, damage));
  return at::stack(rows);
}

std::vector<int64_t> prompts() {
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < kSamples; ++i) numbers.push_back(i % kPrompts);
  return numbers;
}

at::Tensor decode(const at::Tensor& z) { return (z / 4).clamp(-1, 1); }

const LatentEvaluation& evaluation() {
  static const LatentEvaluation once(set(1), set(2), prompts(), 4, decode);
  return once;
}

at::Tensor blurred(const at::Tensor& latents) {
  return at::avg_pool2d(latents.flatten(1, 2), {3, 3}, {1, 1}, {1, 1}).view(latents.sizes());
}

at::Tensor damaged(const std::string& name) {
  if (name == "frozen") return set(3, {.speed = 0}).narrow(2, 0, 1).expand({-1, -1, kFrames, -1, -1});
  if (name == "slow motion") return set(3, {.speed = 0.3});
  if (name == "trembling") return set(3, {.tremble = 0.7});
  if (name == "always left") return set(3, {.is_left = true});
  if (name == "one layout a prompt") return set(3, {.is_one_per_prompt = true});
  if (name == "blurred") return blurred(set(3));
  if (name == "glaring") return 1.5 * set(3);
  if (name == "shifted") return set(3) + 0.3;
  if (name == "copies of the data") return set(1);
  return set(3);
}

const std::vector<std::string> kDamages = {
    "none",    "frozen",  "slow motion", "trembling",         "always left", "one layout a prompt",
    "blurred", "glaring", "shifted",     "copies of the data"};

bool is_off(const std::optional<double>& ratio, double tolerance) { return std::abs(*ratio - 1) > tolerance; }

// Whether a metric says that something is wrong.
struct Alarm {
  std::string name;
  double (*value)(const LatentScore&);
  bool (*rings)(const LatentScore&);
};

const std::vector<Alarm> kAlarms = {
    {"SW", [](const LatentScore& s) { return s.latents.sliced_w1 / s.latents.sliced_w1_floor; },
     [](const LatentScore& s) { return s.latents.sliced_w1 > 1.35 * s.latents.sliced_w1_floor; }},
    {"FD", [](const LatentScore& s) { return s.frechet / s.frechet_floor; },
     [](const LatentScore& s) { return s.frechet > 1.5 * s.frechet_floor; }},
    {"coverage", [](const LatentScore& s) { return s.coverage; },
     [](const LatentScore& s) { return s.coverage < 0.75; }},
    {"precision", [](const LatentScore& s) { return s.precision; },
     [](const LatentScore& s) { return s.precision < 0.8; }},
    {"diversity", [](const LatentScore& s) { return *s.prompt_diversity_ratio; },
     [](const LatentScore& s) { return is_off(s.prompt_diversity_ratio, 0.15); }},
    {"energy", [](const LatentScore& s) { return *s.latents.temporal_energy_ratio; },
     [](const LatentScore& s) { return is_off(s.latents.temporal_energy_ratio, 0.2); }},
    {"saturation", [](const LatentScore& s) { return *s.saturation_ratio; },
     [](const LatentScore& s) { return is_off(s.saturation_ratio, 0.1); }},
    {"contrast", [](const LatentScore& s) { return *s.contrast_ratio; },
     [](const LatentScore& s) { return is_off(s.contrast_ratio, 0.1); }},
    {"mean drift", [](const LatentScore& s) { return s.latents.largest_mean_drift(); },
     [](const LatentScore& s) { return s.latents.largest_mean_drift() > 0.2; }},
    {"std drift", [](const LatentScore& s) { return s.latents.largest_std_drift(); },
     [](const LatentScore& s) { return s.latents.largest_std_drift() > 0.15; }},
    {"nearest", [](const LatentScore& s) { return *s.nearest_ratio; },
     [](const LatentScore& s) { return is_off(s.nearest_ratio, 0.3); }}};

class LatentDamage : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::printf("%-20s", "");
    for (const Alarm& alarm : kAlarms) std::printf(" %10s", alarm.name.c_str());
    for (const std::string& name : kDamages) {
      scores()[name] = evaluation().measure(damaged(name));
      std::printf("\n%-20s", name.c_str());
      for (const Alarm& alarm : kAlarms) std::printf(" %10.3f", alarm.value(scores()[name]));
    }
    std::printf("\n");
  }
  static std::map<std::string, LatentScore>& scores() {
    static std::map<std::string, LatentScore> all;
    return all;
  }
  // The damage rings these alarms and no other.
  static void expect_alarms(const std::string& damage, const std::set<std::string>& expected) {
    std::set<std::string> seen;
    for (const Alarm& alarm : kAlarms) {
      if (alarm.rings(scores().at(damage))) seen.insert(alarm.name);
    }
    EXPECT_EQ(seen, expected) << damage;
  }
};

TEST_F(LatentDamage, undamaged_samples_ring_nothing) { expect_alarms("none", {}); }

TEST_F(LatentDamage, lost_motion_is_seen_by_energy_and_features) {
  expect_alarms("frozen", {"SW", "FD", "coverage", "precision", "energy", "nearest"});
  EXPECT_EQ(*scores().at("frozen").latents.temporal_energy_ratio, 0);
  expect_alarms("slow motion", {"SW", "FD", "energy", "nearest"});
}

TEST_F(LatentDamage, trembling_is_seen_by_energy_and_features_and_missed_by_latents) {
  expect_alarms("trembling", {"FD", "coverage", "precision", "diversity", "energy", "nearest"});
}

TEST_F(LatentDamage, lost_layouts_are_seen_by_distances_coverage_and_diversity) {
  expect_alarms("always left", {"SW", "FD", "coverage", "diversity"});
  expect_alarms("one layout a prompt", {"SW", "FD", "coverage", "diversity"});
  EXPECT_LT(*scores().at("one layout a prompt").prompt_diversity_ratio, 0.01);
}

TEST_F(LatentDamage, blur_is_seen_by_nearly_all) {
  expect_alarms("blurred", {"SW", "FD", "coverage", "precision", "diversity", "energy", "saturation",
                            "contrast", "std drift", "nearest"});
}

TEST_F(LatentDamage, glaring_and_shifted_samples_are_told_apart_by_drift) {
  expect_alarms("glaring", {"SW", "FD", "coverage", "precision", "diversity", "energy", "saturation",
                            "contrast", "std drift", "nearest"});
  EXPECT_NEAR(*scores().at("glaring").saturation_ratio, 1.5, 0.05);
  EXPECT_NEAR(*scores().at("glaring").contrast_ratio, 1.5, 0.05);
  expect_alarms("shifted", {"SW", "FD", "coverage", "precision", "mean drift", "nearest"});
}

// To every other metric copies are a perfect set.
TEST_F(LatentDamage, copies_of_the_data_are_seen_by_the_nearest_row_alone) {
  expect_alarms("copies of the data", {"nearest"});
  EXPECT_EQ(*scores().at("copies of the data").nearest_ratio, 0);
}

TEST(LatentEvaluation, floor_is_the_score_of_the_second_real_set) {
  const LatentScore& floor = evaluation().floor();
  EXPECT_GT(floor.frechet, 0);
  EXPECT_EQ(floor.frechet, floor.frechet_floor);
  EXPECT_EQ(evaluation().measure(set(3)).frechet_floor, floor.frechet);
  EXPECT_EQ(floor.latents.sliced_w1, floor.latents.sliced_w1_floor);
  EXPECT_NEAR(*floor.nearest_ratio, 1, 0.1);
  EXPECT_FALSE(floor.prompt_diversity_ratio.has_value());
}

TEST(LatentEvaluation, teacher_distance_is_0_for_its_samples_and_1_for_unrelated_ones) {
  const at::Tensor teacher = set(5, {.speed = 0.8});
  EXPECT_FALSE(evaluation().measure(teacher).teacher_distance.has_value());
  const LatentScore same = evaluation().measure(teacher, teacher);
  EXPECT_EQ(*same.teacher_distance, 0);
  EXPECT_DOUBLE_EQ(*same.temporal_energy_to_teacher, 1);
  // Five prompts further.
  EXPECT_NEAR(*evaluation().measure(teacher.roll(5, 0), teacher).teacher_distance, 1, 0.25);
  const LatentScore near = evaluation().measure(teacher + 0.05, teacher);
  EXPECT_GT(*near.teacher_distance, 0);
  EXPECT_LT(*near.teacher_distance, 0.3);
  // Motion is held against the teacher and against the data.
  EXPECT_GT(*evaluation().measure(set(5), teacher).temporal_energy_to_teacher, 1.1);
}

TEST(LatentEvaluation, further_rows_serve_the_diversity_alone_against_the_teacher) {
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < kSamples; ++i) numbers.push_back(i);
  for (int64_t i = 0; i < 12; ++i) numbers.push_back(i / 3);  // prompts 0 to 3 three times more
  const LatentEvaluation more(set(1), set(2), numbers, 4);
  const at::Tensor few = set(5).narrow(0, 0, 1).expand({12, -1, -1, -1, -1});
  const at::Tensor samples = at::cat({set(3), few}), teacher = at::cat({set(3), set(6).narrow(0, 0, 12)});
  const LatentScore alone = more.measure(samples), score = more.measure(samples, teacher);
  EXPECT_EQ(score.frechet, evaluation().measure(set(3)).frechet);
  EXPECT_FALSE(alone.prompt_diversity_ratio.has_value());
  EXPECT_EQ(alone.values.at("prompt_diversity").size(), 4u);
  EXPECT_TRUE(score.is_diversity_to_teacher);
  EXPECT_LT(*score.prompt_diversity_ratio, 0.9);
  EXPECT_FALSE(score.saturation_ratio.has_value());  // nothing decodes
}

TEST(LatentEvaluation, json_holds_every_metric_that_rows_are_compared_by) {
  const nlohmann::json json = to_json(evaluation().measure(set(3), set(5)));
  for (const Metric& metric : latent_metric_list()) {
    ASSERT_TRUE(json.contains(metric.key)) << metric.key;
    EXPECT_TRUE(json[metric.key].is_number()) << metric.key;
  }
  EXPECT_EQ(json["prompt_diversity_ratio_to"], "data");
}

TEST(LatentEvaluation, bad_input_is_an_error) {
  EXPECT_THROW(evaluation().measure(set(3).narrow(0, 0, 8)), Error);
  EXPECT_THROW(evaluation().measure(set(3).narrow(2, 0, 3)), Error);
  at::Tensor broken = set(3);
  broken[70][0][0][0][0] = NAN;
  EXPECT_EQ(test::error_of([&] { evaluation().measure(broken); }).kind(), ErrorKind::kDiverged);
  const at::Tensor few = set(1).narrow(0, 0, 32);
  EXPECT_THROW(LatentEvaluation(few, few, std::vector<int64_t>(32), 4), Error);
}

}  // namespace
}  // namespace tmd::evaluation
