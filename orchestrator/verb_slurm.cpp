#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>

#include "base/error.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "orchestrator/arguments.h"
#include "orchestrator/batch_script.h"
#include "orchestrator/job.h"
#include "orchestrator/load_config.h"
#include "orchestrator/plan.h"
#include "orchestrator/planned_sample.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHelp =
    R"(tmd slurm --config FILE... --nodes N [--ranks-per-node K] [--cores-per-rank C] [--time HH:MM:SS] [--run DIR]
          [--partition P] [--account A] [--node-memory BYTES] [--latent C,T,H,W] [--output FILE]
          [--allow-change KEY...] [--section.key=value ...]

Writes a script for sbatch that trains with these files: ranks, memory of a node by the plan of the run, time, and how
long before its end the job is told to save. The script calls slurm/train.sbatch, which queues the job again until the
run is finished (slurm/README.md). It goes to FILE or, without one, to the console.

  tmd slurm --config configs/clips.ini --nodes 2 --ranks-per-node 9 --mesh.data_workers=2 --data.files=clips.h5 | sbatch
  tmd slurm --config configs/wan1.3b-tmd.ini --nodes 4 --ranks-per-node 8 --time 1-00:00:00 --output wan.sbatch \
    --model.weights=Wan2.1-T2V-1.3B --data.files=train.h5

Ranks are trainers and data workers; without --ranks-per-node there are as few as mesh and nodes allow.
BYTES (512GB, 500GiB) are what a node has: exit code 2 when the plan needs more. 78 for a mesh, a batch or a number of
data workers that the ranks do not fit, and where no data are named.
)";

struct Request {
  std::vector<std::string> files, settings;
  std::unique_ptr<LoadedConfig> loaded;
  std::unique_ptr<Arguments> arguments;
};

Request take_request(const std::vector<std::string>& words) {
  const ConfigFiles split = take_config_files(words);
  check(!split.files.empty(), ErrorKind::kUsage, "tmd slurm: --config is missing",
        "tmd slurm --help shows examples");
  Request request{.files = split.files,
                  .settings = {},
                  .loaded = load_config(split.files, split.rest),
                  .arguments = nullptr};
  // What the table has left over is a subsequence; the words between are the settings.
  const std::vector<std::string>& others = request.loaded->other_words;
  size_t other = 0;
  for (const std::string& word : split.rest) {
    if (other < others.size() && word == others[other]) {
      ++other;
    } else {
      request.settings.push_back(word);
    }
  }
  request.arguments = std::make_unique<Arguments>(
      "slurm", others,
      std::set<std::string>{"nodes", "ranks-per-node", "cores-per-rank", "time", "run", "partition",
                            "account", "node-memory", "latent", "output"},
      std::set<std::string>{}, std::set<std::string>{"allow-change"});
  request.arguments->refuse_plain();
  return request;
}

int count(const Arguments& arguments, const std::string& name, int64_t otherwise) {
  const int64_t value = arguments.integer_or(name, otherwise);
  check(value >= 1 && value <= 65536, ErrorKind::kUsage, fmt::format("tmd slurm: --{} {}", name, value));
  return static_cast<int>(value);
}

// Ranks of a job that says nothing else: what the mesh names or, when one of its axes is open, at least a
// trainer on every node; the same number on all nodes, since Slurm deals out others as it likes.
int default_ranks(const configs::Config& config, int nodes) {
  int64_t trainers = 1;
  bool has_open_axis = false;
  for (int64_t extent :
       {config.mesh.replicate, config.mesh.shard, config.mesh.sequence, config.mesh.tensor}) {
    has_open_axis = has_open_axis || extent == 0;
    trainers *= std::max<int64_t>(extent, 1);
  }
  const int64_t step = trainers, workers = config.data_workers;
  const auto is_even = [&] { return (trainers + workers) % nodes == 0; };
  while (has_open_axis && trainers < 2 * nodes * step && (trainers < nodes || !is_even())) trainers += step;
  check(is_even(), ErrorKind::kConfig,
        fmt::format("{} trainers and {} data workers are not the same number of ranks on {} nodes", trainers,
                    workers, nodes),
        "another mesh or mesh.data_workers, or --ranks-per-node");
  return static_cast<int>(trainers + workers);
}

// slurm/train.sbatch of the tree that holds the program, or of the present folder.
fs::path find_starter(const fs::path& program) {
  std::vector<fs::path> folders;
  for (fs::path at = program.parent_path(); at != at.root_path(); at = at.parent_path())
    folders.push_back(at);
  folders.push_back(fs::current_path());
  for (const fs::path& folder : folders) {
    if (fs::exists(folder / "slurm/train.sbatch")) return folder / "slurm/train.sbatch";
  }
  throw Error(ErrorKind::kUsage, "tmd slurm: there is no slurm/train.sbatch",
              "start from the top folder of the project");
}

