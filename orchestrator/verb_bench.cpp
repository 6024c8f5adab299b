#include <algorithm>
#include <filesystem>
#include <iostream>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/folder.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "configs/nearest.h"
#include "orchestrator/arguments.h"
#include "orchestrator/comm_bench.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHelp =
    R"(tmd bench comm [OPERATION ...] [--largest BYTES] [--repeats N] [--json FILE]

Measures how fast the ranks that it is started on communicate: all_gather, reduce_scatter, all_reduce, all_to_all,
broadcast and send_recv (or those named) from 64 bytes to --largest (default 67108864) in steps of 4, in float32, by every
algorithm that these ranks can use:

  messages   messages of the MPI library between all pairs of ranks
  window     through memory that the ranks of one node share
  library    the MPI library's own collectives, for comparison

Algorithms take turns within each of the --repeats (default 9) repeats; shown are the fastest and the median time of the
slowest rank, and GB/s of 1e9 bytes, defined above the table, beside the rate of a plain memcpy. --json writes the same
numbers in seconds.

  mpirun -n 2 tmd bench comm
  mpirun -n 4 tmd bench comm all_gather reduce_scatter --largest 16777216 --json rates.json
)";

int64_t in_range(const Arguments& arguments, const std::string& name, int64_t otherwise, int64_t least,
                 int64_t most) {
  const int64_t value = arguments.integer_or(name, otherwise);
  check(value >= least && value <= most, ErrorKind::kUsage,
        "tmd bench: --" + name + " is " + std::to_string(value),
        "give a number from " + std::to_string(least) + " to " + std::to_string(most));
  return value;
}

CommBenchPlan parse_plan(const Arguments& arguments) {
  const std::vector<std::string>& words = arguments.plain();
  check(!words.empty() && words.front() == "comm", ErrorKind::kUsage,
        words.empty() ? "tmd bench: say what to measure"
                      : "tmd bench: '" + words.front() + "' cannot be measured",
        "tmd bench comm");
  CommBenchPlan plan;
  plan.operations.assign(words.begin() + 1, words.end());
  const std::vector<std::string>& known = comm_bench_operations();
  for (const std::string& operation : plan.operations) {
    check(std::ranges::find(known, operation) != known.end(), ErrorKind::kUsage,
          "tmd bench comm: there is no operation '" + operation + "'",
          "did you mean " + configs::nearest_name(operation, known) + "?");
  }
  if (plan.operations.empty()) plan.operations = known;
  plan.largest_bytes = in_range(arguments, "largest", plan.largest_bytes, 64, int64_t{1} << 30);
  plan.repeats = in_range(arguments, "repeats", plan.repeats, 1, 1000);
  return plan;
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Arguments arguments("bench", words, {"largest", "repeats", "json"});
  const CommBenchPlan plan = parse_plan(arguments);
  const fs::path file = arguments.value_or("json", "");
  comm::run_agreed(world, [&] {
    if (world.rank() == 0 && file.has_parent_path()) create_folders(file.parent_path());
  });
  const CommBench bench = measure_communication(world, plan);
  comm::run_agreed(world, [&] {
    if (world.rank() != 0) return;
    std::cout << bench.table();
    if (!file.empty()) publish_file(file, bench.json().dump(2) + "\n");
  });
  return 0;
}

}  // namespace

const Verb kBenchVerb{"bench", "measure how fast the ranks communicate", kHelp, run};

}  // namespace tmd::orchestrator
