// The metric vector against real videos that are damaged in known ways. Each damage must be seen by the
// metrics that can see it and must leave the others alone: the best guard against an evaluation that
// flatters.

#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/philox.h"
#include "data/toy_shapes.h"
#include "evaluation/shape_metrics.h"
#include "evaluation/shape_table.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kSamples = 1024;
constexpr uint64_t kSeed = 11, kDamagedSeed = 12;

using data::ShapeJitter;
using data::ShapeLabel;
using data::ToyShapesSpec;

std::vector<ShapeLabel> captions() {
  std::vector<ShapeLabel> labels;
  for (int64_t i = 0; i < kSamples; ++i) labels.push_back(toy_shapes_label(ToyShapesSpec::main(), kSeed, i));
  return labels;
}

PhiloxStream draws(int64_t sample) { return {kDamagedSeed, 0, static_cast<uint64_t>(sample), Purpose::kToy}; }

// What is drawn instead of sample i: `edit` changes the setting, the caption or what the caption leaves open.
struct Drawing {
  ToyShapesSpec spec = ToyShapesSpec::main();
  ShapeLabel label;
  ShapeJitter jitter;
};

template <class Edit>
at::Tensor drawn(const std::vector<ShapeLabel>& labels, Edit edit) {
  std::vector<at::Tensor> videos;
  for (int64_t i = 0; i < kSamples; ++i) {
    Drawing drawing{.label = labels[i], .jitter = data::toy_shapes_jitter(kDamagedSeed, i)};
    edit(i, drawing);
    videos.push_back(render_toy_shape(drawing.spec, drawing.label, drawing.jitter));
  }
  return at::stack(videos);
}

at::Tensor honest(const std::vector<ShapeLabel>& labels) {
  return drawn(labels, [](int64_t, Drawing&) {});
}

// The object of `reading` again, off its straight path by independent normal steps of `std` pixels.
at::Tensor trembling(const ShapeReading& reading, const ShapeLabel& label, double brightness, int64_t sample,
                     double std) {
  const ToyShapesSpec spec = ToyShapesSpec::main();
  const auto colour = data::toy_colour(label.colour);
  at::Tensor video = at::full({3, spec.frames, spec.size, spec.size}, -1.0, at::kFloat);
  auto pixels = video.accessor<float, 4>();
  for (int64_t f = 0; f < spec.frames; ++f) {
    const double cx =
        reading.x0 + reading.vx * static_cast<double>(f) + std * draws(sample).normal(100 + 2 * f);
    const double cy =
        reading.y0 + reading.vy * static_cast<double>(f) + std * draws(sample).normal(101 + 2 * f);
    for (int64_t y = 0; y < spec.size; ++y) {
      for (int64_t x = 0; x < spec.size; ++x) {
        const double covered = data::toy_coverage(spec.shapes[label.shape], static_cast<double>(x) + 0.5 - cx,
                                                  static_cast<double>(y) + 0.5 - cy,
                                                  (spec.radius_min + spec.radius_max) / 2, spec.edge_width);
        for (int64_t c = 0; c < 3; ++c)
          pixels[c][f][y][x] = static_cast<float>(2 * colour[c] * brightness * covered - 1);
      }
    }
  }
  return video;
}

at::Tensor jittered(const std::vector<ShapeLabel>& labels, const ShapeRules& rules) {
  const at::Tensor real = honest(labels);
  std::vector<at::Tensor> videos;
  for (int64_t i = 0; i < kSamples; ++i) {
    const double brightness = 0.8 + 0.2 * data::toy_shapes_jitter(kDamagedSeed, i).brightness;
    videos.push_back(trembling(rules.read(real[i]), labels[i], brightness, i, 0.7));
  }
  return at::stack(videos);
}

at::Tensor blurred(const at::Tensor& videos) {
  at::Tensor planes = (videos + 1).flatten(1, 2);  // [N, 3 F, S, S]
  for (int box = 0; box < 2; ++box) planes = at::avg_pool2d(planes, {3, 3}, {1, 1}, {1, 1});
  return planes.view(videos.sizes()) - 1;
}

