#include "method/schedule.h"

namespace tmd::method {

std::string_view name(Phase phase) {
  switch (phase) {
    case Phase::kTeacher:
      return "teacher";
    case Phase::kStage1:
      return "stage1";
    case Phase::kKd:
      return "kd";
    case Phase::kStudent:
      return "student";
    case Phase::kCritic:
      return "critic";
  }
  return "";
}

Phase stage2_phase(int64_t iteration_in_stage, int64_t student_every) {
  return iteration_in_stage % student_every == 0 ? Phase::kStudent : Phase::kCritic;
}

int64_t student_updates(int64_t iterations, int64_t student_every) { return iterations / student_every; }

}  // namespace tmd::method
