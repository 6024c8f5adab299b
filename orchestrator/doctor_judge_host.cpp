#include <algorithm>
#include <fmt/format.h>

#include "orchestrator/doctor_judge.h"

namespace tmd::orchestrator {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Open MPI gives every rank a segment of 4 MiB and more in /dev/shm; containers often have 64 MiB in all.
constexpr uint64_t kSharedMemoryPerRank = 16 * kMiB;
// The program and its libraries take 0.3 GB before the first tensor (docs/plan.md).
constexpr uint64_t kMemoryPerRank = 512 * kMiB;
// Libraries, data files, logs and journals; besides, a connection and mapped segments for each peer.
constexpr uint64_t kOpenFiles = 256, kOpenFilesPerRank = 8;
// Groups of files in a checkpoint: teacher, student, fake score, discriminator.
constexpr uint64_t kCheckpointGroups = 4;

/// One thing about every host: what is wrong with some, or one line when all are well.
class PerHost {
 public:
  PerHost(std::string heading, std::string name) : heading_(std::move(heading)), name_(std::move(name)) {}

  void add(Finding finding) { findings_.push_back(std::move(finding)); }
  void warn(const HostFacts& host, const std::string& text, const std::string& hint) {
    add(warning(heading_, name_, host.name + ": " + text, hint));
  }

  /// The first few, and how many there are more; `summary` when there are none.
  void move_to(std::vector<Finding>& all, const std::string& summary) {
    constexpr size_t kMost = 8;
    if (findings_.empty()) findings_.push_back(fine(heading_, name_, summary));
    if (findings_.size() > kMost) {
      const size_t more = findings_.size() - kMost;
      findings_.resize(kMost);
      findings_.back().text += fmt::format(" (and {} more hosts)", more);
    }
    std::ranges::move(findings_, std::back_inserter(all));
  }

 private:
  std::string heading_, name_;
  std::vector<Finding> findings_;
};

const RankFacts& first_of(const HostFacts& host, const std::vector<RankFacts>& facts) {
  return facts[static_cast<size_t>(host.ranks.front())];
}

template <class Member>
uint64_t least(const std::vector<RankFacts>& facts, Member member) {
  return (*std::ranges::min_element(facts, {}, member)).*member;
}

void judge_sharing(std::vector<Finding>& all, const std::vector<HostFacts>& hosts,
                   const std::vector<RankFacts>& facts) {
  PerHost sharing("cores", "ranks");
  std::string most = "each rank can have a core of its own";
  for (const HostFacts& host : hosts) {
    if (host.ranks.size() <= host.cores.size()) continue;
    const std::string text =
        fmt::format("{} share {}", counted(host.ranks.size(), "rank"), counted(host.cores.size(), "core"));
    most = host.name + ": " + text + "; idle ones yield";
    if (first_of(host, facts).yields_when_idle()) continue;
    sharing.warn(host, text + ", and idle ones do not yield",
                 "set OMPI_MCA_mpi_yield_when_idle=1, or start fewer ranks on a host");
  }
  sharing.move_to(all, most);
}

void judge_threads(std::vector<Finding>& all, const std::vector<HostFacts>& hosts) {
  PerHost threads("cores", "threads");
  int64_t most = 0;
  for (const HostFacts& host : hosts) {
    most = std::max(most, host.threads);
    // A rank has at least one: that is what the finding above is about.
    const auto least = static_cast<int64_t>(std::max(host.cores.size(), host.ranks.size()));
    if (host.threads <= least) continue;
    threads.warn(
        host,
        fmt::format("{} on {}", counted(host.threads, "compute thread"), counted(host.cores.size(), "core")),
        "train.threads = 0 shares the cores out");
  }
  threads.move_to(all, counted(most, "compute thread") + " on a host at most");
}

void judge_binding(std::vector<Finding>& all, const std::vector<HostFacts>& hosts,
                   const std::vector<RankFacts>& facts) {
  PerHost binding("cores", "binding");
  bool is_known = false;
  for (const HostFacts& host : hosts) {
    const auto there = static_cast<size_t>(first_of(host, facts).launcher_cores);
    is_known = is_known || there > 0;
    if (there == 0 || 2 * host.cores.size() > there) continue;
    binding.warn(host,
                 fmt::format("mpirun has bound {} to {} of {} cores", counted(host.ranks.size(), "rank"),
                             host.cores.size(), there),
                 "mpirun --bind-to none, or --map-by slot:PE=N for N cores a rank");
  }
  if (is_known) binding.move_to(all, "mpirun leaves the ranks more than half of the cores");
}

void judge_quota(std::vector<Finding>& all, const std::vector<HostFacts>& hosts,
                 const std::vector<RankFacts>& facts) {
  PerHost quota("cores", "quota");
  double least = 0;
  for (const HostFacts& host : hosts) {
    const double given = first_of(host, facts).core_quota;
    if (given > 0) least = least == 0 ? given : std::min(least, given);
    if (given == 0 || static_cast<double>(host.threads) <= given + 0.5) continue;
    quota.warn(
        host, fmt::format("control groups allow {:.1f} cores' time for {} threads", given, host.threads),
        "set train.threads or OMP_NUM_THREADS to what is allowed, or raise the limit of the container");
  }
  quota.move_to(all, least == 0 ? "control groups set no limit"
                                : fmt::format("control groups allow {:.1f} cores' time", least));
}

}  // namespace

