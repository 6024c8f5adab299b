#include "orchestrator/doctor.h"

#include <fstream>
#include <future>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "orchestrator/doctor_judge.h"
#include "orchestrator/doctor_speed.h"
#include "orchestrator/load_config.h"
#include "orchestrator/step_deadline.h"
#include "orchestrator/write_test.h"

namespace tmd::orchestrator {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

// A rank of a host where nothing is wrong, as mpirun starts it.
RankFacts rank_on(const std::string& host, const std::vector<int>& cores, int ranks) {
  RankFacts facts;
  facts.host = host;
  facts.cores = cores;
  facts.threads = 1;
  facts.memory_total_bytes = 64 * kGiB;
  facts.memory_available_bytes = 60 * kGiB;
  facts.shared_memory_total_bytes = facts.shared_memory_free_bytes = 32 * kGiB;
  facts.open_files_limit = 4096;
  facts.locked_bytes_limit = 8 << 20;
  facts.versions = "tmd 1\nMPI 4\n";
  facts.clock_us = {1000, 2000, 3000, 4000, 5000};
  facts.environment = {{"OMPI_COMM_WORLD_SIZE", std::to_string(ranks)}, {"PMIX_RANK", "0"}};
  return facts;
}

// Two hosts of four cores, two ranks each.
std::vector<RankFacts> healthy() {
  const std::vector<int> cores = {0, 1, 2, 3};
  return {rank_on("a", cores, 4), rank_on("a", cores, 4), rank_on("b", cores, 4), rank_on("b", cores, 4)};
}

std::vector<Finding> problems(std::vector<Finding> findings) {
  std::erase_if(findings, [](const Finding& f) { return f.severity == Severity::kOk; });
  for (const Finding& finding : findings) EXPECT_FALSE(finding.hint.empty()) << finding.text;
  return findings;
}

// The only problem, which must be the one called `name` and say all `parts`.
void expect_problem(const std::vector<Finding>& findings, Severity severity, const std::string& name,
                    const std::vector<std::string>& parts) {
  const std::vector<Finding> found = problems(findings);
  ASSERT_EQ(found.size(), 1u) << findings_text(findings);
  EXPECT_EQ(found[0].severity, severity);
  EXPECT_EQ(found[0].name, name);
  for (const std::string& part : parts)
    EXPECT_NE(found[0].text.find(part), std::string::npos) << part << " is not in: " << found[0].text;
}

TEST(DoctorJudge, healthy_hosts_have_no_problems) {
  const std::vector<RankFacts> facts = healthy();
  for (auto judge :
       {judge_launch, judge_hosts, judge_versions, judge_clocks, judge_cores, judge_memory, judge_devices})
    EXPECT_TRUE(problems(judge(facts)).empty()) << findings_text(judge(facts));
  EXPECT_TRUE(problems(judge_limits(facts, 10 * kGiB)).empty());
}

TEST(DoctorJudge, launch_names_the_launcher) {
  RankFacts facts = rank_on("a", {0}, 1);
  const auto text = [&](std::map<std::string, std::string> environment) {
    facts.environment = std::move(environment);
    return judge_launch({facts}).front().text;
  };
  EXPECT_NE(text({}).find("alone"), std::string::npos);
  EXPECT_NE(text({{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_JOB_ID", "7"}}).find("Slurm job 7"),
            std::string::npos);
  const std::map<std::string, std::string> step = {
      {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_JOB_ID", "7"}};
  auto pmix = step, pmi = step;
  pmix["PMIX_RANK"] = "0";
  pmi["PMI_RANK"] = "0";
  EXPECT_EQ(text(pmix), "srun with PMIx, in Slurm job 7");
  EXPECT_EQ(text(pmi), "srun with PMI, not PMIx, in Slurm job 7");
}

TEST(DoctorJudge, launch_compares_the_world_with_what_was_started) {
  std::vector<RankFacts> facts = healthy();
  facts[0].environment["OMPI_COMM_WORLD_SIZE"] = "8";
  expect_problem(judge_launch(facts), Severity::kError, "world size",
                 {"4 ranks", "OMPI_COMM_WORLD_SIZE = 8"});
  EXPECT_EQ(exit_code(judge_launch(facts)), 69);
  facts[0].environment = {{"SLURM_STEP_NUM_TASKS", "2"}, {"PMIX_RANK", "0"}};
  expect_problem(judge_launch(facts), Severity::kError, "world size", {"SLURM_STEP_NUM_TASKS = 2"});
  // mpirun inside a job has a step of its daemons, of one task a host.
  facts[0].environment = {
      {"SLURM_STEP_NUM_TASKS", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"SLURM_NTASKS", "6"}};
  expect_problem(judge_launch(facts), Severity::kWarning, "allocation", {"4 ranks", "6 tasks"});
}

TEST(DoctorJudge, hosts_list_their_ranks) {
  std::vector<RankFacts> facts = healthy();
  std::vector<Finding> findings = judge_hosts(facts);
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[1].name, "b");
  EXPECT_EQ(findings[1].text, "ranks 2-3 on cores 0-3");
  std::swap(facts[1].host, facts[2].host);
  expect_problem(judge_hosts(facts), Severity::kWarning, "order", {"not consecutive"});
}

TEST(DoctorJudge, devices_that_nobody_uses_or_too_many_share_are_told) {
  std::vector<RankFacts> facts = healthy();
  for (RankFacts& rank : facts) rank.no_device = "built without CUDA";
  std::vector<Finding> findings = judge_devices(facts);
  EXPECT_EQ(findings.front().name, "2 hosts");
  EXPECT_NE(findings.front().text.find("CPU: built without CUDA"), std::string::npos);

  for (RankFacts& rank : facts) rank.gpu_driver = "580.65.06", rank.gpus = 2;
  expect_problem(judge_devices(facts), Severity::kWarning, "2 hosts", {"driver 580.65.06 lists 2 GPUs"});

  for (RankFacts& rank : facts) rank.devices = {"NVIDIA H100", "NVIDIA H100"};
  EXPECT_TRUE(problems(judge_devices(facts)).empty());
  facts.insert(facts.begin(), facts.front());
  expect_problem(judge_devices(facts), Severity::kWarning, "a", {"2 devices of NVIDIA H100", "for 3 ranks"});
}

TEST(DoctorJudge, versions_of_libraries_are_compared) {
  std::vector<RankFacts> facts = healthy();
  facts[2].versions = facts[3].versions = "tmd 1\nMPI 5\n";
  expect_problem(judge_versions(facts), Severity::kWarning, "libraries", {"2-3", "MPI 5", "MPI 4"});
}

TEST(DoctorJudge, clocks_beyond_a_second_are_named) {
  std::vector<RankFacts> facts = healthy();
  for (int64_t& now : facts[2].clock_us) now += 900'000;
  facts[2].clock_us[1] += 5'000'000;  // the system held the rank up once
  EXPECT_TRUE(problems(judge_clocks(facts)).empty());
  for (int64_t& now : facts[2].clock_us) now -= 3'000'000;
  expect_problem(judge_clocks(facts), Severity::kWarning, "b", {"2.1 s behind"});
}

TEST(DoctorJudge, cores_that_ranks_share) {
  std::vector<RankFacts> facts = healthy();
  facts[2].cores = facts[3].cores = {1};
  expect_problem(judge_cores(facts), Severity::kWarning, "ranks", {"b: 2 ranks share 1 core"});
  // What mpirun says about oversubscription is Open MPI's default for yielding; the user's word goes before.
  facts[2].environment["OMPI_MCA_mpi_oversubscribe"] = "1";
  EXPECT_TRUE(problems(judge_cores(facts)).empty());
  facts[2].environment["OMPI_MCA_mpi_yield_when_idle"] = "0";
  EXPECT_FALSE(problems(judge_cores(facts)).empty());
}

TEST(DoctorJudge, cores_with_too_many_threads) {
  std::vector<RankFacts> facts = healthy();
  facts[0].threads = facts[1].threads = 2;
  EXPECT_TRUE(problems(judge_cores(facts)).empty());
  facts[1].threads = 3;
  expect_problem(judge_cores(facts), Severity::kWarning, "threads", {"a: 5 compute threads on 4 core"});
}

TEST(DoctorJudge, cores_that_a_binding_leaves_out) {
  std::vector<RankFacts> facts = healthy();
  for (const Finding& finding : judge_cores(facts))
    EXPECT_NE(finding.name, "binding") << "mpirun is not there";
  for (RankFacts& rank : facts) rank.launcher_cores = 4;
  facts[0].cores = {0};
  facts[1].cores = {1, 2};
  EXPECT_TRUE(problems(judge_cores(facts)).empty());
  facts[1].cores = {1};
  expect_problem(judge_cores(facts), Severity::kWarning, "binding", {"a: ", "2 ranks", "2 of 4 cores"});
}

TEST(DoctorJudge, cores_that_control_groups_refuse) {
  std::vector<RankFacts> facts = healthy();
  facts[0].core_quota = 1.5;
  EXPECT_TRUE(problems(judge_cores(facts)).empty());
  facts[1].threads = 2;
  expect_problem(judge_cores(facts), Severity::kWarning, "quota", {"a: ", "1.5 cores", "3 threads"});
}

TEST(DoctorJudge, memory_that_is_short) {
  std::vector<RankFacts> facts = healthy();
  facts[2].memory_available_bytes = facts[2].memory_group_bytes = kGiB - 1;
  expect_problem(judge_memory(facts), Severity::kWarning, "host memory",
                 {"b: ", "control groups leave 1024.0 MiB"});
  facts = healthy();
  facts[0].shared_memory_free_bytes = 20 << 20;
  expect_problem(judge_memory(facts), Severity::kWarning, "/dev/shm", {"a: 20.0 MiB of 32.0 GiB"});
}

TEST(DoctorJudge, limits_that_are_low) {
  std::vector<RankFacts> facts = healthy();
  facts[3].open_files_limit = 287;
  expect_problem(judge_limits(facts, 0), Severity::kWarning, "open files", {"287", "288"});
  facts = healthy();
  facts[1].file_bytes_limit = kGiB;
  expect_problem(judge_limits(facts, 0), Severity::kWarning, "file size", {"1.0 GiB"});
  expect_problem(judge_limits(facts, 16 * kGiB), Severity::kWarning, "file size", {"1.0 GiB"});
  expect_problem(judge_limits(facts, 17 * kGiB), Severity::kError, "file size", {"a checkpoint"});
  EXPECT_EQ(exit_code(judge_limits(facts, 17 * kGiB)), 74);
  facts = healthy();
  facts[0].has_infiniband = true;
  expect_problem(judge_limits(facts, 0), Severity::kWarning, "locked memory", {"8.0 MiB"});
  facts = healthy();
  facts[0].address_bytes_limit = kGiB;
  expect_problem(judge_limits(facts, 0), Severity::kWarning, "address space", {"1.0 GiB"});
}

TEST(DoctorJudge, rates_name_the_slow_ranks) {
  const std::vector<RankFacts> facts = healthy();
  EXPECT_EQ(judge_rates(facts, {100, 71, 100, 130}, "products", "GFLOP/s").severity, Severity::kOk);
  expect_problem({judge_rates(facts, {100, 100, 69, 100}, "products", "GFLOP/s")}, Severity::kWarning,
                 "products", {"rank 2 on b (69.0)"});
  std::vector<RankFacts> turns = facts;
  turns[2].cores = turns[3].cores = {0};
  const Finding finding = judge_rates(turns, {100, 100, 69, 100}, "products", "GFLOP/s");
  EXPECT_NE(finding.hint.find("take turns"), std::string::npos) << finding.hint;
  const std::vector<RankFacts> two = {facts[0], facts[2]};
  expect_problem({judge_rates(two, {10, 20}, "products", "GFLOP/s")}, Severity::kWarning, "products",
                 {"rank 0 on a"});
  EXPECT_EQ(judge_rates({facts[0]}, {3}, "products", "GFLOP/s").severity, Severity::kOk);
}

TEST(DoctorJudge, writing_against_checkpoints) {
  WriteTest test;
  test.folder = "/runs";
  test.free_bytes = 10 * kGiB;
  EXPECT_TRUE(problems(judge_writing(test, 0)).empty());
  EXPECT_TRUE(problems(judge_writing(test, 5 * kGiB)).empty());
  expect_problem(judge_writing(test, 6 * kGiB), Severity::kWarning, "free space", {"10.0 GiB", "6.0 GiB"});
  expect_problem(judge_writing(test, 11 * kGiB), Severity::kError, "free space", {"11.0 GiB"});
  EXPECT_EQ(exit_code(judge_writing(test, 11 * kGiB)), 74);
  test.failures = {"rank 1 on b: cannot create /runs/x"};
  expect_problem(judge_writing(test, 0), Severity::kError, "write test", {"rank 1 on b"});
}

TEST(Finding, text_counts_and_the_first_error_decides) {
  const std::vector<Finding> findings = {fine("a", "x", "good"), warning("a", "y", "so", "do"),
                                         error("b", "z", ErrorKind::kIo, "bad", "act"),
                                         error("b", "w", ErrorKind::kConfig, "worse", "act")};
  EXPECT_EQ(exit_code(findings), 74);
  EXPECT_EQ(exit_code({findings[0], findings[1]}), 0);
  const std::string text = findings_text(findings);
  EXPECT_NE(text.find("2 errors, 1 warning; exit code 74"), std::string::npos) << text;
  EXPECT_NE(text.find("hint: act"), std::string::npos) << text;
  const nlohmann::json json = findings_json(findings);
  EXPECT_FALSE(json[0].contains("exit_code"));
  EXPECT_EQ(json[3]["exit_code"], 78);
  EXPECT_EQ(json[1]["severity"], "warning");
}

TEST(RankFacts, survives_the_journey_between_ranks) {
  RankFacts facts = rank_on("a", {0, 2}, 1);
  facts.core_quota = 2.5;
  const auto back = nlohmann::json::parse(nlohmann::json(facts).dump()).get<RankFacts>();
  EXPECT_EQ(nlohmann::json(back), nlohmann::json(facts));
  EXPECT_EQ(back.file_bytes_limit, kNoLimit);
}

TEST(RankFacts, core_lists_and_quotas_are_read) {
  EXPECT_EQ(parse_core_list("\t0-2,5,7-8"), (std::vector<int>{0, 1, 2, 5, 7, 8}));
  EXPECT_EQ(parse_core_list(""), std::vector<int>());
  EXPECT_EQ(ranges_text({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");

  namespace fs = std::filesystem;
  const fs::path folder = fs::path(testing::TempDir()) / "tmd_core_quota";
  fs::remove_all(folder);
  fs::create_directories(folder / "job/step");
  std::ofstream(folder / "groups") << "0::/job/step\n";
  EXPECT_EQ(core_quota(folder / "groups", folder), 0);
  std::ofstream(folder / "job/step/cpu.max") << "max 100000\n";
  std::ofstream(folder / "job/cpu.max") << "250000 100000\n";
  EXPECT_EQ(core_quota(folder / "groups", folder), 2.5);
  std::ofstream(folder / "cpu.max") << "100000 100000\n";
  EXPECT_EQ(core_quota(folder / "groups", folder), 1);
  fs::remove_all(folder);
}

TEST(StepDeadline, acts_once_for_a_step_that_does_not_end) {
  std::promise<std::string> late;
  StepDeadline deadline(0.2, [&](const std::string& step, double) { late.set_value(step); });
  deadline.begin("short");
  deadline.begin("long");
  EXPECT_EQ(late.get_future().get(), "long");
}

TEST(StepDeadline, leaves_steps_in_time_alone) {
  bool is_late = false;
  {
    StepDeadline deadline(60, [&](const std::string&, double) { is_late = true; });
    deadline.begin("one");
  }
  EXPECT_FALSE(is_late);
}

TEST(CheckpointBytes, counts_what_every_stage_stores) {
  auto loaded =
      load_config({}, {"--model.heads=2", "--model.head_dim=12", "--model.ffn=48", "--model.layers=4",
                       "--run.stages=teacher", "--teacher.iterations=1", "--model.text_dim=384"});
  const uint64_t teacher = checkpoint_bytes(loaded->config);
  EXPECT_GT(teacher, 0u);
  EXPECT_EQ(teacher % 12, 0u);  // master and two moments
  loaded->config.stages.teacher.optimizer.ema = 0.99;
  EXPECT_EQ(checkpoint_bytes(loaded->config), teacher / 3 * 4);
}

}  // namespace
}  // namespace tmd::orchestrator
