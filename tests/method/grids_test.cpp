#include "method/grids.h"

#include <gtest/gtest.h>

namespace tmd::method {

using Grid = std::vector<double>;

// The printed digits of the student grids for shift 10 and 5.
TEST(StudentGrid, equals_the_published_lists) {
  EXPECT_EQ(student_grid(1, 10), (Grid{0, 0.999}));
  EXPECT_EQ(student_grid(2, 10), (Grid{0, 0.908, 0.999}));
  EXPECT_EQ(student_grid(3, 10), (Grid{0, 0.833, 0.952, 0.999}));
  EXPECT_EQ(student_grid(4, 10), (Grid{0, 0.768, 0.908, 0.967, 0.999}));
  EXPECT_EQ(student_grid(1, 5), (Grid{0, 0.999}));
  EXPECT_EQ(student_grid(2, 5), (Grid{0, 0.833, 0.999}));
  EXPECT_EQ(student_grid(3, 5), (Grid{0, 0.713, 0.908, 0.999}));
  EXPECT_EQ(student_grid(4, 5), (Grid{0, 0.624, 0.833, 0.937, 0.999}));
}

TEST(StudentGrid, floor_is_guarded_against_rounding) { EXPECT_EQ(student_grid(9, 1)[3], 0.333); }

TEST(TeacherSigmas, equal_the_published_ones) {
  const Grid wan = teacher_sigmas(50, 5, SigmaGrid::kWan),
             diffusers = teacher_sigmas(50, 5, SigmaGrid::kDiffusers);

  EXPECT_NEAR(wan[0], 0.9998, 5e-5);
  EXPECT_NEAR(wan[1], 0.995732, 5e-7);
  EXPECT_NEAR(wan[49], 0.09251, 5e-6);
  EXPECT_EQ(wan[50], 0);
  EXPECT_NEAR(diffusers[0], 0.999999, 1e-9);
  EXPECT_NEAR(diffusers[1], 0.995939, 5e-7);
  EXPECT_NEAR(diffusers[49], 0.09678, 5e-6);
}

// TMD Eq. 16 against the table of the paper's configurations.
TEST(EffectiveNfe, equals_the_papers_table) {
  EXPECT_NEAR(effective_nfe(1, 2, 5, 30), 1.17, 0.005);
  EXPECT_NEAR(effective_nfe(2, 2, 5, 30), 2.33, 0.005);
  EXPECT_NEAR(effective_nfe(2, 4, 5, 30), 3.00, 1e-12);
  EXPECT_NEAR(effective_nfe(1, 4, 5, 40), 1.375, 1e-12);
  EXPECT_NEAR(effective_nfe(2, 4, 3, 40), 2.45, 1e-12);
  EXPECT_EQ(effective_nfe(2, 1, 5, 30), 2);
}

}  // namespace tmd::method
