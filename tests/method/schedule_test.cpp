#include "method/schedule.h"

#include <gtest/gtest.h>

namespace tmd::method {

TEST(Stage2Phase, every_fifth_iteration_updates_the_student) {
  int students = 0;
  for (int64_t i = 1; i <= 300; ++i) students += stage2_phase(i, 5) == Phase::kStudent ? 1 : 0;
  EXPECT_EQ(students, 60);
  EXPECT_EQ(student_updates(300, 5), 60);
  EXPECT_EQ(stage2_phase(1, 5), Phase::kCritic);
  EXPECT_EQ(stage2_phase(5, 5), Phase::kStudent);
  EXPECT_EQ(stage2_phase(1, 1), Phase::kStudent);
}

}  // namespace tmd::method
