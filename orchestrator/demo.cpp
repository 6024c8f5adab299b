#include "orchestrator/demo.h"

#include <fmt/format.h>

#include <iostream>

#include "base/error.h"
#include "base/log.h"
#include "comm/agree.h"
#include "orchestrator/load_config.h"
#include "orchestrator/metrics_log.h"
#include "orchestrator/train.h"

namespace tmd::orchestrator {

DemoStage::DemoStage(comm::Communicator& world, const DemoOptions& options)
    : world_(world), options_(options), data_workers_(world.size() >= 3 ? 1 : 0) {
  const int trainers = world.size() - static_cast<int>(data_workers_);
  trainers_ = world.split(world.rank() < trainers ? 0 : 1, world.rank(), "demo");
  on_first_rank([this] {
    std::filesystem::create_directories(options_.folder);
    check(std::filesystem::exists(options_.configs / "demo-mixture.ini"), ErrorKind::kUsage,
          fmt::format("{} has no demo-mixture.ini", options_.configs.string()),
          "run scripts/demo, start from the top folder of the project, or give --configs DIR");
    report_ = std::make_unique<HtmlReport>("tmd demo");
  });
}

void DemoStage::on_first_rank(const std::function<void()>& action) {
  comm::run_agreed(world_, [&] {
    if (speaks()) action();
  });
}

void DemoStage::train_run(const std::string& name, const std::string& config, const std::vector<std::string>& words,
                          int64_t console_every) {
  std::vector<std::string> all = {fmt::format("--mesh.data_workers={}", data_workers_)};
  all.insert(all.end(), words.begin(), words.end());
  const auto loaded = load_config({(options_.configs / config).string()}, all);
  train(world_, loaded->config, *loaded->table,
        {.run = file(name), .allowed_changes = {}, .console_every = console_every, .title = name});
}

void DemoStage::with_run(const std::string& name, const std::function<void(TrainedRun&)>& use) {
  if (world_.rank() < world_.size() - data_workers_) {
    TrainedRun run(*trainers_, file(name));
    use(run);
    run.close();
  }
  world_.barrier();
}

double DemoStage::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void DemoStage::say(const std::string& line) const {
  if (speaks()) log_info("[{}] {}", duration_text(seconds()), line);
}

void DemoStage::close() { trainers_->close(); }

namespace {

void show(const DemoResult& result, HtmlReport& report) {
  std::cout << "\n" << result.title << "\n" << aligned_table(result.headings, result.cells);
  report.heading(result.title);
  std::vector<ReportRow> rows;
  for (const auto& cells : result.cells) rows.push_back({cells, false});
  report.table(result.headings, rows);
  for (const std::string& failure : result.failures) {
    std::cout << "MISSED: " << failure << "\n";
    report.paragraph("Missed: " + failure);
  }
}

}  // namespace

int run_demo(comm::Communicator& world, const DemoOptions& options) {
  DemoStage stage(world, options);
  std::vector<DemoResult> results;
  if (options.mixture) results.push_back(demo_mixture(stage));
  if (options.shapes) results.push_back(demo_shapes(stage));
  int64_t missed = 0;
  stage.on_first_rank([&] {
    for (const DemoResult& result : results) {
      show(result, stage.report());
      missed += static_cast<int64_t>(result.failures.size());
    }
    stage.report().paragraph(fmt::format("Made in {} on {} ranks.", duration_text(stage.seconds()), world.size()));
    stage.report().write(stage.file("report.html"));
    std::cout << fmt::format("\n{} in {}. Pictures and tables: {}\n", missed == 0 ? "Done" : "Done, with misses",
                             duration_text(stage.seconds()), stage.file("report.html").string())
              << "Next: mpirun -n 3 build/release/tmd train --config configs/clips.ini --run runs/clips "
                 "--data.files tests/golden/clips_slice.h5\n";
  });
  stage.close();
  return comm::agree_max(world, missed) == 0 ? 0 : 1;
}

}  // namespace tmd::orchestrator
