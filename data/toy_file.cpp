#include "data/toy_file.h"

#include <cmath>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "data/pixels_codec.h"
#include "data/toy_text.h"
#include "data/writer.h"

namespace tmd::data {
namespace {

constexpr int64_t kMixtureFeatures = 4;
constexpr double kShapesFps = 8;

LatentHeader toy_header(int64_t samples) {
  LatentHeader header;
  header.samples = samples;
  header.latent_type = header.text_type = StoredType::kFloat32;
  header.text_encoder = kToyTextEncoder;
  header.negative_prompt = kToyNegativeWord;
  header.has_prompts = header.has_negative_text = header.has_checksum = true;
  return header;
}

LatentHeader shapes_header(const ToyShapesSpec& spec, uint64_t seed, int64_t first, int64_t count) {
  LatentHeader header = toy_header(count);
  header.codec = "pixels-2x2";
  header.latent_shape = {12, spec.frames, spec.size / 2, spec.size / 2};
  header.text_shape = {spec.text_rows, spec.text_features};
  header.video_frames = spec.frames;
  header.video_height = header.video_width = spec.size;
  header.fps = kShapesFps;
  const ChannelStatistics statistics = toy_shapes_statistics(spec);
  header.latent_mean = statistics.mean;
  header.latent_std = statistics.std;
  std::vector<std::string> shapes, motions;
  for (const ToyShape shape : spec.shapes) shapes.emplace_back(name(shape));
  for (const ToyMotion motion : spec.motions) motions.emplace_back(name(motion));
  header.generator = nlohmann::json{
      {"toy", "shapes"},
      {"seed", seed},
      {"first", first},
      {"shapes", shapes},
      {"colours", spec.colours},
      {"motions", motions},
      {"speeds", spec.speeds},
      {"radius", {spec.radius_min, spec.radius_max}},
      {"brightness_min", spec.brightness_min},
      {"edge_width",
       spec.edge_width}}.dump();
  return header;
}

}  // namespace

void write_toy_mixture(const std::filesystem::path& path, const ToyMixtureSpec& spec, uint64_t seed,
                       int64_t first, int64_t count) {
  LatentHeader header = toy_header(count);
  header.codec = "points-2d";
  header.latent_shape = {2, 1, 1, 1};
  header.text_shape = {1, kMixtureFeatures};
  header.latent_mean = {0, 0};
  header.latent_std = {kToyMixtureScale, kToyMixtureScale};
  header.generator =
      nlohmann::json{
          {"toy", "mixture"}, {"seed", seed}, {"first", first}, {"equal_weights", spec.equal_weights}}
          .dump();
  const at::Tensor latents = toy_mixture_latents(spec, seed, first, count);
  LatentWriter writer(path, header);
  const at::Tensor ones = at::ones({1, kMixtureFeatures}, at::kFloat);
  for (int64_t i = 0; i < count; ++i) writer.write(i, {latents[i], ones, 1, "point"});
  writer.write_negative_text({at::zeros_like(ones), 1});
  writer.finish();
}

void write_toy_shapes(const std::filesystem::path& path, const ToyShapesSpec& spec, uint64_t seed,
                      int64_t first, int64_t count) {
  spec.validate();
  const LatentHeader header = shapes_header(spec, seed, first, count);
  LatentWriter writer(path, header);
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < count; ++i) {
    const ToyShapesSample sample = toy_shapes_sample(spec, seed, first + i);
    const std::vector<std::string> words = toy_caption_words(spec, sample.label);
    const TextEmbedding text = embed_toy_words(words, spec.text_rows, spec.text_features);
    const at::Tensor latent =
        normalise(PixelsCodec().encode(sample.video), header.latent_mean, header.latent_std);
    writer.write(i, {latent, text.text, text.text_length, fmt::format("{}", fmt::join(words, " "))});
    for (const int64_t value :
         {sample.label.shape, sample.label.colour, sample.label.motion, sample.label.speed}) {
      labels.push_back(static_cast<int32_t>(value));
    }
  }
  const std::vector<std::string> negative = {std::string(kToyNegativeWord)};
  writer.write_negative_text(embed_toy_words(negative, spec.text_rows, spec.text_features));
  writer.write_integers("label", 4, labels);
  writer.finish();
}

ChannelStatistics toy_shapes_statistics(const ToyShapesSpec& spec) {
  constexpr int64_t kSamples = 1024;
  constexpr uint64_t kSeed = 0;
  std::vector<double> sums(12), squares(12);
  int64_t elements = 0;  // per channel
  for (int64_t i = 0; i < kSamples; ++i) {
    const at::Tensor latent = PixelsCodec().encode(toy_shapes_sample(spec, kSeed, i).video).contiguous();
    const float* values = latent.const_data_ptr<float>();
    const int64_t count = latent.numel() / 12;
    for (int64_t j = 0; j < latent.numel(); ++j) {
      sums[j / count] += values[j];
      squares[j / count] += static_cast<double>(values[j]) * values[j];
    }
    elements += count;
  }
  ChannelStatistics statistics;
  for (int64_t c = 0; c < 12; ++c) {
    const double mean = sums[c] / static_cast<double>(elements);
    const double variance = squares[c] / static_cast<double>(elements) - mean * mean;
    statistics.mean.push_back(static_cast<float>(mean));
    statistics.std.push_back(static_cast<float>(std::sqrt(variance)));
  }
  return statistics;
}

std::vector<ShapeLabel> read_toy_labels(const std::filesystem::path& path) {
  const Hdf5Dataset dataset = Hdf5File::open(path).dataset("label");
  const auto& shape = dataset.info().shape;
  check(shape.size() == 2 && shape[1] == 4, ErrorKind::kData,
        fmt::format("{} has shape {}, expected [N, 4]", dataset.label(), shape));
  const std::vector<int64_t> values = dataset.read_integers();
  std::vector<ShapeLabel> labels;
  for (size_t i = 0; i < values.size(); i += 4) {
    labels.push_back({values[i], values[i + 1], values[i + 2], values[i + 3]});
  }
  return labels;
}

}  // namespace tmd::data