void lay_out(BatchJob& job, const Arguments& arguments, const configs::Config& config) {
  job.nodes = count(arguments, "nodes", 0);
  if (arguments.has("ranks-per-node")) {
    job.ranks_per_node = count(arguments, "ranks-per-node", 1);
    job.ranks = job.nodes * job.ranks_per_node;
  } else {
    job.ranks = default_ranks(config, job.nodes);
    job.ranks_per_node = job.ranks / job.nodes;
  }
  job.cores_per_rank = arguments.integer_or("cores-per-rank", config.train.threads);
}

std::string file_name_of(const fs::path& path) {
  const fs::path normal = path.lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).filename().string();
}

void take_train_words(BatchJob& job, const Request& request) {
  const std::string run =
      request.arguments->value_or("run", "runs/" + fs::path(request.files.back()).stem().string());
  job.name = file_name_of(run);
  job.words = {"--config"};
  job.words.insert(job.words.end(), request.files.begin(), request.files.end());
  job.words.insert(job.words.end(), {"--run", run});
  job.words.insert(job.words.end(), request.settings.begin(), request.settings.end());
  const std::vector<std::string> allowed = request.arguments->all("allow-change");
  if (!allowed.empty()) job.words.push_back("--allow-change");
  job.words.insert(job.words.end(), allowed.begin(), allowed.end());
}

// Between iterations, from where a checkpoint is written.
int64_t saved_bytes(const Plan& plan) {
  int64_t most = 0;
  for (const PlannedPhase& phase : plan.phases) {
    if (phase.name.ends_with("checkpoint")) most = std::max(most, phase.need.peak.total);
  }
  return most;
}

void take_resources(BatchJob& job, const Arguments& arguments, const configs::Config& config) {
  job.time = arguments.value_or("time", "24:00:00");
  const int64_t limit_s = time_limit_seconds(job.time);
  const workers::RoleLayout roles = workers::lay_out_roles(job.ranks, static_cast<int>(config.data_workers));
  const PlanInput input{config, roles.trainers,
                        planned_sample("slurm", config, arguments.value_or("latent", "")),
                        compute_type(config.train)};
  DeviceModel node;
  node.is_host = true;
  const Plan plan = make_plan(input, node);
  const int trainers = std::min(job.ranks_per_node, roles.trainers);
  job.node_bytes = node_memory(plan.peak(), trainers, job.ranks_per_node - trainers);
  job.signal_lead_s = signal_lead_seconds(trainers * saved_bytes(plan), limit_s);
  job.remarks = {fmt::format("{} nodes, {} data workers, {} trainers: {}", job.nodes, roles.data_workers,
                             roles.trainers, plan.mesh.to_string()),
                 fmt::format("plan of a trainer: {} for tensors at the peak, {} between iterations",
                             sharding::bytes_text(plan.peak()), sharding::bytes_text(saved_bytes(plan)))};
  if (!arguments.has("node-memory")) return;
  const int64_t given = bytes_of("node-memory", arguments.required("node-memory"), "512GB, 500GiB");
  check(job.node_bytes <= given, ErrorKind::kDoesNotFit,
        fmt::format("{} ranks on a node need {}, and it has {}", job.ranks_per_node,
                    sharding::bytes_text(job.node_bytes), sharding::bytes_text(given)),
        "more nodes or fewer ranks on each; `tmd plan` looks for other changes that fit");
}

void write_script(const std::vector<std::string>& words) {
  const Request request = take_request(words);
  const Arguments& arguments = *request.arguments;
  BatchJob job;
  arguments.required("nodes");
  require_data(request.loaded->config);
  lay_out(job, arguments, request.loaded->config);
  take_train_words(job, request);
  take_resources(job, arguments, request.loaded->config);
  job.partition = arguments.value_or("partition", "");
  job.account = arguments.value_or("account", "");
  job.folder = fs::current_path();
  job.program = fs::read_symlink("/proc/self/exe");
  job.starter = find_starter(job.program);

  const std::string script = batch_script(job);
  if (!arguments.has("output")) {
    std::cout << script << std::flush;
    return;
  }
  const fs::path file = arguments.required("output");
  check(!fs::exists(file), ErrorKind::kUsage, fmt::format("tmd slurm: {} exists already", file.string()));
  publish_file(file, script);
  log_info("{}; {} of memory a node; submit it with: sbatch {}", job.remarks.front(),
           sharding::bytes_text(job.node_bytes), quoted(file.string()));
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) write_script(words);
  });
  return 0;
}

}  // namespace

const Verb kSlurmVerb{"slurm", "write a batch script for a run", kHelp, run};

}  // namespace tmd::orchestrator
