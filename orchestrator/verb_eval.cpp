#include <fmt/format.h>
#include <iostream>

#include "base/error.h"
#include "base/folder.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "orchestrator/arguments.h"
#include "orchestrator/evaluate.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd eval --run DIR [--json FILE] [--samples N] [--seed S] [--average] [--section.key=value ...]

Samples the teacher (all its steps, and as few as the student takes) and the student of a run, and measures them against
the data: rules for the toys, sliced Wasserstein distance and motion energy for anything else. The first line is what real
data of the same size scores. Prompts, seeds and all numbers go to FILE (default: DIR/eval/step_N.json).
Runs on any number of ranks.

  mpirun -n 2 tmd eval --run runs/clips
  mpirun -n 2 tmd eval --run runs/clips --samples 128 --sampler.steps=30
)";

std::vector<Contender> contenders(const TrainedRun& run, bool has_student) {
  const configs::Config& config = run.config();
  const int64_t steps = config.sampler.steps, few = config.stages.method.outer_steps;
  std::vector<Contender> list = {{fmt::format("teacher-{}", steps), true, steps},
                                 {fmt::format("teacher-{}", few), true, few}};
  if (has_student) list.push_back({fmt::format("student-{}", few), false, few});
  return list;
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  std::vector<std::string> options, own;
  for (const std::string& word : words) {
    (word.find('.') != std::string::npos && word.rfind("--", 0) == 0 && word.find('=') != std::string::npos &&
             word.find('.') < word.find('=')
         ? options
         : own)
        .push_back(word);
  }
  const Arguments arguments("eval", own, {"run", "json", "samples", "seed"}, {"average"});
  arguments.refuse_plain();
  const int64_t count = arguments.integer_or("samples", 256);
  const uint64_t seed = static_cast<uint64_t>(arguments.integer_or("seed", 1));
  check(count >= 8, ErrorKind::kUsage, "tmd eval: --samples must be at least 8");
  TrainedRun trained(world, arguments.required("run"), options);
  if (arguments.has("average")) trained.use_average();
  std::unique_ptr<Evaluator> evaluator;
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) evaluator = Evaluator::make(trained.job().data(), count, seed);
  });
  const std::filesystem::path file = arguments.value_or(
      "json", (trained.run_folder() / "eval" / fmt::format("step_{:08d}.json", trained.step())).string());
  comm::run_agreed(world, [&] {
    if (world.rank() == 0 && file.has_parent_path()) create_folders(file.parent_path());
  });
  std::vector<EvaluationRow> rows;
  for (const Contender& contender : contenders(trained, trained.student() != nullptr)) {
    rows.push_back(evaluate(trained, contender, evaluator.get(), count, seed));
  }
  comm::run_agreed(world, [&] {
    if (!evaluator) return;
    std::cout << evaluator->name() << ", " << count << " samples, step " << trained.step() << "\n"
              << aligned_table(table_headings(*evaluator), table_cells(*evaluator, rows)) << std::flush;
    nlohmann::json json = {{"step", trained.step()},
                           {"samples", count},
                           {"seed", seed},
                           {"judge", evaluator->name()},
                           {"real", evaluator->floor().json}};
    for (const EvaluationRow& row : rows) {
      json["rows"].push_back({{"name", row.name},
                              {"effective_nfe", row.effective_nfe},
                              {"seconds_per_sample", row.seconds_per_sample},
                              {"metrics", row.score.json}});
    }
    const std::string text = json.dump(2) + "\n";
    publish_file(file, std::as_bytes(std::span(text)));
  });
  trained.close();
  return 0;
}

}  // namespace

const Verb kEvalVerb{"eval", "measure teacher and student of a run against the data", kHelp, run};

}  // namespace tmd::orchestrator
