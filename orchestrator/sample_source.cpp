#include "orchestrator/sample_source.h"

#include <fmt/format.h>
#include <numeric>

#include <ATen/ATen.h>

#include "base/error.h"
#include "comm/agree.h"
#include "data/codec.h"
#include "model/wan_vae.h"
#include "orchestrator/export_folder.h"
#include "orchestrator/job.h"
#include "orchestrator/trained_run.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

using data::kWanCodec;
constexpr VideoSize kPublishedSize = {.frames = 81, .height = 480, .width = 832};

void check_for_run(const SourceOptions& options) {
  const bool has_device = options.device.kind != workers::DeviceOptions::Kind::kAuto;
  check(!options.size.is_given() && !options.precision && !has_device, ErrorKind::kUsage,
        "--frames, --height, --width, --dtype and --device are for exports and published models",
        "tmd export writes an export of a run");
  check(!options.teacher || !options.average, ErrorKind::kUsage,
        "--average is of the network that the run trains, --teacher of the one that it only uses",
        "leave one of the two out; a run that trains its teacher is sampled with --average alone");
}

class RunSource : public SampleSource {
 public:
  RunSource(comm::Communicator& world, const fs::path& run, const SourceOptions& options)
      : run_(world, run, options.sampler_words) {
    if (options.average) run_.use_average();
    is_teacher_ = options.teacher || run_.student() == nullptr;
    network_ = is_teacher_ ? &run_.teacher() : run_.student();
    plan_ = run_.job().plan();
    method_ = run_.config().stages.method;
    sampler_ = run_.config().sampler;
    header_ = run_.job().data().header();
    check_words(options.sampler_words);
  }

  void load() override {}
  Prompts own_prompts(int64_t count) override { return read_prompts(run_.job().data(), count); }
  configs::DecoderOptions decoders() const override { return run_.config().decoder; }
  void close() override { run_.close(); }

 private:
  TrainedRun run_;
};

// Latents of Wan's VAE for a video.
void set_video_size(data::LatentHeader& header, const VideoSize& wanted, const VideoSize& otherwise) {
  check(header.codec == kWanCodec, ErrorKind::kUsage,
        fmt::format("--frames, --height and --width are for latents of {}, not of {}", kWanCodec,
                    header.codec));
  const int64_t frames = wanted.frames > 0 ? wanted.frames : otherwise.frames;
  const int64_t height = wanted.height > 0 ? wanted.height : otherwise.height;
  const int64_t width = wanted.width > 0 ? wanted.width : otherwise.width;
  check(frames % 4 == 1 && height % 16 == 0 && width % 16 == 0 && height > 0 && width > 0, ErrorKind::kUsage,
        fmt::format("a video of {} frames of {} x {} has no latent", frames, height, width),
        "frames are 4 k + 1, height and width multiples of 16");
  header.latent_shape = {header.latent_shape[0], (frames - 1) / 4 + 1, height / 8, width / 8};
  header.video_frames = frames;
  header.video_height = height;
  header.video_width = width;
}

data::LatentHeader wan_latents(int64_t channels) {
  data::LatentHeader header;
  header.codec = kWanCodec;
  header.latent_shape[0] = channels;
  header.latent_mean.assign(model::kWanLatentMean.begin(), model::kWanLatentMean.end());
  header.latent_std.assign(model::kWanLatentStd.begin(), model::kWanLatentStd.end());
  header.fps = 16;
  return header;
}

class WeightsSource : public SampleSource {
 public:
  WeightsSource(comm::Communicator& world, const fs::path& weights, const SourceOptions& options)
      : world_(world), folder_(weights) {
    const Precision precision = options.precision.value_or(Precision::kF32);
    check(precision != Precision::kBf16Diffusers, ErrorKind::kUsage,
          "--dtype bf16-diffusers is for tmd forward", "take bf16");
    check(!options.teacher && !options.average, ErrorKind::kUsage,
          "--teacher and --average are for runs; weights hold one network");
    precision_ = precision;
    device_ = options.device;
    opened_.emplace(world, weights);
    comm::run_agreed(world, [&] { set_up(options); });
  }

