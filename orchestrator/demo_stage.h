#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"
#include "orchestrator/demo_reference.h"
#include "orchestrator/html_report.h"
#include "orchestrator/trained_run.h"

namespace tmd::orchestrator {

struct DemoOptions {
  std::filesystem::path folder = "runs/demo";  ///< everything is written below it
  std::filesystem::path configs = "configs";  ///< where demo-*.ini, the reference and the shipped teacher are
  bool full = false;                          ///< train the shapes teacher from nothing too
  bool quick = false;                  ///< a tenth of the iterations, an eighth of the samples, no promises
  bool mixture = true, shapes = true;  ///< which parts run
};

/// What the parts of the demo share: ranks, folders, the report, the reference and the clock. All ranks of
/// the world have one.
class DemoStage {
 public:
  /// `phases`: what `begin` will be called with, in order. Keeps a reference to `world`. With three ranks or
  /// more the last one is a data worker. Throws on all ranks: kUsage when `options.configs` is no such
  /// folder, kData as DemoReference. Collective over: `world`.
  DemoStage(comm::Communicator& world, const DemoOptions& options, const std::vector<std::string>& phases);

  const DemoOptions& options() const { return options_; }
  bool is_first_rank() const { return world_.rank() == 0; }
  std::filesystem::path file(const std::string& name) const { return options_.folder / name; }
  const DemoReference& reference() const { return reference_; }  ///< rank 0; empty in a quick demo

  /// Begins a planned phase and says so, with the time left. Throws kInternal for another one. Rank 0;
  /// nothing happens on the others, as in `say`.
  void begin(const std::string& phase);
  /// A line on the console with the time since the start and, when it can be told, the time left.
  void say(const std::string& line) const;

  /// Runs `action` on rank 0 only; an error reaches all ranks. Collective over: the world.
  void on_first_rank(const std::function<void()>& action);

  /// Trains below folder/`name`, as `tmd train` does, on all ranks. `config`: file below configs/. `words`:
  /// options that replace those of the file. A run that is finished already is not repeated. Throws as
  /// load_config and train. Collective over: the world.
  void train_run(const std::string& name, const std::string& config, const std::vector<std::string>& words,
                 int64_t console_every);

  /// Opens folder/`name` on the trainers and calls `use` there; the run lives during the call. Throws as
  /// TrainedRun and `use`, on the trainers. Collective over: the world.
  void with_run(const std::string& name, const std::function<void(TrainedRun&)>& use);

  HtmlReport& report() { return *report_; }       ///< rank 0
  nlohmann::json& results() { return results_; }  ///< rank 0: "parts" of demo.json

  /// Writes report.html and demo.json. Throws kIo on all ranks. Collective over: the world.
  void write_results();
  double seconds() const;  ///< since the stage was made
  /// Collective over: the world.
  void close();

 private:
  comm::Communicator& world_;
  DemoOptions options_;
  int64_t data_workers_;
  std::unique_ptr<comm::Communicator> trainers_;
  std::unique_ptr<HtmlReport> report_;
  DemoReference reference_;
  std::unique_ptr<DemoClock> clock_;  // rank 0
  nlohmann::json results_ = nlohmann::json::object();
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace tmd::orchestrator
