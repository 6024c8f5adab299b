#include <fmt/format.h>
#include <iostream>

#include "base/error.h"
#include "comm/agree.h"
#include "data/check.h"
#include "data/toy_file.h"
#include "data/writer.h"
#include "orchestrator/arguments.h"
#include "orchestrator/synth.h"
#include "orchestrator/trained_run.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd data check FILE...          reads and verifies every sample; exit code 65 when one is broken
tmd data seal FILE...           adds checksums (/checksum) to files that have none
tmd data toy shapes FILE        writes the captioned moving-shapes toy [--count N] [--seed S] [--first I]
tmd data toy mixture FILE       writes the 2-D mixture of 8 Gaussians  [--count N] [--seed S] [--first I] [--unequal]
tmd data synth                  samples a teacher into a folder of data files, e.g. pairs of noise and video
  --weights DIR                 a run, the export of a teacher, or a published Wan model
  --prompts FILE.h5             embeddings of the prompts; sample i has prompt i modulo their number
  --count N --output FOLDER     FOLDER/synth_00000.h5, ... with N samples in all
  [--part SAMPLES]              of a file (default 64); each file appears as a whole
  [--seed S]                    the noise of sample i is a function of (S, i), and the files say both (default 1)
  [--sampler.KEY=VALUE ...]     how the teacher is sampled (tmd inspect options), --sampler.batch at once per rank
  [--average] [--dtype f32|f64|bf16] [--device auto|cpu|cuda] [--frames F] [--height H] [--width W]   as of tmd sample

The same command again makes what is missing; parts of other settings are refused (78), a broken one is named (65).
A signal (SIGTERM, SIGUSR1, SIGUSR2) or TMD_END_TIME ends it behind the part at hand, with exit code 75.
The format is described in docs/formats/tmd-latents.md.

  tmd data check clips.h5
  tmd data toy shapes shapes.h5 --count 8192
  mpirun -n 2 tmd data synth --weights runs/clips --prompts mine.h5 --count 512 --output pairs
  mpirun -n 8 tmd data synth --weights Wan2.1-T2V-1.3B --prompts mine.h5 --count 10000 --output pairs --dtype bf16
      --sampler.cfg=5 --sampler.skip_block=10
)";

int check_files(const std::vector<std::string>& files) {
  data::DataSet set(data::resolve_files(files));
  const data::CheckReport report = data::check_data_set(set);
  std::cout << data::describe(report);
  return report.is_good() ? 0 : static_cast<int>(ErrorKind::kData);
}

int seal(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    std::cout << file << ": " << data::seal_file(file) << " samples sealed\n";
  }
  return 0;
}

int write_toy(const Arguments& arguments, const std::vector<std::string>& words) {
  check(words.size() == 2 && (words[0] == "shapes" || words[0] == "mixture"), ErrorKind::kUsage,
        "tmd data toy takes shapes or mixture and a file");
  const int64_t count = arguments.integer_or("count", 8192), first = arguments.integer_or("first", 0);
  const uint64_t seed = static_cast<uint64_t>(arguments.integer_or("seed", 1));
  check(count >= 1 && first >= 0, ErrorKind::kUsage,
        "tmd data toy: --count is at least 1, --first at least 0");
  if (words[0] == "shapes") {
    data::write_toy_shapes(words[1], data::ToyShapesSpec::mini(), seed, first, count);
  } else {
    data::write_toy_mixture(words[1], {.equal_weights = !arguments.has("unequal")}, seed, first, count);
  }
  std::cout << words[1] << ": " << count << " samples\n";
  return 0;
}

int run_on_one_rank(const Arguments& arguments) {
  std::vector<std::string> words = arguments.plain();
  check(words.size() >= 2, ErrorKind::kUsage, "tmd data: say what to do with which file", "tmd data --help");
  const std::string action = words.front();
  words.erase(words.begin());
  if (action == "check") return check_files(words);
  if (action == "seal") return seal(words);
  check(action == "toy", ErrorKind::kUsage, "tmd data has no action '" + action + "'",
        "actions are check, seal, toy, synth");
  return write_toy(arguments, words);
}

int synth(comm::Communicator& world, const std::vector<std::string>& words) {
  const SamplerWords split = take_sampler_words(words);
  const Arguments arguments("data synth", split.rest,
                            {"weights", "prompts", "count", "output", "part", "seed", "dtype", "frames",
                             "height", "width", "device"},
                            {"average"});
  arguments.refuse_plain();
  SynthRequest request{.weights = arguments.required("weights"),
                       .source = source_options(arguments, split.sampler),
                       .prompts = arguments.required("prompts"),
                       .output = arguments.required("output"),
                       .count = arguments.integer_or("count", 0),
                       .part = arguments.integer_or("part", 64),
                       .seed = static_cast<uint64_t>(arguments.integer_or("seed", 1))};
  check(request.count >= 1 && request.part >= 1, ErrorKind::kUsage,
        "tmd data synth: --count and --part are at least 1");
  request.source.teacher = is_run(request.weights) && !request.source.average;
  return synthesize(world, request);
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  if (!words.empty() && words.front() == "synth") return synth(world, {words.begin() + 1, words.end()});
  const Arguments arguments("data", words, {"count", "seed", "first"}, {"unequal"});
  int code = 0;
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) code = run_on_one_rank(arguments);
  });
  return static_cast<int>(comm::agree_max(world, code));
}

}  // namespace

const Verb kDataVerb{"data", "check, seal, make and synthesize data files", kHelp, run};

}  // namespace tmd::orchestrator
