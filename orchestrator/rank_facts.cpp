#include "orchestrator/rank_facts.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <sstream>
#include <string_view>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <ATen/Version.h>
#include <nlohmann/json.hpp>

#include "base/cuda_runtime.h"
#include "base/host_memory.h"
#include "comm/agree.h"
#include "orchestrator/library_versions.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kVariables[] = {"OMPI_COMM_WORLD_SIZE",
                                           "OMPI_MCA_mpi_yield_when_idle",
                                           "OMPI_MCA_mpi_oversubscribe",
                                           "PMIX_NAMESPACE",
                                           "PMIX_RANK",
                                           "PMIX_VERSION",
                                           "PMI_RANK",
                                           "PMI_SIZE",
                                           "SLURM_JOB_ID",
                                           "SLURM_STEP_ID",
                                           "SLURM_STEP_NUM_TASKS",
                                           "SLURM_NTASKS",
                                           "SLURM_PROCID",
                                           "SLURM_MPI_TYPE",
                                           "OMP_NUM_THREADS",
                                           "CUDA_VISIBLE_DEVICES"};

// A rank that the system holds up after a barrier sees a late clock: the median of several is asked.
constexpr int kClockReadings = 5;

uint64_t soft_limit(__rlimit_resource resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kNoLimit;
  return limit.rlim_cur;
}

std::string line_with(const std::string& file, const std::string& start) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(start)) return line.substr(start.size());
  }
  return {};
}

std::vector<int> own_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

int64_t count_entries(const fs::path& folder) {
  std::error_code failure;
  fs::directory_iterator entries(folder, failure);
  return failure ? 0 : std::distance(begin(entries), end(entries));
}

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue ...": the first word with two dots.
std::string driver_version() {
  std::istringstream words(line_with("/proc/driver/nvidia/version", "NVRM version:"));
  for (std::string word; words >> word;) {
    if (std::isdigit(static_cast<unsigned char>(word[0])) && word.find('.') != std::string::npos) return word;
  }
  return {};
}

// What the process was started with: Open MPI sets variables of a launcher in a process that had none.
std::map<std::string, std::string> started_with() {
  std::map<std::string, std::string> variables;
  std::ifstream file("/proc/self/environ");
  for (std::string entry; std::getline(file, entry, '\0');) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = entry.substr(0, equals);
    if (std::ranges::find(kVariables, name) != std::end(kVariables))
      variables[name] = entry.substr(equals + 1);
  }
  return variables;
}

void see_host(RankFacts& facts) {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  facts.host = name;
  std::istringstream(line_with("/proc/meminfo", "MemTotal:")) >> facts.memory_total_bytes;
  facts.memory_total_bytes *= 1024;
  facts.memory_available_bytes = available_memory().value_or(0);
  const auto left = left_in_control_groups("/proc/self/cgroup", "/sys/fs/cgroup");
  // Version 1 writes a limit that is not set as a huge number.
  if (left && *left < facts.memory_total_bytes) facts.memory_group_bytes = *left;
  struct statvfs status {};
  if (::statvfs("/dev/shm", &status) == 0) {
    facts.shared_memory_total_bytes = uint64_t{status.f_blocks} * status.f_frsize;
    facts.shared_memory_free_bytes = uint64_t{status.f_bavail} * status.f_frsize;
  }
  facts.has_infiniband = count_entries("/sys/class/infiniband") > 0;
  facts.gpu_driver = driver_version();
  facts.gpus = count_entries("/proc/driver/nvidia/gpus");
}

void see_process(RankFacts& facts) {
  facts.environment = started_with();
  facts.cores = own_cores();
  facts.core_quota = core_quota("/proc/self/cgroup", "/sys/fs/cgroup");
  // mpirun's own process keeps all cores and binds the ranks; srun's may have more than the job.
  if (!facts.variable("OMPI_COMM_WORLD_SIZE").empty()) {
    const std::string status = "/proc/" + std::to_string(::getppid()) + "/status";
    facts.launcher_cores =
        static_cast<int64_t>(parse_core_list(line_with(status, "Cpus_allowed_list:")).size());
  }
  const cuda::DeviceCount found = cuda::device_count();
  facts.no_device = found.reason;
  for (int device = 0; device < found.count; ++device)
    facts.devices.push_back(cuda::device_info(device).name);
  facts.open_files_limit = soft_limit(RLIMIT_NOFILE);
  facts.file_bytes_limit = soft_limit(RLIMIT_FSIZE);
  facts.locked_bytes_limit = soft_limit(RLIMIT_MEMLOCK);
  facts.address_bytes_limit = soft_limit(RLIMIT_AS);
  for (const LibraryVersion& library : library_versions()) {
    if (library.name != "kernel") facts.versions += library.name + " " + library.version + "\n";
  }
  facts.versions += "kernels for " + at::get_cpu_capability() + "\n";
}

}  // namespace

std::string RankFacts::variable(const std::string& name) const {
  const auto found = environment.find(name);
  return found == environment.end() ? "" : found->second;
}

// Open MPI 4.1 takes oversubscription, which mpirun tells it, for the default.
bool RankFacts::yields_when_idle() const {
  const std::string asked = variable("OMPI_MCA_mpi_yield_when_idle");
  const std::string value = asked.empty() ? variable("OMPI_MCA_mpi_oversubscribe") : asked;
  return value == "1" || value == "true" || value == "yes" || value == "enabled";
}

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankFacts, host, cores, launcher_cores, core_quota, threads,
                                   memory_total_bytes, memory_available_bytes, memory_group_bytes,
                                   shared_memory_total_bytes, shared_memory_free_bytes, open_files_limit,
                                   file_bytes_limit, locked_bytes_limit, address_bytes_limit, has_infiniband,
                                   gpu_driver, gpus, devices, no_device, versions, clock_us, environment)

std::vector<RankFacts> gather_facts(comm::Communicator& world, int64_t threads) {
  RankFacts own;
  own.threads = threads;
  comm::run_agreed(world, [&] {
    see_host(own);
    see_process(own);
  });
  for (int reading = 0; reading < kClockReadings; ++reading) {
    world.barrier();
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    own.clock_us.push_back(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
  }
  // Host names and variables are anybody's bytes; a broken one must not end the report.
  const std::string text = nlohmann::json(own).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::vector<RankFacts> all;
  for (const std::string& one : comm::gather_strings(world, text)) all.push_back(nlohmann::json::parse(one));
  return all;
}

double core_quota(const std::string& groups, const std::string& mount) {
  double least = 0;
  fs::path at = fs::path("/" + line_with(groups, "0::")).lexically_normal().relative_path();
  for (;; at = at.parent_path()) {
    std::ifstream file(fs::path(mount) / at / "cpu.max");
    double quota = 0, period = 0;  // "max 100000" is no number
    if (file >> quota >> period && period > 0)
      least = least == 0 ? quota / period : std::min(least, quota / period);
    if (at.empty()) return least;
  }
}

std::vector<int> parse_core_list(const std::string& text) {
  std::vector<int> cores;
  std::istringstream stream(text);
  for (int first = 0; stream >> first;) {
    int last = first;
    if (stream.peek() == '-' && !(stream.ignore() >> last)) break;
    for (int core = first; core <= last; ++core) cores.push_back(core);
    if (stream.peek() == ',') stream.ignore();
  }
  return cores;
}

}  // namespace tmd::orchestrator
