#include "orchestrator/alarm.h"

#include <cmath>

#include <gtest/gtest.h>

namespace tmd::orchestrator {
namespace {

workers::IterationReport student(std::map<std::string, double> diag) {
  workers::IterationReport report;
  report.phase = method::Phase::kStudent;
  report.diag = std::move(diag);
  return report;
}

workers::IterationReport critic() {
  workers::IterationReport report;
  report.phase = method::Phase::kCritic;
  report.diag = {{"x_hat_rms", 1e9}};
  return report;
}

configs::AlarmOptions options(int64_t patience) {
  return {.min_diversity = 0.5, .min_std = 0.2, .min_motion = 0.1, .max_rms = 4, .patience = patience};
}

TEST(Alarm, fires_when_a_limit_was_passed_for_as_many_student_iterations_in_a_row) {
  Alarm alarm(options(3));
  const auto bad = student({{"motion_ratio", 0.05}, {"diversity_ratio", 0.9}});
  EXPECT_FALSE(alarm.after(5, bad));
  EXPECT_FALSE(alarm.after(6, critic()));
  EXPECT_FALSE(alarm.after(10, bad));
  const auto found = alarm.after(15, bad);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->reason, "lost_motion");
  EXPECT_NE(found->text.find("iteration 15: motion_ratio = 0.05 is below alarm.min_motion = 0.1"),
            std::string::npos)
      << found->text;
  EXPECT_TRUE(found->saves_state);
}

TEST(Alarm, a_good_iteration_in_between_starts_anew) {
  Alarm alarm(options(2));
  const auto bad = student({{"std_ratio", 0.1}}), good = student({{"std_ratio", 0.2}});
  EXPECT_FALSE(alarm.after(1, bad));
  EXPECT_FALSE(alarm.after(2, good));
  EXPECT_FALSE(alarm.after(3, bad));
  EXPECT_EQ(alarm.after(4, bad)->reason, "collapse");
}

TEST(Alarm, divergence_is_of_the_samples_against_their_data) {
  Alarm alarm(options(1));
  EXPECT_FALSE(alarm.after(1, student({{"x_hat_rms", 7.9}, {"data_rms", 2}})));
  EXPECT_EQ(alarm.after(2, student({{"x_hat_rms", 8.1}, {"data_rms", 2}}))->reason, "divergence");
}

TEST(Alarm, samples_that_are_no_numbers_have_diverged_and_not_collapsed) {
  const auto worst = student({{"diversity_ratio", NAN},
                              {"std_ratio", NAN},
                              {"motion_ratio", NAN},
                              {"x_hat_rms", NAN},
                              {"data_rms", 1}});
  EXPECT_EQ(Alarm(options(1)).after(1, worst)->reason, "divergence");
  EXPECT_TRUE(Alarm(options(1)).after(1, student({{"x_hat_rms", INFINITY}, {"data_rms", 1}})));
}

TEST(Alarm, limits_of_zero_are_off) {
  Alarm alarm({.min_diversity = 0, .min_std = 0, .min_motion = 0, .max_rms = 0, .patience = 1});
  const auto worst = student(
      {{"diversity_ratio", 0}, {"std_ratio", 0}, {"motion_ratio", 0}, {"x_hat_rms", 1e9}, {"data_rms", 1}});
  EXPECT_FALSE(alarm.after(1, worst));
  EXPECT_FALSE(alarm.may_end_next());
}

TEST(Alarm, what_a_report_lacks_passes_no_limit) { EXPECT_FALSE(Alarm(options(1)).after(1, student({}))); }

TEST(Alarm, knows_when_the_next_iteration_may_be_the_last) {
  Alarm alarm(options(2));
  EXPECT_FALSE(alarm.may_end_next());
  alarm.after(1, student({{"std_ratio", 0.1}}));
  EXPECT_TRUE(alarm.may_end_next());
  alarm.after(2, student({{"std_ratio", 1}}));
  EXPECT_FALSE(alarm.may_end_next());
  EXPECT_TRUE(Alarm(options(1)).may_end_next());
}

}  // namespace
}  // namespace tmd::orchestrator
