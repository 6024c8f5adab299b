#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "orchestrator/evaluator.h"
#include "orchestrator/sampling.h"
#include "orchestrator/trained_run.h"

namespace tmd::orchestrator {

/// A sampler to be evaluated: a network of a run and how it is stepped.
struct Contender {
  std::string name;  ///< "teacher-50", "TMD-N2 M=2"
  bool is_teacher = false;
  int64_t steps = 0;        ///< of the teacher, or M of the student
  int64_t inner_steps = 0;  ///< N of the student; 0 = as it was trained
};

/// One row of the table.
struct EvaluationRow {
  std::string name;
  double effective_nfe = 0;       ///< network evaluations a sample, in units of one full pass (TMD Eq. 16)
  double seconds_per_sample = 0;  ///< wall time of sampling on all ranks together / samples; NaN: unknown
  Score score;
  at::Tensor samples;  // [rows of Evaluator::text(), C, T, H, W]
};

/// Samples `contender` with the evaluator's prompts. Every contender of one seed starts from the same noise.
/// `evaluator` is null on ranks other than 0, while the samples are on all. Throws on all ranks kConfig when
/// the run has no student yet. Collective over: the run's trainers.
EvaluationRow sample_contender(TrainedRun& run, const Contender& contender, const Evaluator* evaluator,
                               uint64_t seed, const SampleProgress& progress = {});

/// Fills the row's score on rank 0. `teacher`: the samples of the row that others are also held against.
/// Throws on all ranks as Evaluator::measure. Collective over: the run's trainers.
void measure(TrainedRun& run, EvaluationRow& row, const Evaluator* evaluator, const at::Tensor& teacher = {});

/// Both. Collective over: the run's trainers.
EvaluationRow evaluate(TrainedRun& run, const Contender& contender, const Evaluator* evaluator, uint64_t seed,
                       const SampleProgress& progress = {}, const at::Tensor& teacher = {});

/// The table as text with aligned columns: name, effective NFE, ms per sample, then the evaluator's headings;
/// the floor (what real data scores) stands first. No row is longer than the headings.
std::vector<std::string> table_headings(const Evaluator& evaluator);
std::vector<std::vector<std::string>> table_cells(const Evaluator& evaluator,
                                                  const std::vector<EvaluationRow>& rows);
std::string aligned_table(const std::vector<std::string>& headings,
                          const std::vector<std::vector<std::string>>& rows);

/// Effective NFE of a contender (TMD Eq. 16); guidance doubles a teacher's, and DMD2-v has M.
double effective_nfe(const configs::Config& config, const Contender& contender);

}  // namespace tmd::orchestrator
