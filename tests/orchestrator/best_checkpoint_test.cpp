#include "orchestrator/best_checkpoint.h"

#include <cmath>
#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/folder.h"
#include "checkpoint/writer.h"
#include "orchestrator/judge.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;
using evaluation::Better;
using evaluation::Metric;

class Best : public testing::Test {
 protected:
  Best() : store_(fs::path(testing::TempDir()) / ("tmd_best_" + std::to_string(::getpid()))) {
    remove_tree(store_.root());
  }
  ~Best() override { remove_tree(store_.root()); }

  void score_and_save(BestCheckpoint& best, int64_t step, double value) {
    best.scored(step, value);
    commit(best, step);
    best.saved(step);
  }
  void commit(const BestCheckpoint& best, int64_t step) {
    const fs::path partial = checkpoint::partial_folder(store_.folder(step));
    create_folders(partial);
    best.before_commit(step);
    fs::rename(partial, store_.folder(step));
  }
  std::string link() const {
    std::error_code none;
    return fs::read_symlink(store_.root() / "BEST", none).string();
  }

  checkpoint::Store store_;
};

TEST_F(Best, link_leads_to_the_lowest_score) {
  BestCheckpoint best(store_, Metric{"distance", Better::kLess});
  EXPECT_FALSE(best.step());
  score_and_save(best, 10, 2.0);
  score_and_save(best, 20, 1.0);
  score_and_save(best, 30, 1.5);
  EXPECT_EQ(best.step(), 20);
  EXPECT_EQ(link(), "step_00000020");
  EXPECT_TRUE(fs::exists(store_.root() / "BEST"));
  EXPECT_FALSE(fs::exists(fs::symlink_status(store_.root() / "BEST.new")));
}

TEST_F(Best, or_to_the_highest) {
  BestCheckpoint best(store_, Metric{"joint", Better::kMore});
  for (const auto& [step, value] : {std::pair(1, 0.5), {2, 0.7}, {3, 0.6}}) score_and_save(best, step, value);
  EXPECT_EQ(best.step(), 2);
}

TEST_F(Best, a_score_counts_only_once_its_checkpoint_is_complete) {
  BestCheckpoint best(store_, Metric{"distance", Better::kLess});
  score_and_save(best, 10, 2.0);
  best.scored(20, 1.0);  // its save fails
  EXPECT_EQ(best.step(), 10);
  score_and_save(best, 30, 3.0);
  EXPECT_EQ(best.step(), 10);
  best.saved(40);  // not judged
  EXPECT_EQ(best.step(), 10);
}

TEST_F(Best, what_is_not_finite_is_never_the_best) {
  BestCheckpoint best(store_, Metric{"distance", Better::kLess});
  score_and_save(best, 10, NAN);
  EXPECT_FALSE(best.step());
  score_and_save(best, 20, 5.0);
  score_and_save(best, 30, -INFINITY);
  EXPECT_EQ(best.step(), 20);
}

TEST_F(Best, a_later_start_finds_step_and_score) {
  BestCheckpoint first(store_, Metric{"distance", Better::kLess});
  score_and_save(first, 10, 1.0);
  BestCheckpoint second(store_, Metric{"distance", Better::kLess});
  second.resume(10);
  EXPECT_EQ(second.step(), 10);
  score_and_save(second, 20, 1.5);
  EXPECT_EQ(second.step(), 10);
  score_and_save(second, 30, 0.5);
  EXPECT_EQ(link(), "step_00000030");
}

TEST_F(Best, a_start_that_ended_before_it_made_the_link_has_lost_nothing) {
  BestCheckpoint first(store_, Metric{"distance", Better::kLess});
  score_and_save(first, 10, 2.0);
  first.scored(20, 1.0);
  commit(first, 20);
  score_and_save(first, 30, 1.5);
  EXPECT_EQ(link(), "step_00000030");
  BestCheckpoint second(store_, Metric{"distance", Better::kLess});
  second.resume(30);
  EXPECT_EQ(second.step(), 20);
  EXPECT_EQ(link(), "step_00000020");
  score_and_save(second, 40, 1.2);
  EXPECT_EQ(second.step(), 20);
}