// Noise of 0.1 of the brightness range; what leaves the range is clipped, as in a picture file.
at::Tensor noisy(const at::Tensor& videos) {
  std::vector<float> noise(videos.numel());
  PhiloxStream(kDamagedSeed, 1, 0, Purpose::kToy).fill_normal(std::span<float>(noise));
  return (videos + 0.2 * at::from_blob(noise.data(), videos.sizes(), at::kFloat)).clamp(-1, 1);
}

at::Tensor damaged(const std::string& name, const std::vector<ShapeLabel>& labels, const ShapeRules& rules) {
  if (name == "always starts left") return drawn(labels, [](int64_t, Drawing& d) { d.jitter.x *= 0.2; });
  if (name == "no motion") return drawn(labels, [](int64_t, Drawing& d) { d.spec.speeds = {0, 0}; });
  if (name == "speed x 0.6") {
    return drawn(labels, [](int64_t, Drawing& d) {
      for (double& speed : d.spec.speeds) speed *= 0.6;
    });
  }
  if (name == "20 % random direction") {
    return drawn(labels, [](int64_t i, Drawing& d) {
      if (draws(i).uniform(20) < 0.2) d.label.motion = static_cast<int64_t>(draws(i).below(21, 8));
    });
  }
  // The triangle reaches further than the others, so that the layout shrinks with it.
  if (name == "one shape only") return drawn(labels, [](int64_t, Drawing& d) { d.label.shape = 2; });
  if (name == "jitter 0.7 px") return jittered(labels, rules);
  if (name == "blur") return blurred(honest(labels));
  if (name == "pixel noise 0.1") return noisy(honest(labels));
  return honest(labels);
}

const std::vector<std::string> kDamages = {
    "none",           "always starts left", "no motion", "speed x 0.6",    "20 % random direction",
    "one shape only", "jitter 0.7 px",      "blur",      "pixel noise 0.1"};

void print_row(const std::string& name, const std::vector<std::string>& cells) {
  std::printf("%-22s", name.c_str());
  for (const std::string& cell : cells) std::printf(" %11s", cell.c_str());
  std::printf("\n");
}

// Whether a metric says that something is wrong.
struct Alarm {
  std::string name;
  bool (*rings)(const ShapeMetrics&);
};

bool is_off(double ratio, double tolerance) { return std::abs(ratio - 1) > tolerance; }

const std::vector<Alarm> kAlarms = {
    {"joint", [](const ShapeMetrics& m) { return m.joint.estimate < 0.97; }},
    {"shape", [](const ShapeMetrics& m) { return m.shape < 0.97; }},
    {"colour", [](const ShapeMetrics& m) { return m.colour < 0.97; }},
    {"motion", [](const ShapeMetrics& m) { return m.motion < 0.97; }},
    {"speed", [](const ShapeMetrics& m) { return m.speed < 0.97; }},
    {"FD", [](const ShapeMetrics& m) { return m.frechet > 3 * m.frechet_floor; }},
    {"coverage", [](const ShapeMetrics& m) { return m.coverage < 0.9; }},
    {"precision", [](const ShapeMetrics& m) { return m.precision < 0.85; }},
    {"entropy", [](const ShapeMetrics& m) { return is_off(m.position_entropy_ratio, 0.13); }},
    {"residual", [](const ShapeMetrics& m) { return m.residual > 0.2; }},
    {"speed ratio", [](const ShapeMetrics& m) { return is_off(*m.speed_ratio, 0.1); }},
    {"energy", [](const ShapeMetrics& m) { return is_off(m.motion_energy_ratio, 0.25); }},
    {"pixel SW", [](const ShapeMetrics& m) { return m.pixel_sliced_w1 > 1.3 * m.pixel_sliced_w1_floor; }},
    {"path SW", [](const ShapeMetrics& m) { return m.path_sliced_w1 > 2 * m.path_sliced_w1_floor; }},
};

