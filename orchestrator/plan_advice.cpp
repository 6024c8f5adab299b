#include "orchestrator/plan_advice.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>

#include "base/error.h"
#include "orchestrator/job.h"
#include "orchestrator/load_config.h"

namespace tmd::orchestrator {
namespace {

using Words = std::vector<std::string>;

constexpr int kMostFactor = 16;

// Changes that keep the ranks, least intrusive first, then pairs of them.
std::vector<Words> changes_of(const configs::Config& config) {
  std::vector<Words> single;
  if (config.train.micro_batch != 1) single.push_back({"--train.micro_batch=1"});
  const bool is_wan = config.model.kind == model::ModelKind::kWan;
  if (is_wan && config.train.precision != workers::TrainOptions::Precision::kBf16)
    single.push_back({"--train.precision=bf16"});
  if (config.train.keep_blocks > 0) single.push_back({"--train.keep_blocks=0"});
  if (config.mesh.replicate != 1 && !config.mesh.two_level) single.push_back({"--mesh.two_level=true"});
  if (config.mesh.replicate != 1) single.push_back({"--mesh.replicate=1", "--mesh.shard=0"});
  for (const char* axis : {"sequence", "tensor"}) {
    for (int degree : {2, 3, 4, 5, 8}) {
      single.push_back({fmt::format("--mesh.{}={}", axis, degree), "--mesh.shard=0"});
    }
  }
  const workers::StageOptions& stages = config.stages;
  if (stages.stage1.optimizer.ema > 0 || stages.stage2.optimizer.ema > 0)
    single.push_back({"--stage1.ema=0", "--stage2.ema=0"});
  std::vector<Words> all = single;
  for (size_t i = 0; i < single.size(); ++i) {
    for (size_t j = i + 1; j < single.size(); ++j) {
      all.push_back(single[i]);
      all.back().insert(all.back().end(), single[j].begin(), single[j].end());
    }
  }
  return all;
}

std::string key_of(const std::string& word) { return word.substr(0, word.find('=')); }

// The command with the change: what it sets again is left out.
Words changed(const Words& words, const Words& change) {
  Words result;
  const auto add = [&result](const std::string& word) {
    std::erase_if(result, [&](const std::string& other) { return key_of(other) == key_of(word); });
    result.push_back(word);
  };
  for (const std::string& word : words) add(word);
  for (const std::string& word : change) add(word);
  return result;
}

}  // namespace

std::vector<Advice> advise(const std::vector<std::string>& files, const std::vector<std::string>& words,
                           int ranks, const workers::SampleShape& sample, const std::string& device,
                           size_t count) {
  const auto base = load_config(files, words);
  const int workers = static_cast<int>(base->config.data_workers);
  std::vector<Advice> found;
  const auto try_change = [&](const Words& change, int trainers) {
    if (found.size() >= count) return;
    try {
      const auto loaded = load_config(files, changed(words, change));
      const PlanInput input{loaded->config, trainers, sample, compute_type(loaded->config.train)};
      const DeviceModel model = device_model(device, trainers, input.type);
      Advice advice{changed({}, change), trainers + workers, make_plan(input, model)};
      if (advice.plan.fits(model)) found.push_back(std::move(advice));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kConfig) throw;  // a change that is not legal here
    }
  };
  std::vector<Words> changes = changes_of(base->config);
  for (int factor = 1; factor <= kMostFactor && found.size() < count; factor *= 2) {
    const int trainers = (ranks - workers) * factor;
    if (factor > 1) try_change({"--mesh.replicate=1", "--mesh.shard=0"}, trainers);
    for (Words change : changes) {
      if (factor > 1) change.insert(change.end(), {"--mesh.replicate=1", "--mesh.shard=0"});
      try_change(change, trainers);
    }
  }
  std::ranges::stable_sort(found, {}, [](const Advice& a) { return a.plan.run_seconds * a.ranks; });
  return found;
}

}  // namespace tmd::orchestrator
