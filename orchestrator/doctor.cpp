#include "orchestrator/doctor.h"

#include <fmt/format.h>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <ATen/Parallel.h>

#include "base/log.h"
#include "comm/agree.h"
#include "comm/algorithm.h"
#include "comm/self_check.h"
#include "orchestrator/doctor_config.h"
#include "orchestrator/doctor_judge.h"
#include "orchestrator/doctor_speed.h"
#include "orchestrator/job.h"
#include "orchestrator/library_versions.h"
#include "orchestrator/rank_facts.h"
#include "orchestrator/same_program.h"
#include "orchestrator/step_deadline.h"
#include "orchestrator/write_test.h"

namespace tmd::orchestrator {
namespace {

void append(std::vector<Finding>& all, std::vector<Finding> more) {
  std::ranges::move(more, std::back_inserter(all));
}

// What is known so far. When a step does not end, another thread shows it and ends the program.
class Report {
 public:
  Report(comm::Communicator& world, const DoctorRequest& request)
      : world_(world),
        request_(request),
        deadline_(request.deadline_s,
                  [this](const std::string& step, double seconds) { give_up(step, seconds); }) {}

  void begin(const std::string& step, double more_s = 0) { deadline_.begin(step, more_s); }
  void add(Finding finding) { add(std::vector<Finding>{std::move(finding)}); }
  void add(std::vector<Finding> findings) {
    const std::lock_guard lock(mutex_);
    append(diagnosis_.findings, std::move(findings));
  }
  void set_ranks(nlohmann::json ranks) {
    const std::lock_guard lock(mutex_);
    diagnosis_.ranks = std::move(ranks);
  }
  Diagnosis so_far() {
    const std::lock_guard lock(mutex_);
    return diagnosis_;
  }

 private:
  // The other ranks leave the word to rank 0, unless it is the one that cannot speak.
  void give_up(const std::string& step, double seconds) {
    constexpr auto kWord = std::chrono::seconds(5);
    Diagnosis diagnosis = so_far();
    diagnosis.code = static_cast<int>(ErrorKind::kUnavailable);
    const std::string text = fmt::format("no end after {:.0f} s: {}", seconds, step);
    diagnosis.findings.push_back(error(
        "deadline", "rank " + std::to_string(world_.rank()), ErrorKind::kUnavailable, text,
        "ranks cannot reach each other, or a file system does not answer. Between containers of one host: "
        "OMPI_MCA_btl_vader_single_copy_mechanism=none; between hosts: OMPI_MCA_btl_tcp_if_include names the "
        "network"));
    if (world_.rank() != 0) {
      std::this_thread::sleep_for(kWord);
      log_error("{}", text);
      world_.abort(diagnosis.code);
    }
    try {
      request_.show_unfinished(diagnosis);
    } catch (const std::exception& e) {
      log_error("{}", e.what());
    }
    world_.abort(diagnosis.code);
  }

