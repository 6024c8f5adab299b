#include <algorithm>
#include <filesystem>
#include <iostream>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/folder.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "configs/nearest.h"
#include "orchestrator/arguments.h"
#include "orchestrator/comm_bench.h"
#include "orchestrator/step_bench.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHelp =
    R"(tmd bench comm [OPERATION ...] [--largest BYTES] [--repeats N] [--json FILE]
tmd bench step [--preset tiny|small|wide] [--mode both|student|critic|plain|bare] [--dtype fp32|bf16] [--iterations N]
               [--warmup N] [--batch N] [--threads N] [--keep_blocks K] [--mesh.AXIS N] [--mesh.two_level]
               [--mute] [--json FILE]

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

bench step measures training steps on three networks (frozen teacher, student, fake score) that need no files: forward and backward
passes as in distillation, and AdamW. Shown are times of the slowest rank, what waited for communication, memory and
losses. scripts/bench runs the same work on FSDP2 with diffusers' network beside it. What the engine costs: --mode plain is one
network, bare the same without any engine (one rank; compare with --keep_blocks 1000, since it recomputes nothing); --mute
measures steps that communicate nothing, whose losses have no meaning.

  mpirun -n 2 tmd bench step --preset small
  mpirun -n 4 tmd bench step --preset tiny --mesh.sequence 2 --iterations 5 --json step.json
)";

int64_t in_range(const Arguments& arguments, const std::string& name, int64_t otherwise, int64_t least,
                 int64_t most) {
  const int64_t value = arguments.integer_or(name, otherwise);
  check(value >= least && value <= most, ErrorKind::kUsage,
        "tmd bench: --" + name + " is " + std::to_string(value),
        "give a number from " + std::to_string(least) + " to " + std::to_string(most));
  return value;
}

CommBenchPlan parse_comm_plan(const Arguments& arguments) {
  const std::vector<std::string>& words = arguments.plain();
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

std::string one_of(const Arguments& arguments, const std::string& name,
                   const std::vector<std::string>& legal) {
  const std::string value = arguments.value_or(name, legal.front());
  check(std::ranges::find(legal, value) != legal.end(), ErrorKind::kUsage,
        "tmd bench step: --" + name + " is '" + value + "'",
        "did you mean " + configs::nearest_name(value, legal) + "?");
  return value;
}

StepBenchPlan parse_step_plan(const Arguments& arguments) {
  check(arguments.plain().size() == 1, ErrorKind::kUsage,
        "tmd bench step: unexpected word " + arguments.plain().back());
  StepBenchPlan plan;
  plan.preset = one_of(arguments, "preset", {"small", "tiny", "wide"});
  plan.mode = one_of(arguments, "mode", {"both", "student", "critic", "plain", "bare"});
  plan.type = one_of(arguments, "dtype", {"fp32", "bf16"}) == "bf16" ? at::kBFloat16 : at::kFloat;
  plan.measured = in_range(arguments, "iterations", plan.measured, 1, 100000);
  plan.warmup = in_range(arguments, "warmup", plan.warmup, 0, 100000);
  plan.batch = in_range(arguments, "batch", plan.batch, 1, 1024);
  plan.threads = in_range(arguments, "threads", plan.threads, 1, 1024);
  plan.keep_blocks = in_range(arguments, "keep_blocks", 0, 0, 1000);
  plan.mute = arguments.has("mute");
  check(!plan.mute || plan.warmup > 0, ErrorKind::kUsage,
        "tmd bench step: --mute needs a warm-up, which communicates");
  plan.mesh = {.replicate = in_range(arguments, "mesh.replicate", 1, 0, 1 << 20),
               .shard = in_range(arguments, "mesh.shard", 0, 0, 1 << 20),
               .sequence = in_range(arguments, "mesh.sequence", 1, 0, 1 << 20),
               .tensor = in_range(arguments, "mesh.tensor", 1, 0, 1 << 20),
               .two_level = arguments.has("mesh.two_level")};
  return plan;
}

// Prints and writes on rank 0.
void show(comm::Communicator& world, const fs::path& file, const std::string& table,
          const nlohmann::json& json) {
  comm::run_agreed(world, [&] {
    if (world.rank() != 0) return;
    std::cout << table << std::flush;
    if (!file.empty()) publish_file(file, json.dump(2) + "\n");
  });
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const bool is_step = !words.empty() && words.front() == "step";
  check(is_step || (!words.empty() && words.front() == "comm"), ErrorKind::kUsage,
        words.empty() ? "tmd bench: say what to measure"
                      : "tmd bench: '" + words.front() + "' cannot be measured",
        "tmd bench comm, or tmd bench step");
  const std::set<std::string> of_comm = {"largest", "repeats", "json"};
  const std::set<std::string> of_step = {
      "preset",      "mode", "dtype",          "iterations", "warmup",        "batch",      "threads",
      "keep_blocks", "json", "mesh.replicate", "mesh.shard", "mesh.sequence", "mesh.tensor"};
  const std::set<std::string> switches =
      is_step ? std::set<std::string>{"mute", "mesh.two_level"} : std::set<std::string>{};
  const Arguments arguments("bench", words, is_step ? of_step : of_comm, switches);
  const fs::path file = arguments.value_or("json", "");
  const CommBenchPlan comm_plan = is_step ? CommBenchPlan() : parse_comm_plan(arguments);
  const StepBenchPlan step_plan = is_step ? parse_step_plan(arguments) : StepBenchPlan();
  comm::run_agreed(world, [&] {
    if (world.rank() == 0 && file.has_parent_path()) create_folders(file.parent_path());
  });
  if (is_step) {
    const StepBench bench = measure_steps(world, step_plan);
    show(world, file, bench.table(step_plan), bench.json(step_plan));
  } else {
    const CommBench bench = measure_communication(world, comm_plan);
    show(world, file, bench.table(), bench.json());
  }
  return 0;
}

}  // namespace

const Verb kBenchVerb{"bench", "measure how fast the ranks communicate and train", kHelp, run};

}  // namespace tmd::orchestrator