  void load() override {
    set_compute_threads(world_, 0);
    loaded_ = std::make_unique<LoadedWan>(world_, std::move(*opened_), precision_,
                                          LoadOptions{.trainable = false, .mesh = {}, .device = device_});
    network_ = &loaded_->network();
  }

  Prompts own_prompts(int64_t count) override {
    const std::optional<fs::path> file = embeddings_of(folder_);
    check(file.has_value(), ErrorKind::kUsage, fmt::format("{} brings no prompts", folder_.string()),
          "name an embeddings file: --prompts FILE.h5 (scripts/embed_prompts.py makes one)");
    data::DataSet set({*file});
    return read_prompts(set, count);
  }

  void close() override {
    if (loaded_) loaded_->close();
  }

 private:
  void set_up(const SourceOptions& options) {
    const std::optional<ExportInfo>& info = opened_->info;
    plan_.model.wan = opened_->weights->config;
    plan_.student.wan = plan_.model.wan;
    is_teacher_ = !info || info->is_teacher;
    if (info) {
      plan_.student = info->student;
      method_ = info->method;
      sampler_ = info->sampler;
      header_ = info->latents;
      const VideoSize trained = {header_.video_frames, header_.video_height, header_.video_width};
      if (options.size.is_given()) set_video_size(header_, options.size, trained);
    } else {
      header_ = wan_latents(plan_.model.wan.channels);
      check(plan_.model.wan.channels == model::kWanVaeChannels, ErrorKind::kData,
            fmt::format("{} has latents of {} channels, those of Wan have {}", folder_.string(),
                        plan_.model.wan.channels, model::kWanVaeChannels),
            "export a run of tmd: exports say what their latents are");
      set_video_size(header_, options.size, kPublishedSize);
      // As the original code samples its models (Wan 2.9); a clip of them fills the memory.
      sampler_.solver = configs::SamplerOptions::Solver::kUniPc;
      sampler_.batch = 1;
    }
    check_words(options.sampler_words);
    configs::Config config;
    config.sampler = sampler_;
    configs::declare_options(config)->parse_command_line(options.sampler_words);
    configs::check_skip_block(config.sampler, plan_.model);
    sampler_ = config.sampler;
  }

  comm::Communicator& world_;
  fs::path folder_;
  Precision precision_ = Precision::kF32;
  workers::DeviceOptions device_;
  std::optional<OpenedWan> opened_;  // until load
  std::unique_ptr<LoadedWan> loaded_;
};

std::vector<int64_t> numbers_of(const SampleRequest& request) {
  std::vector<int64_t> numbers(static_cast<size_t>(request.text.size(0)));
  std::iota(numbers.begin(), numbers.end(), request.first_number);
  return numbers;
}

}  // namespace

SamplerWords take_sampler_words(const std::vector<std::string>& words) {
  SamplerWords split;
  for (size_t i = 0; i < words.size(); ++i) {
    const bool is_sampler = words[i].rfind("--sampler.", 0) == 0;
    (is_sampler ? split.sampler : split.rest).push_back(words[i]);
    const bool has_value_behind =
        is_sampler && words[i].find('=') == std::string::npos && i + 1 < words.size();
    if (has_value_behind) split.sampler.push_back(words[++i]);
  }
  return split;
}

