#pragma once

#include <cstdint>
#include <string_view>

namespace tmd::method {

/// What one iteration updates.
enum class Phase { kTeacher, kStage1, kKd, kStudent, kCritic };
std::string_view name(Phase phase);

/// Stage 2 (TMD Table 7, "student every 5th iteration"): iterations count from 1; every `student_every`-th
/// (>= 1) updates the student, the others fake score and discriminator.
Phase stage2_phase(int64_t iteration_in_stage, int64_t student_every);

/// Student updates among the first `iterations` of stage 2.
int64_t student_updates(int64_t iterations, int64_t student_every);

}  // namespace tmd::method
