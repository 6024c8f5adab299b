#include "data/toy_shapes.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/expect_error.h"

namespace tmd::data {
namespace {

// Brightness over black, [frames, size, size] in [0, 1].
at::Tensor light(const at::Tensor& video) { return ((video + 1) / 2).amax(0); }

// Mass-weighted mean position of each frame in pixels, [frames, 2] as (x, y).
at::Tensor centroids(const at::Tensor& video) {
  const at::Tensor mass = light(video).to(at::kDouble);
  const at::Tensor place = at::arange(mass.size(2), at::kDouble) + 0.5, total = mass.sum({1, 2});
  return at::stack({(mass.sum(1) * place).sum(1) / total, (mass.sum(2) * place).sum(1) / total}, 1);
}

double scalar(const at::Tensor& tensor) { return tensor.item<double>(); }

class ToyShapesTest : public testing::TestWithParam<bool> {
 protected:
  ToyShapesSpec spec_ = GetParam() ? ToyShapesSpec::main() : ToyShapesSpec::mini();
};
INSTANTIATE_TEST_SUITE_P(Settings, ToyShapesTest, testing::Bool(),
                         [](const auto& setting) { return setting.param ? "main" : "mini"; });

TEST_P(ToyShapesTest, motion_is_what_the_label_says) {
  spec_.validate();
  for (int64_t i = 0; i < 60; ++i) {
    const ToyShapesSample sample = toy_shapes_sample(spec_, 3, i);
    const at::Tensor path = centroids(sample.video);
    const auto [vx, vy] = toy_velocity(spec_, sample.label, toy_shapes_jitter(3, i));
    const bool is_still = spec_.motions[sample.label.motion] == ToyMotion::kStill;
    EXPECT_NEAR(std::hypot(vx, vy), is_still ? 0 : spec_.speeds[sample.label.speed], 1e-12);
    const at::Tensor steps = path.slice(0, 1) - path.slice(0, 0, -1);
    const double frames = static_cast<double>(spec_.frames - 1);
    EXPECT_NEAR(scalar(steps.sum(0)[0]) / frames, vx, 0.03) << i;
    EXPECT_NEAR(scalar(steps.sum(0)[1]) / frames, vy, 0.03) << i;
    EXPECT_LT(scalar((steps - steps.mean(0)).abs().max()), 0.2) << "constant speed";
  }
}

TEST_P(ToyShapesTest, shape_stays_inside_and_keeps_its_mass) {
  for (int64_t i = 0; i < 60; ++i) {
    const at::Tensor mass = light(toy_shapes_sample(spec_, 4, i).video).to(at::kDouble);
    const at::Tensor per_frame = mass.sum({1, 2});
    EXPECT_LT(scalar((per_frame.max() - per_frame.min()) / per_frame.mean()), 0.06) << i;
    // A path that stays inside leaves the outermost pixels half covered at most.
    for (const at::Tensor& edge :
         {mass.select(1, 0), mass.select(1, -1), mass.select(2, 0), mass.select(2, -1)}) {
      EXPECT_LT(scalar(edge.max()), 0.95);
    }
  }
}

TEST_P(ToyShapesTest, colour_and_brightness) {
  for (int64_t i = 0; i < 40; ++i) {
    const ToyShapesSample sample = toy_shapes_sample(spec_, 5, i);
    const at::Tensor pixels = ((sample.video + 1) / 2).amax({1, 2, 3}).to(at::kDouble);  // [3]
    const auto colour = toy_colour(sample.label.colour);
    const double brightness = scalar(pixels.max());
    EXPECT_GE(brightness, spec_.brightness_min - 1e-6);
    EXPECT_LE(brightness, 1 + 1e-6);
    for (int64_t c = 0; c < 3; ++c) EXPECT_NEAR(scalar(pixels[c]), colour[c] * brightness, 1e-6);
    EXPECT_EQ(sample.video.min().item<float>(), -1);
  }
}

TEST_P(ToyShapesTest, shapes_are_told_apart_by_correlation) {
  // The centroid-aligned template of the right shape fits best.
  for (int64_t i = 0; i < 60; ++i) {
    const ToyShapesSample sample = toy_shapes_sample(spec_, 6, i);
    const at::Tensor mass = light(sample.video).to(at::kDouble)[2].contiguous();
    const at::Tensor centre = centroids(sample.video)[2];
    std::vector<double> fits;
    for (ToyShape shape : spec_.shapes) {
      at::Tensor expected = at::empty_like(mass);
      const double radius = (spec_.radius_min + spec_.radius_max) / 2;
      for (int64_t y = 0; y < spec_.size; ++y) {
        for (int64_t x = 0; x < spec_.size; ++x) {
          expected[y][x] =
              toy_coverage(shape, static_cast<double>(x) + 0.5 - scalar(centre[0]),
                           static_cast<double>(y) + 0.5 - scalar(centre[1]), radius, spec_.edge_width);
        }
      }
      fits.push_back(scalar((mass * expected).sum() / (mass.norm() * expected.norm())));
    }
    EXPECT_EQ(std::ranges::max_element(fits) - fits.begin(), sample.label.shape) << i;
  }
}

TEST_P(ToyShapesTest, samples_are_pure_functions_and_labels_uniform) {
  std::set<int64_t> seen;
  std::vector<int64_t> motions(spec_.motions.size());
  for (int64_t i = 0; i < 4000; ++i) {
    const ShapeLabel label = toy_shapes_label(spec_, 1, i);
    ++motions[label.motion];
    for (int64_t caption = 0; caption < toy_caption_count(spec_); ++caption) {
      if (i < 200 && toy_caption_label(spec_, caption) == label) seen.insert(caption);
    }
  }
  EXPECT_GT(static_cast<double>(seen.size()), 0.45 * static_cast<double>(toy_caption_count(spec_)));
  for (int64_t count : motions) {
    EXPECT_NEAR(static_cast<double>(count), 4000.0 / static_cast<double>(motions.size()), 130);
  }
  EXPECT_TRUE(toy_shapes_sample(spec_, 1, 9).video.equal(toy_shapes_sample(spec_, 1, 9).video));
  EXPECT_FALSE(toy_shapes_sample(spec_, 1, 9).video.equal(toy_shapes_sample(spec_, 2, 9).video));
}

TEST_P(ToyShapesTest, start_is_uniform_over_what_stays_inside) {
  const ShapeLabel label{};
  const double path = spec_.speeds[0] * static_cast<double>(spec_.frames - 1);
  const auto start = [&](double u) {
    return centroids(render_toy_shape(spec_, label, {.x = u, .y = 0.5, .radius = 0}))[0];
  };
  const double half = spec_.radius_min * (GetParam() ? 1 : 1.3), size = static_cast<double>(spec_.size);
  EXPECT_NEAR(scalar(start(0)[0]), half, 0.12);
  EXPECT_NEAR(scalar(start(1)[0]), size - half - path, 0.12);
  EXPECT_NEAR(scalar(start(0.5)[0]), (size - path) / 2, 0.05);
  EXPECT_NEAR(scalar(start(0.5)[1]), size / 2, 0.05);
}

TEST(ToyShapes, coverage_of_pixels) {
  EXPECT_EQ(toy_coverage(ToyShape::kDisc, 0, 0, 3, 1), 1);
  EXPECT_NEAR(toy_coverage(ToyShape::kDisc, 3, 0, 3, 1), 0.5, 1e-12);
  EXPECT_NEAR(toy_coverage(ToyShape::kDisc, 3.5, 0, 3, 2), 0.25, 1e-12) << "a soft edge";
  EXPECT_EQ(toy_coverage(ToyShape::kWideBar, 3.3, 0, 3, 1), 1);
  EXPECT_EQ(toy_coverage(ToyShape::kTallBar, 3.3, 0, 3, 1), 0);
  EXPECT_EQ(toy_coverage(ToyShape::kDisc, 3, 3, 3, 1), 0);
  EXPECT_EQ(toy_coverage(ToyShape::kCross, 2, 2, 3, 1), 0.0) << "between the arms";
  EXPECT_EQ(toy_coverage(ToyShape::kSquare, 2, 2, 3, 1), 1) << "a corner";
  EXPECT_EQ(toy_coverage(ToyShape::kTriangle, 2.2, -3, 3, 1), 0) << "beside the tip";
  EXPECT_EQ(toy_coverage(ToyShape::kTriangle, 2.2, 1.2, 3, 1), 1) << "above the base";
}

TEST(ToyShapes, areas_are_alike_and_centred) {
  for (ToyShape shape : {ToyShape::kDisc, ToyShape::kSquare, ToyShape::kTriangle, ToyShape::kCross,
                         ToyShape::kWideBar, ToyShape::kTallBar}) {
    double area = 0, moment_x = 0, moment_y = 0;
    for (int y = -100; y <= 100; ++y) {
      for (int x = -100; x <= 100; ++x) {
        const double covered = toy_coverage(shape, x, y, 50, 2);
        area += covered;
        moment_x += covered * x;
        moment_y += covered * y;
      }
    }
    EXPECT_NEAR(area / (std::acos(-1.0) * 2500), 1, 0.04) << name(shape);
    EXPECT_NEAR(moment_x / area, 0, 0.3) << name(shape);
    EXPECT_NEAR(moment_y / area, 0, 0.3) << name(shape);
  }
}

TEST(ToyShapes, directions_of_words) {
  EXPECT_EQ(directions(ToyMotion::kUp).front(), (std::array<double, 2>{0, -1}));
  EXPECT_EQ(directions(ToyMotion::kStill).front(), (std::array<double, 2>{0, 0}));
  for (ToyMotion motion : ToyShapesSpec::main().motions) {
    ASSERT_EQ(directions(motion).size(), 1u);
    EXPECT_NEAR(std::hypot(directions(motion)[0][0], directions(motion)[0][1]), 1, 1e-12);
  }
  const ToyShapesSpec spec{.motions = {ToyMotion::kVertical}};
  EXPECT_EQ(toy_velocity(spec, {}, {.direction = 0.4}), (std::array<double, 2>{0, 1}));
  EXPECT_EQ(toy_velocity(spec, {}, {.direction = 0.6}), (std::array<double, 2>{0, -1}));
}

TEST(ToyShapes, captions) {
  ToyShapesSpec spec = ToyShapesSpec::main();
  EXPECT_EQ(toy_caption_count(spec), 256);
  EXPECT_EQ(toy_caption_words(spec, {2, 1, 7, 1}),
            (std::vector<std::string>{"triangle", "green", "upleft", "fast"}));
  std::set<std::vector<std::string>> captions;
  for (int64_t k = 0; k < 256; ++k) captions.insert(toy_caption_words(spec, toy_caption_label(spec, k)));
  EXPECT_EQ(captions.size(), 256u);
  spec.speeds = {1};
  EXPECT_EQ(toy_caption_words(spec, {0, 0, 0, 0}), (std::vector<std::string>{"disc", "red", "right"}));
}

TEST(ToyShapes, validate_names_the_problem) {
  const auto expect_refused = [](const std::string& part, const std::function<void(ToyShapesSpec&)>& change) {
    ToyShapesSpec spec = ToyShapesSpec::main();
    change(spec);
    expect_error(ErrorKind::kConfig, part, [&] { spec.validate(); });
  };
  expect_refused("the path of a", [](ToyShapesSpec& spec) { spec.speeds = {4}; });
  expect_refused("even size 31", [](ToyShapesSpec& spec) { spec.size = 31; });
  expect_refused("colours is 5", [](ToyShapesSpec& spec) { spec.colours = 5; });
  expect_refused("'still' has no speed", [](ToyShapesSpec& spec) { spec.motions = {ToyMotion::kStill}; });
  expect_refused("edge_width is 0", [](ToyShapesSpec& spec) { spec.edge_width = 0; });
  expect_refused("text_rows is 3", [](ToyShapesSpec& spec) { spec.text_rows = 3; });
  expect_refused("at least one shape", [](ToyShapesSpec& spec) { spec.shapes.clear(); });
  expect_refused("radius from", [](ToyShapesSpec& spec) { spec.radius_min = 9; });
  expect_refused("brightness_min is 0", [](ToyShapesSpec& spec) { spec.brightness_min = 0; });
}

}  // namespace
}  // namespace tmd::data
