#include "orchestrator/kept_samples.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/safetensors.h"
#include "comm/agree.h"
#include "model/weight_check.h"
#include "orchestrator/eval_report.h"
#include "orchestrator/tensor_file.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kTensor = "samples";
constexpr const char* kSeconds = "seconds_per_sample";
constexpr const char* kMeasuredOn = "measured_on";

std::string hash_of(const at::Tensor& tensor) {
  return fmt::format("{:016x}", xxh3_64(model::bytes_of(tensor.cpu().contiguous())));
}

// Of all parameters, unit by unit. Collective over: the state group.
std::string weights_hash(sharding::ShardedNetwork& network) {
  Xxh3 hash;
  for (int unit = 0; unit < network.units(); ++unit) {
    const sharding::ShardedNetwork::Gathered gathered = network.gather_master(unit);
    for (size_t i = 0; i < gathered.params.size(); ++i) {
      const at::Tensor whole = network.whole_parameter(unit, static_cast<int>(i), gathered.params[i]);
      hash.update(model::bytes_of(whole.cpu().contiguous()));
    }
  }
  return fmt::format("{:016x}", hash.digest());
}

// What samples depend on, as the metadata of their file.
SafetensorsMetadata origin(TrainedRun& run, const Contender& contender, const Evaluator* evaluator,
                           uint64_t seed) {
  sharding::ShardedNetwork& network = contender.is_teacher ? run.teacher() : *run.student();
  SafetensorsMetadata origin = {{"weights", weights_hash(network)},
                                {"type", at::toString(network.type())},
                                {"method", contender_json(run.config(), contender).dump()},
                                {"seed", fmt::format("{}", seed)},
                                {"negative_text", hash_of(run.job().negative_text())}};
  if (evaluator) origin["text"] = hash_of(evaluator->text());  // where the file is
  return origin;
}

// What the speed of sampling depends on beside them.
std::string measured_on(TrainedRun& run) {
  return fmt::format("{} ranks, {}, {} at once", run.job().trainers().size(),
                     c10::DeviceTypeName(run.job().device().type()), run.config().sampler.batch);
}

void check_origin(const SafetensorsFile& file, const SafetensorsMetadata& expected) {
  std::vector<std::string> differing;
  for (const auto& [key, value] : expected) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end() || found->second != value) differing.push_back(key);
  }
  if (!file.metadata().contains(kSeconds)) differing.emplace_back(kSeconds);
  check(differing.empty(), ErrorKind::kData,
        fmt::format("{} keeps samples of something else: {} differ", file.path().string(),
                    fmt::join(differing, ", ")),
        "name another file, or remove this one");
}

}  // namespace

EvaluationRow sample_once(TrainedRun& run, const Contender& contender, const Evaluator* evaluator,
                          uint64_t seed, const std::filesystem::path& path) {
  comm::Communicator& trainers = run.job().trainers();
  const bool is_first = trainers.rank() == 0;
  const SafetensorsMetadata expected = origin(run, contender, evaluator, seed);
  const bool exists = comm::agree_any(trainers, is_first && std::filesystem::exists(path));
  EvaluationRow row{.name = contender.name,
                    .effective_nfe = effective_nfe(run.config(), contender),
                    .score = {},
                    .samples = {}};
  if (!exists) {
    comm::run_agreed(trainers, [&] {
      if (is_first) require_folder_of(path);
    });
    row = sample_contender(run, contender, evaluator, seed);
    comm::run_agreed(trainers, [&] {
      if (!is_first) return;
      SafetensorsMetadata metadata = expected;
      metadata[kSeconds] = fmt::format("{:.17g}", row.seconds_per_sample);
      metadata[kMeasuredOn] = measured_on(run);
      write_tensors(path, {{kTensor, row.samples.cpu()}}, metadata);
    });
    return row;
  }
  comm::run_agreed(trainers, [&] {
    if (!is_first) return;
    const SafetensorsFile file(path);
    check_origin(file, expected);
    row.samples = read_tensor(file, kTensor, 5, "[N, C, T, H, W]");
    const auto where = file.metadata().find(kMeasuredOn);
    const bool is_here = where != file.metadata().end() && where->second == measured_on(run);
    row.seconds_per_sample =
        is_here ? std::stod(file.metadata().at(kSeconds)) : std::numeric_limits<double>::quiet_NaN();
  });
  // The others need none of them: rank 0 measures.
  return row;
}

}  // namespace tmd::orchestrator
