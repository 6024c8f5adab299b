#include "model/wan_config.h"

#include <gtest/gtest.h>

#include "model/discriminator.h"
#include "model/tmd_student.h"
#include "model/wan_dit.h"

namespace tmd::model {

size_t count_tensors(const std::vector<sharding::UnitSpec>& units) {
  size_t n = 0;
  for (const auto& unit : units) n += unit.params.size();
  return n;
}

// From the specs alone: nothing is allocated.
TEST(WanConfig, published_sizes_have_the_published_counts) {
  const auto small = wan_units(WanConfig::wan_1_3b()), large = wan_units(WanConfig::wan_14b());

  EXPECT_EQ(sharding::count_elements(small), 1'418'996'800);
  EXPECT_EQ(sharding::count_elements(large), 14'288'491'584);
  EXPECT_EQ(count_tensors(small), 825u);
  EXPECT_EQ(count_tensors(large), 1095u);
  EXPECT_EQ(small[1].elements(), 46'440'704);
  EXPECT_EQ(large[1].elements(), 351'394'304);
  EXPECT_EQ(small[0].elements() + small.back().elements(), 25'775'680);
  EXPECT_EQ(large[0].elements() + large.back().elements(), 232'719'424);
}

TEST(TmdStudentConfig, new_parts_have_the_papers_size) {
  TmdStudentConfig config;
  const int64_t teacher = sharding::count_elements(wan_units(config.wan));

  const int64_t gated = sharding::count_elements(tmd_student_units(config)) - teacher;
  config.fusion = Fusion::kConcat;
  const int64_t concat = sharding::count_elements(tmd_student_units(config)) - teacher;

  EXPECT_NEAR(static_cast<double>(gated) / 1e6, 44.5, 0.05);
  EXPECT_NEAR(static_cast<double>(concat) / 1e6, 21.6, 0.05);
}

TEST(DiscriminatorConfig, published_sizes_have_the_papers_count) {
  const DiscriminatorConfig small{.channels = 384};
  EXPECT_NEAR(static_cast<double>(sharding::count_elements(discriminator_units(small))) / 1e6, 67.87, 0.005);
}

TEST(DiscriminatorConfig, other_kinds_have_the_documented_sizes) {
  const auto count = [](DiscriminatorKind kind) {
    return sharding::count_elements(discriminator_units({.kind = kind, .channels = 384}));
  };
  // Each branch: convolutions, norms, perceptron; embedding, layers, norm, pool, perceptron.
  EXPECT_EQ(count(DiscriminatorKind::kConv1d2d), 3 * (17'108'992 + 8'192 + 1'050'625));
  EXPECT_EQ(count(DiscriminatorKind::kAttention), 3 * (197'120 + 3 * 3'152'384 + 1'024 + 788'480 + 526'337));
}

TEST(DiscriminatorConfig, groups_divide_the_channels) {
  const auto groups = [](int64_t channels) { return DiscriminatorConfig{.channels = channels}.groups(); };
  EXPECT_EQ(groups(2), 1);
  EXPECT_EQ(groups(16), 4);
  EXPECT_EQ(groups(32), 8);
  EXPECT_EQ(groups(36), 18);
  EXPECT_EQ(groups(384), 32);
  EXPECT_EQ(groups(37), 1);
}

TEST(WanConfig, feature_and_head_blocks_follow_the_depth) {
  EXPECT_EQ(WanConfig::wan_1_3b().default_feature_blocks(), (std::vector<int64_t>{15, 22, 29}));
  EXPECT_EQ(WanConfig::wan_14b().default_feature_blocks(), (std::vector<int64_t>{19, 29, 39}));
  WanConfig toy;
  toy.layers = 6;
  EXPECT_EQ(toy.default_feature_blocks(), (std::vector<int64_t>{3, 4, 5}));
  EXPECT_EQ(toy.default_head_blocks(), 1);
  EXPECT_EQ(WanConfig::wan_14b().default_head_blocks(), 5);
}

}  // namespace tmd::model
