#include "configs/nearest.h"

#include <vector>

#include <gtest/gtest.h>

namespace tmd::configs {
namespace {

TEST(EditDistance, counts_single_edits) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("", "ab"), 2u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(NearestName, prefers_the_whole_name_then_the_key_in_another_section) {
  std::vector<std::string> names = {"train.global_batch", "train.micro_batch", "run.seed", "teacher.lr",
                                    "stage1.lr"};

  EXPECT_EQ(nearest_name("train.globalbatch", names), "train.global_batch");
  EXPECT_EQ(nearest_name("seed", names), "run.seed");
  EXPECT_EQ(nearest_name("training.micro_batch", names), "train.micro_batch");
  EXPECT_EQ(nearest_name("stage2.lr", names), "stage1.lr");
  EXPECT_EQ(nearest_name("anything", {}), "");
}

}  // namespace
}  // namespace tmd::configs
