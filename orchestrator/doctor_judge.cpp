#include "orchestrator/doctor_judge.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "orchestrator/library_versions.h"

namespace tmd::orchestrator {
namespace {

constexpr size_t kMostHosts = 16;  // a line each on the terminal; --json has all
constexpr double kClockLimit_s = 1;

int number_of(const RankFacts& facts, const char* variable) {
  return std::atoi(facts.variable(variable).c_str());
}

std::string job_text(const RankFacts& facts) {
  const std::string job = facts.variable("SLURM_JOB_ID");
  return job.empty() ? "" : fmt::format(", in Slurm job {}", job);
}

Finding judge_launcher(const RankFacts& facts, size_t ranks) {
  const bool has_pmix = !facts.variable("PMIX_RANK").empty();
  const std::string pmix = facts.variable("PMIX_VERSION"), job = job_text(facts);
  const std::string version = pmix.empty() ? "PMIx" : "PMIx " + pmix;
  if (!facts.variable("OMPI_COMM_WORLD_SIZE").empty())
    return fine("launch", "launcher", fmt::format("mpirun of Open MPI, {}{}", version, job));
  const bool is_step = !facts.variable("SLURM_STEP_ID").empty() && !facts.variable("SLURM_PROCID").empty();
  if (has_pmix)
    return fine("launch", "launcher",
                fmt::format("{} with {}{}", is_step ? "srun" : "a launcher", version, job));
  if (!facts.variable("PMI_RANK").empty() || !facts.variable("PMI_SIZE").empty()) {
    return fine("launch", "launcher",
                fmt::format("{} with PMI, not PMIx{}", is_step ? "srun" : "a launcher", job));
  }
  if (ranks > 1)
    return fine("launch", "launcher", "unknown: no variable of mpirun, PMIx, PMI or Slurm is set");
  return fine("launch", "launcher", "none: the program was started alone, MPI has one rank" + job);
}

}  // namespace

std::vector<Finding> judge_launch(const std::vector<RankFacts>& facts) {
  const int ranks = static_cast<int>(facts.size());
  std::vector<Finding> findings{judge_launcher(facts.front(), facts.size())};
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const bool is_of_mpirun = !facts.front().variable("OMPI_COMM_WORLD_SIZE").empty();
    const int started = number_of(facts.front(), variable);
    // Under mpirun the Slurm step is that of its daemons.
    if (started == 0 || (is_of_mpirun && variable != std::string("OMPI_COMM_WORLD_SIZE"))) continue;
    if (started == ranks) {
      findings.push_back(fine("launch", "world size", fmt::format("{} ranks, as {} says", ranks, variable)));
      continue;
    }
    findings.push_back(
        error("launch", "world size", ErrorKind::kUnavailable,
              fmt::format("MPI has {} ranks, but {} = {}", ranks, variable, started),
              "the launcher and MPI do not fit: try srun --mpi=pmix (srun --mpi=list shows what "
              "there is), or mpirun"));
  }
  if (findings.size() == 1) findings.push_back(fine("launch", "world size", counted(ranks, "rank")));
  const int tasks = number_of(facts.front(), "SLURM_NTASKS");
  if (tasks > 0 && tasks != ranks) {
    findings.push_back(
        warning("launch", "allocation",
                fmt::format("{} ranks in an allocation for {} tasks (SLURM_NTASKS)", ranks, tasks),
                "start as many ranks as tasks were asked for, or ask for fewer"));
  }
  return findings;
}

std::vector<HostFacts> hosts_of(const std::vector<RankFacts>& facts) {
  std::vector<HostFacts> hosts;
  for (size_t rank = 0; rank < facts.size(); ++rank) {
    auto host = std::ranges::find(hosts, facts[rank].host, &HostFacts::name);
    if (host == hosts.end())
      host = hosts.insert(hosts.end(), {.name = facts[rank].host, .ranks = {}, .cores = {}});
    host->ranks.push_back(static_cast<int>(rank));
    host->threads += facts[rank].threads;
    std::vector<int> cores;
    std::ranges::set_union(host->cores, facts[rank].cores, std::back_inserter(cores));
    host->cores = std::move(cores);
  }
  return hosts;
}