  comm::Communicator& world_;
  const DoctorRequest& request_;
  std::mutex mutex_;
  Diagnosis diagnosis_;  // GUARDED_BY(mutex_)
  StepDeadline deadline_;
};

std::vector<Finding> version_findings() {
  std::vector<Finding> findings;
  for (const LibraryVersion& library : library_versions())
    findings.push_back(fine("versions", library.name, fmt::format("{}: {}", library.version, library.use)));
  return findings;
}

Finding same_program(comm::Communicator& world) {
  try {
    check_same_program(world, "doctor");
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kPeerLost) throw;
    return error("program", "binary", e);
  }
  return fine("program", "binary", "the same file content on " + counted(world.size(), "rank"));
}

// The findings of one suite, over one algorithm. Collective over: `comm`.
Finding contract(comm::Communicator& comm, const std::string& name) {
  std::string text;
  int failures = 0;
  try {
    for (const std::string& line : comm::self_check(comm)) {
      if (failures++ == 0) text = line;
    }
  } catch (const Error& e) {
    // Whoever throws has left the suite in its middle, and the others may wait for it there.
    throw e.with_context("the contract suite of '" + name + "'");
  }
  std::vector<std::string> failed;
  int rank = 0;
  for (const std::string& one : comm::gather_strings(comm, text)) {
    if (!one.empty()) failed.push_back(fmt::format("rank {}: {}", rank, one));
    ++rank;
  }
  const int64_t most = comm::agree_max(comm, failures);
  if (failed.empty())
    return fine("communication", name, "every operation of the contract suite gives the right bits");
  return error("communication", name, ErrorKind::kUnavailable,
               fmt::format("{} found up to {}; {}", counted(failed.size(), "rank"),
                           counted(most, "wrong result"), failed.front()),
               "results of this MPI library or of this network cannot be trusted: try another host, another "
               "version, or OMPI_MCA_btl=tcp,self");
}

void examine_communication(comm::Communicator& world, bool is_one_host, Report& report) {
  if (world.size() == 1) return report.add(contract(world, "contract"));
  for (comm::Algorithm algorithm : {comm::Algorithm::kMessages, comm::Algorithm::kWindow}) {
    const std::string name = comm::name(algorithm);
    report.begin("contract suite through " + name);
    const auto forced = comm::with_algorithm(world, algorithm, "doctor " + name);
    if (forced) {
      report.add(contract(*forced, name));
      forced->close();
    } else if (is_one_host) {
      report.add(warning("communication", name,
                         "the ranks of one host share no memory, so all goes through messages",
                         "start them in one container, with one numbering of processes (docker --pid=host)"));
    } else {
      report.add(fine("communication", name, "not for ranks on several hosts"));
    }
  }
}

uint64_t bytes_or_unknown(const configs::Config& config) {
  try {
    return checkpoint_bytes(config);
  } catch (const std::exception&) {  // a configuration that is refused elsewhere
    return 0;
  }
}

// JSON without kNoLimit, which most readers would round.
nlohmann::json readable(const std::vector<RankFacts>& facts) {
  nlohmann::json ranks = facts;
  for (nlohmann::json& rank : ranks) {
    for (nlohmann::json& value : rank) {
      if (value.is_number_unsigned() && value == kNoLimit) value = nullptr;
    }
  }
  return ranks;
}

std::vector<Finding> host_findings(const std::vector<RankFacts>& facts, uint64_t checkpoint) {
  std::vector<Finding> findings;
  for (auto judge : {judge_clocks, judge_cores, judge_memory}) append(findings, judge(facts));
  append(findings, judge_limits(facts, checkpoint));
  return findings;
}

}  // namespace

Diagnosis diagnose(comm::Communicator& world, const DoctorRequest& request) {
  Report report(world, request);
  report.begin("configuration");
  const ConfigCheck config = check_config(world, request.config_files, request.settings);
  report.begin("facts about the ranks");
  set_compute_threads(world, config.is_complete ? config.loaded->config.train.threads : 0);
  const std::vector<RankFacts> facts = gather_facts(world, at::get_num_threads());
  report.set_ranks(readable(facts));
  report.add(version_findings());
  report.add(judge_launch(facts));
  report.add(judge_hosts(facts));
  report.add(same_program(world));
  report.add(judge_versions(facts));
  report.add(config.findings);
  const uint64_t checkpoint = config.is_complete ? bytes_or_unknown(config.loaded->config) : 0;
  report.add(host_findings(facts, checkpoint));
  report.add(judge_devices(facts));
  report.begin("write test in " + request.run.string());
  report.add(judge_writing(test_writing(world, request.run), checkpoint));
  report.begin("contract suite");
  examine_communication(world, hosts_of(facts).size() == 1, report);
  if (request.seconds > 0) {
    report.begin("speed check", request.seconds);
    const Speed speed = measure_speed(world, request.seconds);
    report.add(judge_speed(facts, speed));
    nlohmann::json ranks = readable(facts);
    for (size_t rank = 0; rank < facts.size(); ++rank) {
      ranks[rank]["product_gflop_per_s"] = speed.product_gflops[rank];
      ranks[rank]["copy_gb_per_s"] = speed.copy_gb[rank];
    }
    report.set_ranks(std::move(ranks));
  }
  report.begin("exit code");
  Diagnosis diagnosis = report.so_far();
  diagnosis.code =
      static_cast<int>(comm::agree_max(world, world.rank() == 0 ? exit_code(diagnosis.findings) : 0));
  if (world.rank() != 0) diagnosis.findings.clear();
  return diagnosis;
}

std::vector<Finding> quick_findings(comm::Communicator& world, const std::filesystem::path& run_folder,
                                    const configs::Config& config) {
  // Threads that were not set are shared out, and never too many.
  const std::vector<RankFacts> facts = gather_facts(world, std::max<int64_t>(1, config.train.threads));
  const WriteTest test = test_writing(world, run_folder);
  if (world.rank() != 0) return {};
  const uint64_t checkpoint = bytes_or_unknown(config);
  std::vector<Finding> findings = host_findings(facts, checkpoint);
  append(findings, judge_writing(test, checkpoint));
  return findings;
}

void log_problems(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    if (finding.severity == Severity::kOk) continue;
    log_warning("{}, {}: {} (hint: {})", finding.heading, finding.name, finding.text, finding.hint);
  }
}

}  // namespace tmd::orchestrator