SourceOptions source_options(const Arguments& arguments, std::vector<std::string> sampler_words) {
  const auto size = [&](const char* name) {
    const int64_t value = arguments.integer_or(name, 0);
    check(!arguments.has(name) || value >= 1, ErrorKind::kUsage, fmt::format("--{} is {}", name, value),
          "leave it out to take the default");
    return value;
  };
  SourceOptions options{.average = arguments.has("average"),
                        .sampler_words = std::move(sampler_words),
                        .size = {.frames = size("frames"), .height = size("height"), .width = size("width")},
                        .precision = {},
                        .device = parse_device(arguments.value_or("device", "auto"))};
  if (arguments.has("dtype")) options.precision = parse_precision(arguments.required("dtype"));
  return options;
}

std::unique_ptr<SampleSource> SampleSource::open(comm::Communicator& world, const fs::path& weights,
                                                 const SourceOptions& options) {
  if (is_run(weights)) {
    check_for_run(options);
    return std::make_unique<RunSource>(world, weights, options);
  }
  return std::make_unique<WeightsSource>(world, weights, options);
}

void SampleSource::check_words(const std::vector<std::string>& sampler_words) const {
  if (is_teacher_) return;
  for (const std::string& word : sampler_words) {
    const bool is_name = word.rfind("--sampler.", 0) == 0;  // else the value of the word before
    const std::string name = word.substr(0, word.find('='));
    check(!is_name || name == "--sampler.batch", ErrorKind::kUsage,
          fmt::format("{} is how a teacher is sampled; this is a student", name),
          "--steps sets a student's steps; its other numbers belong to its weights");
  }
}

void SampleSource::set_steps(int64_t steps) {
  const int64_t most = is_teacher_ ? kMostTeacherSteps : kMostStudentSteps;
  check(steps >= 1 && steps <= most, ErrorKind::kUsage,
        fmt::format("--steps {} is not between 1 and {}", steps, most));
  (is_teacher_ ? sampler_.steps : method_.outer_steps) = steps;
}

void SampleSource::check_prompts(const Prompts& prompts) const {
  if (plan_.model.kind == model::ModelKind::kMlp) return;
  require_text_shape(prompts, plan_.model.wan.text_length, plan_.model.wan.text_dim);
  check(!is_teacher_ || sampler_.cfg == 1 || prompts.negative, ErrorKind::kData,
        fmt::format("guidance {} needs a negative prompt, and the prompts have none", sampler_.cfg),
        "embed one with them, or take --sampler.cfg=1");
}

SampleRequest SampleSource::request(const Prompts& prompts, uint64_t seed) const {
  return {.text = prompts.text(),
          .negative_text = prompts.negative_text(),
          .latent_shape = {header_.latent_shape.begin(), header_.latent_shape.end()},
          .seed = seed,
          .first_number = 0,
          .batch = sampler_.batch};
}

at::Tensor SampleSource::sample(const SampleRequest& request) {
  if (is_teacher_) return sample_teacher(plan_, *network_, sampler_, request);
  return sample_student(plan_, *network_, method_, request);
}

NamedTensors SampleSource::noise(const SampleRequest& request) const {
  const std::vector<int64_t> numbers = numbers_of(request);
  const at::ScalarType type = network_->wide_type();
  NamedTensors noise = {
      {"noise",
       outer_noise(request.seed, numbers, request.latent_shape, type, request.noise).to(at::kFloat)}};
  if (is_teacher_) return noise;
  const bool has_inner = workers::is_decoupled(method_.name);
  const bool renews = method_.outer_step == method::OuterStep::kRenoise;
  std::vector<at::Tensor> inner, renewed;
  for (int64_t i = 1; i <= method_.outer_steps; ++i) {
    if (has_inner)
      inner.push_back(inner_noise(request.seed, i, numbers, request.latent_shape, type).to(at::kFloat));
    if (renews && i > 1)
      renewed.push_back(renewed_noise(request.seed, i, numbers, request.latent_shape, type).to(at::kFloat));
  }
  if (!inner.empty()) noise["inner_noise"] = at::stack(inner, 0);
  if (!renewed.empty()) noise["renewed_noise"] = at::stack(renewed, 0);
  return noise;
}

}  // namespace tmd::orchestrator
