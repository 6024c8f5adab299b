#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iostream>

#include "base/error.h"
#include "base/folder.h"
#include "base/hash.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "orchestrator/arguments.h"
#include "orchestrator/eval_compare.h"
#include "orchestrator/eval_report.h"
#include "orchestrator/evaluate.h"
#include "orchestrator/kept_samples.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd eval --run DIR [--json FILE] [--samples N] [--seed S] [--average] [--teacher FILE] [--section.key=value ...]
tmd eval --compare A.json B.json

Samples the teacher (all its steps, and as few as the student takes) and the student of a run, and measures them against
the data, from the same prompts and noise: rules for the toys; for anything else distances of the latents and of features
that need no trained network, coverage, diversity, motion and colour. The first line is what real data of the same size
scores. Then every metric with its 95 % bootstrap interval, and how the student differs from the teacher with as many steps.
Prompts, seeds and all numbers go to FILE (docs/formats/eval.md). Default: DIR/eval/step_N.json, with what is not the default in
the name, e.g. step_N_average_samples64_seed2.json, and options as a hash of them. Runs on any number of ranks.

--teacher FILE keeps the samples of the teacher with all its steps, which cost the most: the next evaluation of a student of
the same teacher, with the same seed and prompts, reads them there; for anything else the file is refused.

--compare holds two such files of the same judge, samples, seed and prompts against each other.

  mpirun -n 2 tmd eval --run runs/clips
  mpirun -n 2 tmd eval --run runs/clips --samples 128 --sampler.steps=30
  mpirun -n 2 tmd eval --run runs/clips --teacher runs/teacher-seed1.safetensors
  tmd eval --compare runs/tmd/eval/step_00000600.json runs/dmd2v/eval/step_00000600.json
)";

std::vector<Contender> contenders(const TrainedRun& run, bool has_student) {
  const configs::Config& config = run.config();
  const int64_t steps = config.sampler.steps, few = config.stages.method.outer_steps;
  std::vector<Contender> list = {{fmt::format("teacher-{}", steps), true, steps}};
  if (few != steps) list.push_back({fmt::format("teacher-{}", few), true, few});
  if (has_student) list.push_back({fmt::format("student-{}", few), false, few});
  return list;
}

// Words like --section.key=value, and the others.
struct Words {
  std::vector<std::string> options, own;
};

Words split(const std::vector<std::string>& words) {
  Words split;
  for (const std::string& word : words) {
    (word.find('.') != std::string::npos && word.rfind("--", 0) == 0 && word.find('=') != std::string::npos &&
             word.find('.') < word.find('=')
         ? split.options
         : split.own)
        .push_back(word);
  }
  return split;
}

constexpr int64_t kSamples = 256, kSeed = 1;  // unless told otherwise

// Of an evaluation: another one of the same step has another name unless it is the same one.
std::string file_name(int64_t step, const Arguments& arguments, std::vector<std::string> options) {
  std::string name = fmt::format("step_{:08d}", step);
  const int64_t samples = arguments.integer_or("samples", kSamples),
                seed = arguments.integer_or("seed", kSeed);
  if (arguments.has("average")) name += "_average";
  if (samples != kSamples) name += fmt::format("_samples{}", samples);
  if (seed != kSeed) name += fmt::format("_seed{}", seed);
  std::ranges::sort(options);
  if (!options.empty()) name += fmt::format("_options{:08x}", xxh3_64(fmt::format("{}", options)) >> 32);
  return name + ".json";
}

int compare(comm::Communicator& world, const Arguments& arguments, const Words& words) {
  const std::vector<std::string> files = arguments.all("compare");
  check(files.size() == 2, ErrorKind::kUsage,
        fmt::format("tmd eval: --compare takes two files, not {}", files.size()),
        "tmd eval --compare A.json B.json");
  const bool is_alone = words.options.empty() && !arguments.has("run") && !arguments.has("json") &&
                        !arguments.has("samples") && !arguments.has("seed") && !arguments.has("average") &&
                        !arguments.has("teacher");
  check(is_alone, ErrorKind::kUsage, "tmd eval: --compare takes no other option");
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) std::cout << compare_evaluations(files[0], files[1]) << std::flush;
  });
  return 0;
}

// Rank 0.
void publish_report(const Evaluator& evaluator, const nlohmann::json& report,
                    const std::vector<EvaluationRow>& rows, const std::filesystem::path& file) {
  std::cout
      << evaluator.name() << ", " << evaluator.count() << " samples, step " << report["run"]["step"] << "\n"
      << aligned_table(table_headings(evaluator), table_cells(evaluator, rows))
      << "\nEvery metric, with 95 % bootstrap intervals of those that are means over samples or prompts\n"
      << vector_table(report);
  for (const nlohmann::json& pair : report["differences"]) {
    const std::string a = pair["a"], b = pair["b"];
    std::cout << "\n"
              << b << " against " << a << ", paired by prompt and noise\n"
              << changes_table(a, b, pair["changes"]);
  }
  std::cout << std::flush;
  publish_file(file, report_text(report));
}

int run(comm::Communicator& world, const std::vector<std::string>& all_words) {
  const Words words = split(all_words);
  const Arguments arguments("eval", words.own, {"run", "json", "samples", "seed", "teacher"}, {"average"},
                            {"compare"});
  arguments.refuse_plain();
  if (arguments.has("compare")) return compare(world, arguments, words);
  const int64_t count = arguments.integer_or("samples", kSamples);
  const int64_t seed_word = arguments.integer_or("seed", kSeed);
  check(count >= 1, ErrorKind::kUsage, "tmd eval: --samples must be at least 1");
  check(seed_word >= 0, ErrorKind::kUsage, "tmd eval: --seed must not be negative");
  const auto seed = static_cast<uint64_t>(seed_word);
  TrainedRun trained(world, arguments.required("run"), words.options);
  if (arguments.has("average")) trained.use_average();
  std::unique_ptr<Evaluator> evaluator;
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) evaluator = Evaluator::make(trained.job().data(), count, seed);
  });
  const std::filesystem::path file = arguments.value_or(
      "json", (trained.run_folder() / "eval" / file_name(trained.step(), arguments, words.options)).string());
  comm::run_agreed(world, [&] {
    if (world.rank() == 0 && file.has_parent_path()) create_folders(file.parent_path());
  });
  std::vector<EvaluationRow> rows;
  const std::vector<Contender> list = contenders(trained, trained.student() != nullptr);
  for (const Contender& contender : list) {
    const at::Tensor teacher = rows.empty() ? at::Tensor() : rows.front().samples;
    rows.push_back(rows.empty() && arguments.has("teacher")
                       ? sample_once(trained, contender, evaluator.get(), seed, arguments.required("teacher"))
                       : sample_contender(trained, contender, evaluator.get(), seed));
    measure(trained, rows.back(), evaluator.get(), teacher);
  }
  comm::run_agreed(world, [&] {
    if (!evaluator) return;
    const ReportOrigin origin{.step = trained.step(),
                              .average = arguments.has("average"),
                              .seed = seed,
                              .config = trained.config(),
                              .data_hash = trained.job().data().data_hash()};
    publish_report(*evaluator, evaluation_report(*evaluator, origin, list, rows), rows, file);
  });
  trained.close();
  return 0;
}

}  // namespace

const Verb kEvalVerb{"eval", "measure teacher and student of a run against the data", kHelp, run};

}  // namespace tmd::orchestrator
