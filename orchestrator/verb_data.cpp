#include <fmt/format.h>
#include <iostream>

#include "base/error.h"
#include "comm/agree.h"
#include "data/check.h"
#include "data/toy_file.h"
#include "data/writer.h"
#include "orchestrator/arguments.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd data check FILE...          reads and verifies every sample; exit code 65 when one is broken
tmd data seal FILE...           adds checksums (/checksum) to files that have none
tmd data toy shapes FILE        writes the captioned moving-shapes toy [--count N] [--seed S] [--first I]
tmd data toy mixture FILE       writes the 2-D mixture of 8 Gaussians  [--count N] [--seed S] [--first I] [--unequal]

The format is described in docs/formats/tmd-latents.md.

  tmd data check clips.h5
  tmd data toy shapes shapes.h5 --count 8192
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
        "actions are check, seal, toy");
  return write_toy(arguments, words);
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Arguments arguments("data", words, {"count", "seed", "first"}, {"unequal"});
  int code = 0;
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) code = run_on_one_rank(arguments);
  });
  return static_cast<int>(comm::agree_max(world, code));
}

}  // namespace

const Verb kDataVerb{"data", "check, seal and make data files", kHelp, run};

}  // namespace tmd::orchestrator
