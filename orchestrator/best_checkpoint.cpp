#include "orchestrator/best_checkpoint.h"

#include <cmath>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/folder.h"
#include "base/publish.h"
#include "checkpoint/writer.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kLink = "BEST";
constexpr const char* kScore = "score.json";

}  // namespace

std::optional<int64_t> linked_checkpoint(const checkpoint::Store& store) {
  std::error_code none;
  const fs::path target = fs::read_symlink(store.root() / kLink, none);
  if (none) return {};
  for (const int64_t step : store.steps()) {
    if (store.folder(step).filename() == target.filename()) return step;
  }
  return {};
}

BestCheckpoint::BestCheckpoint(const checkpoint::Store& store, evaluation::Metric metric)
    : store_(store), metric_(std::move(metric)) {}

void BestCheckpoint::resume(int64_t newest) {
  const std::scoped_lock lock(mutex_);
  step_.reset();
  value_.reset();
  for (const int64_t step : store_.steps()) {
    if (step > newest) break;  // damaged
    const std::optional<double> value = stored_score(step);
    if (!value || !is_better(*value)) continue;
    step_ = step;
    value_ = value;
  }
  const std::optional<int64_t> linked = linked_checkpoint(store_);
  if (step_ && step_ != linked) lead_link_to(*step_);
  if (!step_ && linked && *linked <= newest) step_ = linked;
}

std::optional<double> BestCheckpoint::stored_score(int64_t step) const {
  std::ifstream file(store_.folder(step) / kScore);
  const json score = json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!score.is_object() || !score.contains("metric") || !score.contains("value")) return {};
  if (score["metric"] != metric_.key || !score["value"].is_number()) return {};
  return score["value"].get<double>();
}

void BestCheckpoint::scored(int64_t step, double value) {
  const std::scoped_lock lock(mutex_);
  waiting_[step] = value;
}

bool BestCheckpoint::is_better(double value) const {
  if (!std::isfinite(value)) return false;
  return !value_ ||
         evaluation::badness(metric_.better, value) <= evaluation::badness(metric_.better, *value_);
}

void BestCheckpoint::before_commit(int64_t step) const {
  const std::scoped_lock lock(mutex_);
  const auto found = waiting_.find(step);
  if (found == waiting_.end()) return;
  const json score = {{"metric", metric_.key}, {"value", found->second}};
  publish_file(checkpoint::partial_folder(store_.folder(step)) / kScore, score.dump(1) + "\n");
}

void BestCheckpoint::saved(int64_t step) {
  const std::scoped_lock lock(mutex_);
  const auto found = waiting_.find(step);
  if (found == waiting_.end()) return;
  const double value = found->second;
  waiting_.erase(waiting_.begin(), std::next(found));
  if (!is_better(value)) return;
  step_ = step;
  value_ = value;
  lead_link_to(step);
}

void BestCheckpoint::lead_link_to(int64_t step) const {
  const fs::path link = store_.root() / kLink, temporary = store_.root() / "BEST.new";
  remove_tree(temporary);
  std::error_code failure;
  fs::create_symlink(store_.folder(step).filename(), temporary, failure);
  check(!failure, ErrorKind::kIo, "cannot make the link " + temporary.string() + ": " + failure.message());
  rename_durably(temporary, link);
}

std::optional<int64_t> BestCheckpoint::step() const {
  const std::scoped_lock lock(mutex_);
  return step_;
}

}  // namespace tmd::orchestrator