std::vector<Finding> judge_hosts(const std::vector<RankFacts>& facts) {
  const std::vector<HostFacts> hosts = hosts_of(facts);
  std::vector<Finding> findings;
  bool are_neighbours = true;
  for (size_t i = 0; i < hosts.size(); ++i) {
    const std::vector<int>& ranks = hosts[i].ranks;
    are_neighbours = are_neighbours && ranks.back() - ranks.front() + 1 == static_cast<int>(ranks.size());
    if (i >= kMostHosts) continue;
    const std::string cores = ranges_text(hosts[i].cores);
    findings.push_back(
        fine("hosts", hosts[i].name,
             fmt::format("rank{} {} on cores {}", ranks.size() == 1 ? "" : "s", ranges_text(ranks), cores)));
  }
  if (hosts.size() > kMostHosts)
    findings.push_back(fine("hosts", "others", fmt::format("{} more hosts", hosts.size() - kMostHosts)));
  if (are_neighbours) return findings;
  findings.push_back(
      warning("hosts", "order",
              "ranks of one host are not consecutive, so groups of neighbouring ranks (tensor, "
              "sequence) reach beyond hosts",
              "mpirun --map-by slot, or srun --distribution=block"));
  return findings;
}

std::vector<Finding> judge_versions(const std::vector<RankFacts>& facts) {
  std::vector<int> others;
  for (size_t rank = 1; rank < facts.size(); ++rank) {
    if (facts[rank].versions != facts.front().versions) others.push_back(static_cast<int>(rank));
  }
  if (others.empty()) {
    return {fine("program", "libraries", "the same versions on " + counted(facts.size(), "rank"))};
  }
  const std::string& ours = facts.front().versions;
  const std::string& theirs = facts[static_cast<size_t>(others.front())].versions;
  const size_t at = static_cast<size_t>(std::ranges::mismatch(ours, theirs).in1 - ours.begin());
  const size_t begin = at == 0 ? 0 : ours.rfind('\n', at - 1) + 1;
  const auto line = [&](const std::string& text) {
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  return {warning("program", "libraries",
                  fmt::format("other libraries than on rank 0 run on ranks {}: rank {} has {}, rank 0 has {}",
                              ranges_text(others), others.front(), line(theirs), line(ours)),
                  "install the same versions on all hosts: results may differ between them")};
}

std::vector<Finding> judge_clocks(const std::vector<RankFacts>& facts) {
  double largest_s = 0;
  std::vector<Finding> findings;
  for (const HostFacts& host : hosts_of(facts)) {
    const std::vector<int64_t>& theirs = facts[static_cast<size_t>(host.ranks.front())].clock_us;
    const std::vector<int64_t>& ours = facts.front().clock_us;
    std::vector<int64_t> offsets;
    for (size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) offsets.push_back(theirs[i] - ours[i]);
    if (offsets.empty()) continue;
    std::ranges::sort(offsets);
    const double offset_s = static_cast<double>(offsets[offsets.size() / 2]) * 1e-6;
    largest_s = std::max(largest_s, std::abs(offset_s));
    if (std::abs(offset_s) <= kClockLimit_s) continue;
    findings.push_back(
        warning("clocks", host.name,
                fmt::format("{:.1f} s {} the clock of rank 0", std::abs(offset_s),
                            offset_s > 0 ? "ahead of" : "behind"),
                "let chrony or ntpd set the clocks: logs, metrics and time limits compare them"));
  }
  if (!findings.empty()) return findings;
  return {fine("clocks", "offset",
               fmt::format("at most {:.1f} ms from rank 0, as seen after a barrier", largest_s * 1e3))};
}

namespace {

Finding judge_devices_of(const RankFacts& facts, const HostFacts& host) {
  const std::string driver = facts.gpu_driver.empty() ? "no NVIDIA driver"
                                                      : fmt::format("driver {} lists {}", facts.gpu_driver,
                                                                    counted(facts.gpus, "GPU"));
  if (facts.devices.empty()) {
    const std::string text = fmt::format("computes on the CPU: {}; {}", facts.no_device, driver);
    if (facts.gpus == 0) return fine("devices", host.name, text);
    return warning("devices", host.name, text,
                   "scripts/setup --preset gpu builds for GPUs; build/gpu/tmd needs a driver for CUDA 13");
  }
  const std::string text =
      fmt::format("{} of {}; {}", counted(facts.devices.size(), "device"), facts.devices.front(), driver);
  if (host.ranks.size() <= facts.devices.size() || facts.devices.size() == 1)
    return fine("devices", host.name, text);
  return warning("devices", host.name, fmt::format("{}, for {} ranks", text, host.ranks.size()),
                 "start one trainer for each GPU; data workers need none");
}

}  // namespace

std::vector<Finding> judge_devices(const std::vector<RankFacts>& facts) {
  // Hosts of one kind are one line.
  std::vector<Finding> findings;
  std::vector<int64_t> hosts;
  for (const HostFacts& host : hosts_of(facts)) {
    Finding finding = judge_devices_of(facts[static_cast<size_t>(host.ranks.front())], host);
    const auto same = std::ranges::find(findings, finding.text, &Finding::text);
    if (same == findings.end()) {
      findings.push_back(std::move(finding));
      hosts.push_back(1);
    } else {
      same->name = counted(++hosts[static_cast<size_t>(same - findings.begin())], "host");
    }
  }
  const std::string nccl = nccl_version();
  findings.push_back(fine("devices", "NCCL", nccl.empty() ? "not part of this program" : nccl));
  return findings;
}

Finding judge_rates(const std::vector<RankFacts>& facts, const std::vector<double>& rates,
                    const std::string& name, const std::string& unit) {
  std::vector<double> sorted = rates;
  std::ranges::sort(sorted);
  // Of two ranks the faster one is the measure, or a slow one could not be told.
  const double median = sorted[sorted.size() / 2];
  std::vector<std::string> slow;
  bool takes_turns = false;  // with other ranks on the cores of its host
  const std::vector<HostFacts> hosts = hosts_of(facts);
  for (size_t rank = 0; rank < rates.size(); ++rank) {
    if (rates[rank] >= kSlowShare * median) continue;
    slow.push_back(fmt::format("rank {} on {} ({:.1f})", rank, facts[rank].host, rates[rank]));
    const auto host = std::ranges::find(hosts, facts[rank].host, &HostFacts::name);
    takes_turns = takes_turns || host->ranks.size() > host->cores.size();
  }
  const std::string all = rates.size() == 1 ? fmt::format("{:.1f} {}", median, unit)
                                            : fmt::format("{:.1f} to {:.1f} {} a rank, median {:.1f}",
                                                          sorted.front(), sorted.back(), unit, median);
  if (slow.empty()) return fine("speed", name, all);
  constexpr size_t kMostNamed = 8;
  const size_t left_out = slow.size() - std::min(slow.size(), kMostNamed);
  slow.resize(slow.size() - left_out);
  return warning(
      "speed", name,
      fmt::format("{}; slow: {}{}", all, fmt::join(slow, ", "),
                  left_out == 0 ? "" : fmt::format(" and {} more", left_out)),
      takes_turns ? "more ranks than cores are there and take turns: start fewer"
                  : "every collective waits for the slowest rank: look there for other jobs, heat or a power "
                    "limit, or leave the host out");
}

std::string ranges_text(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += text.empty() ? "" : ", ";
    text += last == i ? fmt::format("{}", numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace tmd::orchestrator
