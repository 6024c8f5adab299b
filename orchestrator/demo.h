#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "orchestrator/evaluate.h"
#include "orchestrator/html_report.h"
#include "orchestrator/trained_run.h"

namespace tmd::orchestrator {

struct DemoOptions {
  std::filesystem::path folder = "runs/demo";  ///< everything is written below it
  std::filesystem::path configs = "configs";   ///< where demo-*.ini and the shipped teacher are
  bool full = false;                           ///< train the shapes teacher from nothing too
  bool mixture = true, shapes = true;          ///< which parts run
};

/// A table of the demo with its verdict.
struct DemoResult {
  std::string title;
  std::vector<std::string> headings;
  std::vector<std::vector<std::string>> cells;
  std::vector<std::string> failures;  ///< expectations that were missed; empty = passed
};

/// What the parts of the demo share: ranks, folders, the report, and the clock. All ranks of the world have one.
class DemoStage {
 public:
  /// Collective over: `world`. With three ranks or more the last one is a data worker.
  DemoStage(comm::Communicator& world, const DemoOptions& options);

  const DemoOptions& options() const { return options_; }
  int64_t data_workers() const { return data_workers_; }
  bool speaks() const { return world_.rank() == 0; }
  std::filesystem::path file(const std::string& name) const { return options_.folder / name; }

  /// Runs `action` on rank 0 only; an error reaches all ranks. Collective over: the world.
  void on_first_rank(const std::function<void()>& action);

  /// Trains below folder/`name`, as `tmd train` does, on all ranks. `config`: file below configs/. A run that is finished
  /// already is not repeated. Collective over: the world.
  void train_run(const std::string& name, const std::string& config, const std::vector<std::string>& words,
                 int64_t console_every);

  /// Opens folder/`name` on the trainers and calls `use` there. Collective over: the world.
  void with_run(const std::string& name, const std::function<void(TrainedRun&)>& use);

  /// Shows a line on the console with the time since the start.
  void say(const std::string& line) const;
  double seconds() const;

  HtmlReport& report() { return *report_; }  ///< rank 0
  void close();

 private:
  comm::Communicator& world_;
  DemoOptions options_;
  int64_t data_workers_;
  std::unique_ptr<comm::Communicator> trainers_;
  std::unique_ptr<HtmlReport> report_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// T1a: the 2-D mixture. Teacher with 50 and 2 steps, DMD2-v, plain TM and TMD from the same teacher.
DemoResult demo_mixture(DemoStage& stage);

/// T1b mini: captioned moving shapes. Teacher with 50 and 2 steps, DMD2-v and TMD with two steps and one.
DemoResult demo_shapes(DemoStage& stage);

/// Both parts, the tables on the console and report.html. Returns 0, or 1 when an expectation was missed.
int run_demo(comm::Communicator& world, const DemoOptions& options);

}  // namespace tmd::orchestrator