TEST_F(Best, scores_of_checkpoints_that_were_passed_over_do_not_count) {
  BestCheckpoint first(store_, Metric{"distance", Better::kLess});
  score_and_save(first, 10, 2.0);
  score_and_save(first, 20, 1.0);
  BestCheckpoint second(store_, Metric{"distance", Better::kLess});
  second.resume(10);
  EXPECT_EQ(second.step(), 10);
  EXPECT_EQ(link(), "step_00000010");
}

TEST_F(Best, what_the_link_leads_to_is_known_while_another_one_cannot_be_marked) {
  EXPECT_FALSE(linked_checkpoint(store_));
  BestCheckpoint best(store_, Metric{"distance", Better::kLess});
  score_and_save(best, 10, 2.0);
  EXPECT_EQ(linked_checkpoint(store_), 10);
  fs::rename(store_.root() / "BEST", store_.root() / "kept");
  create_folders(store_.root() / "BEST");  // no link can take its place
  EXPECT_THROW(score_and_save(best, 20, 1.0), Error);
  EXPECT_EQ(best.step(), 20);
  remove_tree(store_.root() / "BEST");
  fs::rename(store_.root() / "kept", store_.root() / "BEST");
  EXPECT_EQ(linked_checkpoint(store_), 10);
}

TEST_F(Best, a_score_by_another_metric_is_replaced_by_the_next_one) {
  BestCheckpoint first(store_, Metric{"distance", Better::kLess});
  score_and_save(first, 10, 1.0);
  BestCheckpoint second(store_, Metric{"sliced_w1", Better::kLess});
  second.resume(10);
  EXPECT_EQ(second.step(), 10);
  score_and_save(second, 20, 7.0);
  EXPECT_EQ(second.step(), 20);
}

TEST_F(Best, a_link_to_nothing_counts_as_none) {
  BestCheckpoint first(store_, Metric{"distance", Better::kLess});
  score_and_save(first, 10, 1.0);
  remove_tree(store_.folder(10));
  BestCheckpoint second(store_, Metric{"distance", Better::kLess});
  second.resume(10);
  EXPECT_FALSE(second.step());
  score_and_save(second, 20, 7.0);
  EXPECT_EQ(link(), "step_00000020");
}

TEST_F(Best, a_damaged_score_is_no_score) {
  BestCheckpoint first(store_, Metric{"distance", Better::kLess});
  score_and_save(first, 10, 1.0);
  std::ofstream(store_.folder(10) / "score.json") << "{\"value\": ";
  BestCheckpoint second(store_, Metric{"distance", Better::kLess});
  second.resume(10);
  EXPECT_EQ(second.step(), 10);
  score_and_save(second, 20, 9.0);
  EXPECT_EQ(second.step(), 20);
}

TEST_F(Best, or_to_the_one_nearest_one) {
  BestCheckpoint best(store_, Metric{"speed_ratio", Better::kNearOne});
  for (const auto& [step, value] : {std::pair(1, 0.5), {2, 1.1}, {3, 1.3}}) score_and_save(best, step, value);
  EXPECT_EQ(best.step(), 2);
}

TEST(ValueOf, distance_is_the_headline_and_others_stand_in_the_json) {
  const Score score{.json = {{"frechet", 3.0}, {"ratio", nullptr}},
                    .cells = {},
                    .distance = 1.5,
                    .accuracy = 0.75,
                    .values = {}};
  EXPECT_EQ(value_of(score, {"distance", Better::kLess}), 1.5);
  EXPECT_EQ(value_of(score, {"frechet", Better::kLess}), 3.0);
  EXPECT_FALSE(value_of(score, {"ratio", Better::kNearOne}));
  EXPECT_FALSE(value_of(score, {"none", Better::kLess}));
}

}  // namespace
}  // namespace tmd::orchestrator
