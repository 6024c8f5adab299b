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
#include "orchestrator/checkpoint_bench.h"
#include "orchestrator/comm_bench.h"
#include "orchestrator/loaded_wan.h"
#include "orchestrator/step_bench.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHelp =
    R"(tmd bench comm [OPERATION ...] [--largest BYTES] [--repeats N] [--json FILE]
tmd bench step [--preset tiny|small|wide|wan1.3b] [--mode both|student|critic|plain|bare] [--dtype fp32|bf16]
               [--device auto|cpu|cuda] [--iterations N] [--warmup N] [--batch N] [--threads N] [--keep_blocks K]
               [--mesh.AXIS N] [--mesh.two_level] [--mute] [--json FILE]
tmd bench checkpoint --folder DIR [--preset tiny|small|wide] [--repeats N] [--iterations N]
               [--mesh.AXIS N] [--mesh.two_level] [--json FILE]

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
losses. wan1.3b has the size of the published network and of its clips (480p). scripts/bench runs the same work on FSDP2 with diffusers' network beside it. What the engine costs: --mode plain is one
network, bare the same without any engine (one rank; compare with --keep_blocks 1000, since it recomputes nothing); --mute
measures steps that communicate nothing, whose losses have no meaning.

bench checkpoint writes checkpoints of the same networks into a new folder while it trains, and loads them again: how long training
is held, how long iterations take meanwhile, and a load beside a plain read of the same bytes.

  mpirun -n 2 tmd bench step --preset small
  mpirun -n 4 tmd bench step --preset tiny --mesh.sequence 2 --iterations 5 --json step.json
  mpirun -n 2 tmd bench checkpoint --preset small --folder scratch
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

sharding::MeshShape parse_mesh(const Arguments& arguments) {
  return {.replicate = in_range(arguments, "mesh.replicate", 1, 0, 1 << 20),
          .shard = in_range(arguments, "mesh.shard", 0, 0, 1 << 20),
          .sequence = in_range(arguments, "mesh.sequence", 1, 0, 1 << 20),
          .tensor = in_range(arguments, "mesh.tensor", 1, 0, 1 << 20),
          .two_level = arguments.has("mesh.two_level")};
}

StepBenchPlan parse_step_plan(const Arguments& arguments) {
  check(arguments.plain().size() == 1, ErrorKind::kUsage,
        "tmd bench step: unexpected word " + arguments.plain().back());
  StepBenchPlan plan;
  plan.preset = one_of(arguments, "preset", {"small", "tiny", "wide", "wan1.3b"});
  plan.device = parse_device(arguments.value_or("device", "auto"));
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
  plan.mesh = parse_mesh(arguments);
  return plan;
}

CheckpointBenchPlan parse_checkpoint_plan(const Arguments& arguments) {
  CheckpointBenchPlan plan;
  plan.preset = one_of(arguments, "preset", {"small", "tiny", "wide"});
  plan.folder = arguments.required("folder");
  plan.iterations = in_range(arguments, "iterations", plan.iterations, 1, 1000);
  plan.repeats = in_range(arguments, "repeats", plan.repeats, 1, 1000);
  plan.mesh = parse_mesh(arguments);
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

const std::set<std::string> kMeshOptions = {"mesh.replicate", "mesh.shard", "mesh.sequence", "mesh.tensor"};

// The options of a subject, those of the mesh included where it has one.
std::set<std::string> options_of(const std::string& subject) {
  if (subject == "comm") return {"largest", "repeats", "json"};
  std::set<std::string> options = {"preset", "iterations", "json"};
  options.insert(kMeshOptions.begin(), kMeshOptions.end());
  if (subject == "step") {
    options.insert({"mode", "dtype", "device", "warmup", "batch", "threads", "keep_blocks"});
  } else {
    options.insert({"folder", "repeats"});
  }
  return options;
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const std::string subject = words.empty() ? "" : words.front();
  check(subject == "step" || subject == "comm" || subject == "checkpoint", ErrorKind::kUsage,
        words.empty() ? "tmd bench: say what to measure"
                      : "tmd bench: '" + words.front() + "' cannot be measured",
        "tmd bench comm, tmd bench step or tmd bench checkpoint");
  std::set<std::string> switches;
  if (subject != "comm") switches.insert("mesh.two_level");
  if (subject == "step") switches.insert("mute");
  const Arguments arguments("bench", words, options_of(subject), switches);
  const fs::path file = arguments.value_or("json", "");
  const CommBenchPlan comm_plan = subject == "comm" ? parse_comm_plan(arguments) : CommBenchPlan();
  const StepBenchPlan step_plan = subject == "step" ? parse_step_plan(arguments) : StepBenchPlan();
  const CheckpointBenchPlan checkpoint_plan =
      subject == "checkpoint" ? parse_checkpoint_plan(arguments) : CheckpointBenchPlan();
  comm::run_agreed(world, [&] {
    if (world.rank() == 0 && file.has_parent_path()) create_folders(file.parent_path());
  });
  if (subject == "step") {
    const StepBench bench = measure_steps(world, step_plan);
    show(world, file, bench.table(step_plan), bench.json(step_plan));
  } else if (subject == "checkpoint") {
    const CheckpointBench bench = measure_checkpoints(world, checkpoint_plan);
    show(world, file, bench.table(), bench.json());
  } else {
    const CommBench bench = measure_communication(world, comm_plan);
    show(world, file, bench.table(), bench.json());
  }
  return 0;
}

}  // namespace

const Verb kBenchVerb{"bench", "measure how fast the ranks communicate, train and save", kHelp, run};

}  // namespace tmd::orchestrator
