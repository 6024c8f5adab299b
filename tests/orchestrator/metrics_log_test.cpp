#include "orchestrator/metrics_log.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace tmd::orchestrator {
namespace {

class MetricsFile : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }

  static IterationRecord record(int64_t iteration) {
    IterationRecord r{
        .iteration = iteration, .total_iterations = 9, .stage = "stage2", .samples = {4, 2}, .report = {}};
    r.report.phase = method::Phase::kCritic;
    r.report.loss = {{"critic", 0.1 + 1e-17}, {"fake_score", 1.0 / 3}};
    r.report.time = {
        .data = 0.1, .gather_exposed = 0.2, .compute = 0.3, .reduce_exposed = 0.05, .optimizer = 0.05};
    r.total_s = 1;
    return r;
  }
  std::vector<nlohmann::json> lines() const {
    std::vector<nlohmann::json> list;
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) list.push_back(nlohmann::json::parse(line));
    return list;
  }
  std::filesystem::path path_ = std::filesystem::temp_directory_path() / "tmd_metrics_log_test.jsonl";
};

}  // namespace

TEST_F(MetricsFile, numbers_come_back_with_their_bits_and_times_sum_to_the_total) {
  MetricsLog(path_, 0).write(record(1));

  const nlohmann::json line = lines().at(0);
  EXPECT_EQ(line.at("loss").at("fake_score").get<double>(), 1.0 / 3);
  double sum = 0;
  for (const auto& [name, seconds] : line.at("time").items())
    sum += name == "total" ? 0 : seconds.get<double>();
  EXPECT_NEAR(sum, line.at("time").at("total").get<double>(), 1e-12);
  EXPECT_EQ(line.at("samples"), (std::vector<int64_t>{4, 2}));
}

TEST_F(MetricsFile, reopening_cuts_what_lies_beyond_the_checkpoint) {
  {
    MetricsLog log(path_, 0);
    for (int64_t i = 1; i <= 5; ++i) log.write(record(i));
  }
  MetricsLog(path_, 3).write(record(4));

  std::vector<int64_t> iterations;
  for (const auto& line : lines()) iterations.push_back(line.at("iteration"));
  EXPECT_EQ(iterations, (std::vector<int64_t>{1, 2, 3, 4}));
}

TEST_F(MetricsFile, line_that_a_kill_cut_off_is_dropped) {
  MetricsLog(path_, 0).write(record(1));
  std::ofstream(path_, std::ios::app) << "{\"iteration\": 2, \"lo";

  MetricsLog(path_, 9).write(record(2));

  EXPECT_EQ(lines().size(), 2u);
}

TEST_F(MetricsFile, last_line_without_its_end_is_dropped) {
  MetricsLog(path_, 0).write(record(1));
  std::ofstream(path_, std::ios::app)
      << "{\"iteration\": 2}";  // the newline is missing: it may have been longer

  MetricsLog(path_, 9).write(record(2));

  EXPECT_EQ(lines().size(), 2u);
  EXPECT_TRUE(lines().at(1).contains("loss"));
}

// The size limit of the process stands for a full disk: both refuse a write.
TEST_F(MetricsFile, refused_lines_wait_in_memory_and_are_written_later) {
  std::signal(SIGXFSZ, SIG_IGN);
  MetricsLog log(path_, 0);
  log.write(record(1));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = std::filesystem::file_size(path_) + 10;
  setrlimit(RLIMIT_FSIZE, &small);
  log.write(record(2));
  log.write(record(3));
  EXPECT_THROW(log.close(), Error);
  setrlimit(RLIMIT_FSIZE, &before);
  log.write(record(4));
  log.close();

  std::vector<int64_t> iterations;
  for (const auto& line : lines()) iterations.push_back(line.at("iteration"));
  EXPECT_EQ(iterations, (std::vector<int64_t>{1, 2, 3, 4}));
}

TEST(ConsoleLine, names_phase_losses_and_shares) {
  IterationRecord r{.iteration = 5, .total_iterations = 10, .stage = "stage1", .samples = {}, .report = {}};
  r.report.loss = {{"stage1", 0.5}};
  r.report.time.compute = 0.5;
  r.total_s = 1;
  const std::string line = console_line(r, 75);
  EXPECT_NE(line.find("step 5/10"), std::string::npos);
  EXPECT_NE(line.find("stage1=0.5"), std::string::npos);
  EXPECT_NE(line.find("compute 50%"), std::string::npos);
  EXPECT_NE(line.find("eta 1m15s"), std::string::npos);
}

}  // namespace tmd::orchestrator