std::vector<Finding> judge_cores(const std::vector<RankFacts>& facts) {
  const std::vector<HostFacts> hosts = hosts_of(facts);
  std::vector<Finding> all;
  judge_sharing(all, hosts, facts);
  judge_threads(all, hosts);
  judge_binding(all, hosts, facts);
  judge_quota(all, hosts, facts);
  return all;
}

std::vector<Finding> judge_memory(const std::vector<RankFacts>& facts) {
  PerHost memory("memory", "host memory"), shared("memory", "/dev/shm");
  std::string memory_text, shared_text;
  uint64_t least_memory = kNoLimit, least_shared = kNoLimit;
  for (const HostFacts& host : hosts_of(facts)) {
    const RankFacts& first = first_of(host, facts);
    const uint64_t ranks = host.ranks.size(), available = first.memory_available_bytes;
    const std::string groups = first.memory_group_bytes == kNoLimit
                                   ? "no limit by control groups"
                                   : "control groups leave " + size_text(first.memory_group_bytes);
    const std::string text = fmt::format("{} of {} available, {}", size_text(available),
                                         size_text(first.memory_total_bytes), groups);
    if (available < kMemoryPerRank * ranks)
      memory.warn(host, fmt::format("{}; {} ranks are there", text, ranks),
                  "`tmd plan` says what a rank needs; end other programs, or ask for more memory (--mem)");
    if (available < std::exchange(least_memory, std::min(least_memory, available))) memory_text = text;
    const uint64_t free = first.shared_memory_free_bytes;
    const std::string shared_now =
        fmt::format("{} of {} free", size_text(free), size_text(first.shared_memory_total_bytes));
    if (free < kSharedMemoryPerRank * ranks)
      shared.warn(host, fmt::format("{}; Open MPI's ranks on one host meet there", shared_now),
                  "make it larger: docker --shm-size=1g, or mount -o remount,size=1g /dev/shm");
    if (free < std::exchange(least_shared, std::min(least_shared, free))) shared_text = shared_now;
  }
  std::vector<Finding> all;
  memory.move_to(all, memory_text);
  shared.move_to(all, shared_text);
  return all;
}

std::vector<Finding> judge_limits(const std::vector<RankFacts>& facts, uint64_t checkpoint_bytes) {
  std::vector<Finding> all;
  const uint64_t files = least(facts, &RankFacts::open_files_limit),
                 wanted = kOpenFiles + kOpenFilesPerRank * facts.size();
  const std::string open_files = files == kNoLimit ? "no limit" : fmt::format("{} a process", files);
  all.push_back(files >= wanted
                    ? fine("limits", "open files", open_files)
                    : warning("limits", "open files",
                              fmt::format("{}; {} ranks may need {}", open_files, facts.size(), wanted),
                              fmt::format("ulimit -n {}", std::max<uint64_t>(4096, wanted))));
  const uint64_t size = least(facts, &RankFacts::file_bytes_limit);
  // Of files this many the largest is not smaller than the mean.
  const uint64_t largest = checkpoint_bytes / (kCheckpointGroups * facts.size());
  const std::string file_size = "files may have at most " + size_text(size);
  if (size == kNoLimit) {
    all.push_back(fine("limits", "file size", size_text(size)));
  } else if (size < largest) {
    all.push_back(error("limits", "file size", ErrorKind::kIo,
                        fmt::format("{}, a checkpoint has larger ones ({})", file_size, size_text(largest)),
                        "ulimit -f unlimited"));
  } else {
    all.push_back(warning("limits", "file size",
                          file_size + "; checkpoints and logs grow beyond a limit in time",
                          "ulimit -f unlimited"));
  }
  const uint64_t space = least(facts, &RankFacts::address_bytes_limit);
  all.push_back(space == kNoLimit ? fine("limits", "address space", size_text(space))
                                  : warning("limits", "address space",
                                            size_text(space) + ", which mapped files and libraries count in",
                                            "ulimit -v unlimited"));
  const uint64_t locked = least(facts, &RankFacts::locked_bytes_limit);
  const bool has_infiniband = std::ranges::any_of(facts, &RankFacts::has_infiniband);
  all.push_back(
      locked == kNoLimit || !has_infiniband
          ? fine("limits", "locked memory",
                 size_text(locked) + (has_infiniband ? "" : " (matters to InfiniBand, which no host has)"))
          : warning("limits", "locked memory",
                    size_text(locked) + " on hosts with InfiniBand, whose buffers are locked",
                    "ulimit -l unlimited; under Slurm set it for slurmd"));
  return all;
}

std::string size_text(uint64_t bytes) {
  if (bytes == kNoLimit) return "no limit";
  if (bytes < kMiB) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024);
  const double mebibytes = static_cast<double>(bytes) / static_cast<double>(kMiB);
  return mebibytes < 1024 ? fmt::format("{:.1f} MiB", mebibytes)
                          : fmt::format("{:.1f} GiB", mebibytes / 1024);
}

}  // namespace tmd::orchestrator
