#include "orchestrator/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "comm/agree.h"
#include "method/grids.h"

namespace tmd::orchestrator {

double effective_nfe(const configs::Config& config, const Contender& contender) {
  const double steps = static_cast<double>(contender.steps);
  if (contender.is_teacher) {
    const bool guided = config.sampler.cfg != 1 && config.model.kind == model::ModelKind::kWan;
    if (!guided) return steps;
    const double skipped =
        config.sampler.skip_block >= 0 ? 1.0 / static_cast<double>(config.model.wan.layers) : 0;
    return steps * (2 - skipped);
  }
  const workers::MethodOptions& method = config.stages.method;
  if (!workers::is_decoupled(method.name)) return steps;
  const workers::NetworkPlan plan = configs::network_plan(config);
  const int64_t inner_steps = contender.inner_steps > 0 ? contender.inner_steps : method.inner_steps;
  return method::effective_nfe(static_cast<int>(contender.steps), static_cast<int>(inner_steps),
                               static_cast<int>(plan.head_blocks()), static_cast<int>(plan.layers()));
}

namespace {

// The prompts live on rank 0, with the evaluator; all ranks sample.
at::Tensor share_text(comm::Communicator& trainers, const Evaluator* evaluator,
                      const std::vector<int64_t>& row_shape) {
  const int64_t count = comm::agree_max(trainers, evaluator ? evaluator->text().size(0) : 0);
  const at::Tensor text = evaluator ? evaluator->text().to(at::kFloat).contiguous()
                                    : at::empty({count, row_shape[0], row_shape[1]}, at::kFloat);
  trainers.broadcast(text, 0).wait();
  return text;
}

}  // namespace

EvaluationRow sample_contender(TrainedRun& run, const Contender& contender, const Evaluator* evaluator,
                               uint64_t seed, const SampleProgress& progress) {
  const configs::Config& config = run.config();
  Job& job = run.job();
  const auto& text_shape = job.data().header().text_shape;
  SampleRequest request{.text = share_text(job.trainers(), evaluator, {text_shape[0], text_shape[1]}),
                        .negative_text = job.negative_text(),
                        .latent_shape = job.latent_shape(),
                        .seed = seed,
                        .first_number = 0,
                        .batch = config.sampler.batch};
  EvaluationRow row{
      .name = contender.name, .effective_nfe = effective_nfe(config, contender), .score = {}, .samples = {}};
  const auto begin = std::chrono::steady_clock::now();
  if (contender.is_teacher) {
    configs::SamplerOptions sampler = config.sampler;
    sampler.steps = contender.steps;
    row.samples = sample_teacher(job.plan(), run.teacher(), sampler, request, progress);
  } else {
    check(run.student() != nullptr, ErrorKind::kConfig, "the run has no student yet");
    workers::MethodOptions method = config.stages.method;
    method.outer_steps = contender.steps;
    if (contender.inner_steps > 0) method.inner_steps = contender.inner_steps;
    row.samples = sample_student(job.plan(), *run.student(), method, request, progress);
  }
  row.seconds_per_sample = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() /
                           static_cast<double>(row.samples.size(0));
  return row;
}

void measure(TrainedRun& run, EvaluationRow& row, const Evaluator* evaluator, const at::Tensor& teacher) {
  comm::run_agreed(run.job().trainers(), [&] {
    if (evaluator) row.score = evaluator->measure(row.samples, teacher);
  });
}

EvaluationRow evaluate(TrainedRun& run, const Contender& contender, const Evaluator* evaluator, uint64_t seed,
                       const SampleProgress& progress, const at::Tensor& teacher) {
  EvaluationRow row = sample_contender(run, contender, evaluator, seed, progress);
  measure(run, row, evaluator, teacher);
  return row;
}

std::vector<std::string> table_headings(const Evaluator& evaluator) {
  std::vector<std::string> headings = {"", "NFE", "ms/sample"};
  for (std::string& heading : evaluator.headings()) headings.push_back(std::move(heading));
  return headings;
}

std::vector<std::vector<std::string>> table_cells(const Evaluator& evaluator,
                                                  const std::vector<EvaluationRow>& rows) {
  const auto line = [](std::vector<std::string> front, const std::vector<std::string>& cells) {
    front.insert(front.end(), cells.begin(), cells.end());
    return front;
  };
  std::vector<std::vector<std::string>> table = {line({"real data", "", ""}, evaluator.floor().cells)};
  for (const EvaluationRow& row : rows) {
    table.push_back(line(
        {row.name, fmt::format("{:.2f}", row.effective_nfe),
         std::isnan(row.seconds_per_sample) ? "-" : fmt::format("{:.1f}", 1000 * row.seconds_per_sample)},
        row.score.cells));
  }
  return table;
}

std::string aligned_table(const std::vector<std::string>& headings,
                          const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::string& heading : headings) widths.push_back(heading.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  const auto add = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      text +=
          i == 0 ? fmt::format("{:<{}}", cells[i], widths[i]) : fmt::format("  {:>{}}", cells[i], widths[i]);
    }
    text += "\n";
  };
  add(headings);
  for (const auto& row : rows) add(row);
  return text;
}

}  // namespace tmd::orchestrator
