#include "orchestrator/demo_stage.h"

#include <algorithm>
#include <fmt/format.h>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "orchestrator/load_config.h"
#include "orchestrator/metrics_log.h"
#include "orchestrator/train.h"

namespace tmd::orchestrator {
namespace {

constexpr int64_t kQuickShare = 10;

}  // namespace

DemoStage::DemoStage(comm::Communicator& world, const DemoOptions& options,
                     const std::vector<std::string>& phases)
    : world_(world), options_(options), data_workers_(world.size() >= 3 ? 1 : 0) {
  const int trainers = world.size() - static_cast<int>(data_workers_);
  trainers_ = world.split(world.rank() < trainers ? 0 : 1, world.rank(), "demo");
  on_first_rank([&] {
    check(std::filesystem::exists(options_.configs / "demo-mixture.ini"), ErrorKind::kUsage,
          fmt::format("{} has no demo-mixture.ini", options_.configs.string()),
          "run scripts/demo, start from the top folder of the project, or give --configs DIR");
    DemoReference reference(options_.configs / "demo-reference.json");
    if (!options_.quick) reference_ = std::move(reference);
    create_folders(options_.folder);
    clock_ = std::make_unique<DemoClock>(reference_, phases);
    report_ = std::make_unique<HtmlReport>("tmd demo");
  });
}

void DemoStage::on_first_rank(const std::function<void()>& action) {
  comm::run_agreed(world_, [&] {
    if (is_first_rank()) action();
  });
}

void DemoStage::begin(const std::string& phase) {
  if (!is_first_rank()) return;
  clock_->begin(phase, seconds());
  say(phase);
}

void DemoStage::say(const std::string& line) const {
  if (!is_first_rank()) return;
  const auto left = clock_->left(seconds());
  log_info("[{}{}] {}", duration_text(seconds()), left ? ", about " + duration_text(*left) + " left" : "",
           line);
}

void DemoStage::train_run(const std::string& name, const std::string& config,
                          const std::vector<std::string>& words, int64_t console_every) {
  std::vector<std::string> all = {fmt::format("--mesh.data_workers={}", data_workers_)};
  all.insert(all.end(), words.begin(), words.end());
  const std::vector<std::string> files = {(options_.configs / config).string()};
  auto loaded = load_config(files, all);
  if (options_.quick) {
    for (const workers::Stage stage : loaded->config.stage_list()) {
      const int64_t iterations = std::max<int64_t>(1, loaded->config.iterations(stage) / kQuickShare);
      all.push_back(fmt::format("--{}.iterations={}", workers::name(stage), iterations));
    }
    loaded = load_config(files, all);
  }
  const int code = train(
      world_, loaded->config, *loaded->table,
      {.run = file(name), .allowed_changes = {}, .console_every = console_every, .fault = "", .title = name});
  check(code == 0, ErrorKind::kRequeue, fmt::format("{} was asked to stop and has saved its state", name),
        "the same command goes on from there");
}

void DemoStage::with_run(const std::string& name, const std::function<void(TrainedRun&)>& use) {
  if (world_.rank() < world_.size() - data_workers_) {
    TrainedRun run(*trainers_, file(name));
    use(run);
    run.close();
  }
  world_.barrier();
}

void DemoStage::write_results() {
  on_first_rank([this] {
    report_->paragraph(fmt::format("Made in {} on {} ranks.", duration_text(seconds()), world_.size()));
    report_->write(file("report.html"));
    const nlohmann::json json = {{"phases", clock_->phases(seconds())}, {"parts", results_}};
    const std::string text = json.dump(1) + "\n";
    publish_file(file("demo.json"), std::as_bytes(std::span(text)));
  });
}

double DemoStage::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void DemoStage::close() { trainers_->close(); }

}  // namespace tmd::orchestrator