class DamageTable : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::vector<ShapeLabel> labels = captions();
    const ShapeEvaluation evaluation(ToyShapesSpec::main(), labels, kSeed);
    print_row("damaged real set", shape_metric_headings());
    print_row("(second real set)", shape_metric_cells(evaluation.real()));
    for (const std::string& name : kDamages) {
      rows()[name] = evaluation.measure(damaged(name, labels, evaluation.rules()));
      print_row(name, shape_metric_cells(rows()[name]));
    }
  }
  static std::map<std::string, ShapeMetrics>& rows() {
    static std::map<std::string, ShapeMetrics> all;
    return all;
  }
  // The damage rings these alarms and no other.
  static void expect_alarms(const std::string& damage, const std::set<std::string>& expected) {
    std::set<std::string> seen;
    for (const Alarm& alarm : kAlarms) {
      if (alarm.rings(rows().at(damage))) seen.insert(alarm.name);
    }
    EXPECT_EQ(seen, expected) << damage;
  }
};

TEST_F(DamageTable, undamaged_set_rings_nothing_and_obeys_every_caption) {
  expect_alarms("none", {});
  EXPECT_EQ(rows().at("none").joint.estimate, 1);
}

TEST_F(DamageTable, lost_layouts_are_seen_by_distances_and_missed_by_every_accuracy) {
  expect_alarms("always starts left", {"FD", "coverage", "entropy", "pixel SW", "path SW"});
  EXPECT_LT(rows().at("always starts left").position_entropy_ratio, 1);
}

TEST_F(DamageTable, standing_still_has_more_places_than_real_and_no_direction) {
  expect_alarms("no motion", {"joint", "motion", "speed", "FD", "coverage", "entropy", "speed ratio",
                              "energy", "pixel SW", "path SW"});
  EXPECT_GT(rows().at("no motion").position_entropy_ratio, 1);
  EXPECT_EQ(rows().at("no motion").joint.estimate, 0);
}

TEST_F(DamageTable, slow_motion_is_seen_by_speed_and_makes_half_of_the_fast_ones_wrong) {
  expect_alarms("speed x 0.6", {"joint", "speed", "FD", "coverage", "speed ratio", "energy", "path SW"});
  EXPECT_NEAR(rows().at("speed x 0.6").speed_ratio.value(), 0.6, 0.02);
  EXPECT_NEAR(rows().at("speed x 0.6").speed, 0.5, 0.05);
}

TEST_F(DamageTable, wrong_directions_are_seen_by_the_caption_alone) {
  expect_alarms("20 % random direction", {"joint", "motion"});
  EXPECT_NEAR(rows().at("20 % random direction").motion, 1 - 0.2 * 7 / 8, 0.03);
}

TEST_F(DamageTable, missing_shapes_are_seen_by_the_caption_and_by_shape_features) {
  expect_alarms("one shape only", {"joint", "shape", "FD", "entropy", "pixel SW"});
  EXPECT_NEAR(rows().at("one shape only").shape, 0.25, 0.05);
}

TEST_F(DamageTable, trembling_is_seen_by_the_residual_and_missed_by_captions_and_pixels) {
  expect_alarms("jitter 0.7 px", {"FD", "coverage", "precision", "residual", "energy"});
  EXPECT_NEAR(*rows().at("jitter 0.7 px").residual, 0.7 * std::sqrt(2.0 * 14 / 16), 0.05);
}

TEST_F(DamageTable, blur_is_seen_by_shape_and_distances) {
  expect_alarms("blur", {"joint", "shape", "FD", "energy", "pixel SW"});
}

TEST_F(DamageTable, pixel_noise_is_seen_by_all_but_colour_and_direction) {
  std::set<std::string> all;
  for (const Alarm& alarm : kAlarms) all.insert(alarm.name);
  all.erase("colour");
  all.erase("motion");
  expect_alarms("pixel noise 0.1", all);
}

}  // namespace
}  // namespace tmd::evaluation
