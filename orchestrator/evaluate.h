#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "orchestrator/evaluator.h"
#include "orchestrator/trained_run.h"

namespace tmd::orchestrator {

/// A sampler to be evaluated: a network of a run and how it is stepped.
struct Contender {
  std::string name;               ///< "teacher-50", "TMD-N2 M=2"
  bool is_teacher = false;
  int64_t steps = 0;              ///< of the teacher, or M of the student
};

/// One row of the table.
struct EvaluationRow {
  std::string name;
  double effective_nfe = 0;       ///< network evaluations a sample, in units of one full pass
  double seconds_per_sample = 0;
  Score score;
  at::Tensor samples;             // [count, C, T, H, W]
};

/// Samples `contender` with the evaluator's prompts and measures it. Every contender of one seed starts from the same
/// noise. `evaluator` is null on ranks other than 0; so is the score. Collective over: the run's trainers.
EvaluationRow evaluate(TrainedRun& run, const Contender& contender, const Evaluator* evaluator, int64_t count,
                       uint64_t seed);

/// The table as text with aligned columns: name, effective NFE, ms per sample, then the evaluator's headings; the floor
/// (what real data scores) stands first.
std::vector<std::string> table_headings(const Evaluator& evaluator);
std::vector<std::vector<std::string>> table_cells(const Evaluator& evaluator, const std::vector<EvaluationRow>& rows);
std::string aligned_table(const std::vector<std::string>& headings, const std::vector<std::vector<std::string>>& rows);

/// Effective NFE of a contender; guidance doubles a teacher's.
double effective_nfe(const configs::Config& config, const Contender& contender);

}  // namespace tmd::orchestrator
