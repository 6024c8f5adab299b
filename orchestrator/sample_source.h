#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestrator/arguments.h"
#include "orchestrator/loaded_wan.h"
#include "orchestrator/prompt_file.h"
#include "orchestrator/sampling.h"
#include "orchestrator/tensor_file.h"

namespace tmd::orchestrator {

/// Size of a video in pixels and frames; 0: as trained.
struct VideoSize {
  int64_t frames = 0, height = 0, width = 0;
  bool is_given() const { return frames > 0 || height > 0 || width > 0; }
};

/// The words `--sampler.KEY=VALUE` of a command line, and the others.
struct SamplerWords {
  std::vector<std::string> sampler, rest;
};
SamplerWords take_sampler_words(const std::vector<std::string>& words);

/// What a user may say about a source of samples.
struct SourceOptions {
  bool teacher = false, average = false;   ///< of a run
  std::vector<std::string> sampler_words;  ///< replace a teacher's sampler options, and the batch of both
  VideoSize size;                          ///< of weights with Wan latents
  std::optional<Precision> precision;      ///< of weights; default float32
  workers::DeviceOptions device;           ///< of weights; a run's stands in its configuration
};

/// Those of a verb's command line but for `teacher`: --average, --frames, --height, --width, --dtype,
/// --device. Throws kUsage for a size below 1 and an unknown type or device.
SourceOptions source_options(const Arguments& arguments, std::vector<std::string> sampler_words);

/// A network that makes samples: a run's student or teacher, an exported one, or a published Wan model as a
/// teacher. Functions that compute are collective over the world that it was opened with.
class SampleSource {
 public:
  /// Opens what `weights` names: of weights files the headers alone, so that everything but what computes may
  /// be called. Throws, on all ranks: kUsage for options that do not apply to it, kData as TrainedRun and
  /// OpenedWan. Keeps a reference to `world`. Collective over: `world`.
  static std::unique_ptr<SampleSource> open(comm::Communicator& world, const std::filesystem::path& weights,
                                            const SourceOptions& options);
  virtual ~SampleSource() = default;

  /// Reads weights that are only opened so far; before `sample` and `noise`. Throws as LoadedWan. Collective
  /// over: the world.
  virtual void load() = 0;
  /// Steps of the student's outer grid, or of the teacher's sampler. Throws kUsage for more than either may
  /// have.
  void set_steps(int64_t steps);
  /// The first `count` prompts that come with the source. Throws kUsage when none do.
  virtual Prompts own_prompts(int64_t count) = 0;
  /// Throws kData unless the embeddings fit the model, and for guidance without a negative prompt.
  void check_prompts(const Prompts& prompts) const;
  SampleRequest request(const Prompts& prompts, uint64_t seed) const;
  /// [N, C, T, H, W] float32, on all ranks. Throws kData as sample_teacher and sample_student.
  at::Tensor sample(const SampleRequest& request);
  /// What `sample` draws: `noise` [N, C, T, H, W]; for a flow head `inner_noise` [M, N, C, T, H, W], whose
  /// row i - 1 is that of outer step i; for a student that renews its noise after steps M .. 2
  /// `renewed_noise` [M - 1, N, C, T, H, W], whose row i - 2 is that of step i. float32. No communication.
  NamedTensors noise(const SampleRequest& request) const;
  bool is_teacher() const { return is_teacher_; }
  /// How a teacher is sampled.
  const configs::SamplerOptions& sampler() const { return sampler_; }
  /// The network itself; after `load`.
  const sharding::ShardedNetwork& network() const { return *network_; }
  /// Codec, latent shape, mean and std of the samples.
  const data::LatentHeader& latent_header() const { return header_; }
  /// Decoder weights that the source names.
  virtual configs::DecoderOptions decoders() const { return {}; }
  /// Collective over: the world.
  virtual void close() = 0;

 protected:
  SampleSource() = default;
  /// Throws kUsage when a student is given options of a teacher's sampler.
  void check_words(const std::vector<std::string>& sampler_words) const;

  workers::NetworkPlan plan_;
  sharding::ShardedNetwork* network_ = nullptr;
  bool is_teacher_ = false;
  workers::MethodOptions method_;
  configs::SamplerOptions sampler_;
  data::LatentHeader header_;
};

}  // namespace tmd::orchestrator
