#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/config.h"
#include "workers/trainer.h"

namespace tmd::orchestrator {

/// Why a run ends before its time with ErrorKind::kDiverged.
struct AlarmReport {
  std::string reason;  ///< one word, as in verdict.json: collapse, lost_motion, divergence, not_finite
  std::string text, hint;
  bool saves_state = true;  ///< whether the state after the iteration is worth a checkpoint
};

/// Holds the student's samples against the limits of `[alarm]`. A decision follows from reports alone, which
/// are equal on all ranks. Counts begin anew with every start.
class Alarm {
 public:
  explicit Alarm(const configs::AlarmOptions& options);

  /// Counts a student iteration (others do not count) and says which limit it has passed for the
  /// `patience`-th time in a row, if any. What is no number has diverged: it passes max_rms and no
  /// other limit. What a report lacks passes none.
  std::optional<AlarmReport> after(int64_t iteration, const workers::IterationReport& report);

  /// Whether the next student iteration could be the last one.
  bool may_end_next() const;

 private:
  struct Limit {
    std::string reason, what, option;
    double value = 0;
    bool is_least = true;  // else the largest
    int64_t in_row = 0;
  };
  bool passes(const Limit& limit, double measured) const;

  int64_t patience_;
  std::vector<Limit> limits_;
};

}  // namespace tmd::orchestrator
