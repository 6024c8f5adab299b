#include "orchestrator/synth.h"

#include <array>
#include <chrono>
#include <fmt/format.h>
#include <optional>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/hash.h"
#include "base/log.h"
#include "comm/agree.h"
#include "data/writer.h"
#include "orchestrator/metrics_log.h"
#include "orchestrator/run_lock.h"
#include "orchestrator/stop_request.h"
#include "orchestrator/synth_folder.h"
#include "sharding/weight_sample.h"

namespace tmd::orchestrator {
namespace {

constexpr int64_t kWeightsLookedAt = 16384;  // of the network, to tell it from others

// Options that decide about the samples, by their names in `[sampler]`.
constexpr std::array kSamplerKeys = {"solver", "steps", "shift", "cfg", "grid", "model_time", "skip_block"};

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

// What is known before the weights are read.
SynthSettings early_settings(const SynthRequest& request, const SampleSource& source,
                             const data::DataSet& prompts) {
  configs::Config config;
  config.sampler = source.sampler();
  const auto table = configs::declare_options(config);
  SynthSettings sampler;
  for (const char* key : kSamplerKeys) sampler[key] = table->value(fmt::format("sampler.{}", key));
  return {{"made_by", "tmd data synth"},
          {"seed", request.seed},
          {"noise_purpose", static_cast<uint32_t>(Purpose::kPairNoise)},
          {"part", request.part},
          {"sampler", sampler},
          {"latent_shape", source.latent_header().latent_shape},
          {"prompts", hex(prompts.data_hash())}};
}

// The rest: the network by its type and by a hash of weights that lie evenly over all of it, so that it is
// the same wherever it lies and however it is cut. Collective.
void add_network(SynthSettings& settings, const sharding::ShardedNetwork& network) {
  const at::Tensor sample = sharding::sample_weights(network, kWeightsLookedAt);
  const std::span<const double> values(sample.const_data_ptr<double>(), static_cast<size_t>(sample.numel()));
  settings["compute_type"] = c10::toString(network.type());
  settings["weights"] = hex(xxh3_64(std::as_bytes(values)));
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class Synthesis {
 public:
  Synthesis(comm::Communicator& world, const SynthRequest& request)
      : world_(world),
        request_(request),
        folder_(request.output, request.seed, request.count, request.part) {}

  int run() {
    source_ = SampleSource::open(world_, request_.weights, request_.source);
    comm::run_agreed(world_, [&] { prepare(); });
    find_parts();
    source_->load();
    add_network(settings_, source_->network());
    check_settings();
    const int code = make_missing();
    source_->close();
    return code;
  }

 private:
  bool is_first() const { return world_.rank() == 0; }

  // Whatever can be refused without the weights, on each rank.
  void prepare() {
    check(source_->is_teacher(), ErrorKind::kUsage,
          fmt::format("{} is a student; pairs of noise and video are made with a teacher",
                      request_.weights.string()),
          "name a run, the export of a teacher, or a published model");
    prompts_.emplace(std::vector{request_.prompts});
    source_->check_prompts(read_prompts_cyclically(*prompts_, 0, 1));
    settings_ = early_settings(request_, *source_, *prompts_);
    if (!is_first()) return;
    settings_["prompt_rows"] = hex(prompts_hash(*prompts_));
    create_folders(request_.output);
    lock_.emplace(request_.output);
  }

  void find_parts() {
    std::string list;  // a character for each part, as rank 0 sees it: file systems may show others less
    comm::run_agreed(world_, [&] {
      if (!is_first()) return;
      folder_.remove_unfinished();
      list.assign(static_cast<size_t>(folder_.parts()), '-');
      for (const int64_t index : folder_.present()) {
        folder_.check_made_with(index, settings_);
        list[static_cast<size_t>(index)] = '+';
      }
    });
    list = comm::broadcast_string(world_, list, 0);
    for (size_t i = 0; i < list.size(); ++i)
      (list[i] == '+' ? present_ : missing_).push_back(static_cast<int64_t>(i));
    comm::run_agreed(world_, [&] {
      for (size_t i = static_cast<size_t>(world_.rank()); i < present_.size();
           i += static_cast<size_t>(world_.size()))
        folder_.check_intact(present_[i]);
    });
    if (is_first() && !present_.empty())
      log_info("{} of {} parts are there", present_.size(), folder_.parts());
  }

  void check_settings() {
    comm::run_agreed(world_, [&] {
      if (!is_first()) return;
      for (const int64_t index : present_) folder_.check_made_with(index, settings_);
    });
  }

  int make_missing() {
    begin_ = Clock::now();
    double needed_s = 0;  // what the last part took
    for (const int64_t index : missing_) {
      if (must_stop(needed_s)) return static_cast<int>(ErrorKind::kRequeue);
      const auto part_begin = Clock::now();
      make(index);
      report(index);
      needed_s = seconds_since(part_begin);
    }
    if (is_first()) log_info("{} samples in {}", request_.count, request_.output.string());
    return 0;
  }

  bool must_stop(double needed_s) const {
    const auto own = static_cast<int64_t>(stop_.reason(needed_s));
    const auto reason = static_cast<StopReason>(comm::agree_max(world_, own));
    if (reason == StopReason::kNone) return false;
    if (is_first()) log_info("stops here ({}); the same command goes on", stop_.text(reason));
    return true;
  }

  void make(int64_t index) {
    const data::NoiseOf first = folder_.first(index);
    Prompts prompts;
    comm::run_agreed(
        world_, [&] { prompts = read_prompts_cyclically(*prompts_, first.number, folder_.samples(index)); });
    SampleRequest wanted = source_->request(prompts, first.seed);
    wanted.first_number = first.number;
    wanted.noise = Purpose::kPairNoise;
    const at::Tensor samples = source_->sample(wanted);
    comm::run_agreed(world_, [&] {
      if (is_first()) write(index, prompts, samples);
    });
  }

  void write(int64_t index, const Prompts& prompts, const at::Tensor& samples) const {
    data::LatentHeader header = sample_header(source_->latent_header(), prompts);
    header.samples = samples.size(0);
    header.noise = folder_.first(index);
    header.generator = settings_.dump();
    data::LatentWriter writer(folder_.path(index), header);
    for (int64_t i = 0; i < header.samples; ++i) {
      const data::Sample& row = prompts.rows[static_cast<size_t>(i)];
      writer.write(i, {samples[i], row.text, row.text_length, row.prompt});
    }
    if (prompts.negative) writer.write_negative_text(*prompts.negative);
    writer.finish();
  }

  void report(int64_t index) {
    made_ += folder_.samples(index);
    if (!is_first()) return;
    int64_t there = made_;
    for (const int64_t part : present_) there += folder_.samples(part);
    const double rate = static_cast<double>(made_) / seconds_since(begin_);
    log_info("{}: {} of {} samples, {:.3g} a second, {} left", folder_.path(index).filename().string(), there,
             request_.count, rate, duration_text(static_cast<double>(request_.count - there) / rate));
  }

  comm::Communicator& world_;
  const SynthRequest& request_;
  const StopRequest stop_{configs::RunOptions{}};
  const SynthFolder folder_;
  std::unique_ptr<SampleSource> source_;
  std::optional<data::DataSet> prompts_;
  std::optional<RunLock> lock_;  // rank 0
  SynthSettings settings_;
  std::vector<int64_t> present_, missing_;
  Clock::time_point begin_;
  int64_t made_ = 0;  // samples of this start
};

}  // namespace

int synthesize(comm::Communicator& world, const SynthRequest& request) {
  return Synthesis(world, request).run();
}

}  // namespace tmd::orchestrator
