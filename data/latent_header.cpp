#include "data/latent_header.h"

#include <cmath>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"

namespace tmd::data {
namespace {

constexpr int64_t kVersion = 1;
constexpr const char* kFormat = "tmd-latents";
constexpr uint64_t kMostNumbers = uint64_t{1} << 48;  // of samples that a seed has noise for (base/philox.h)
constexpr const char* kPage = "the format is described in docs/formats/tmd-latents.md";

[[noreturn]] void fail(const Hdf5File& file, const std::string& problem, const std::string& hint = kPage) {
  throw Error(ErrorKind::kData, fmt::format("{}: {}", file.path().string(), problem), hint);
}

double number_or(const Hdf5File& file, const std::string& attribute, double otherwise) {
  const auto values = file.attributes().numbers(attribute);
  if (!values) return otherwise;
  if (values->size() != 1)
    fail(file, fmt::format("attribute '{}' has {} values, expected one", attribute, values->size()));
  return values->front();
}

int64_t count_or_zero(const Hdf5File& file, const std::string& attribute) {
  const double value = number_or(file, attribute, 0);
  if (!(value >= 0 && value < 1e9 && value == std::floor(value))) {
    fail(file, fmt::format("attribute '{}' is {}, expected a whole number", attribute, value));
  }
  return static_cast<int64_t>(value);
}

void check_format(const Hdf5File& file) {
  const auto format = file.attributes().text("format");
  if (!format) fail(file, fmt::format("no attribute 'format', expected \"{}\"", kFormat));
  if (*format != kFormat) fail(file, fmt::format("format is \"{}\", expected \"{}\"", *format, kFormat));
  const double version = number_or(file, "version", 0);
  if (version > kVersion) {
    fail(
        file,
        fmt::format("version {} is newer than this program, which reads up to version {}", version, kVersion),
        "update the program, or write the file as version 1");
  }
  if (version != kVersion) fail(file, fmt::format("version is {}, expected {}", version, kVersion));
}

Hdf5Dataset required(const Hdf5File& file, const std::string& name, size_t rank, const char* dimensions) {
  if (!file.has(name)) fail(file, fmt::format("no data set /{}, expected {}", name, dimensions));
  Hdf5Dataset dataset = file.dataset(name);
  if (dataset.info().shape.size() != rank) {
    fail(file, fmt::format("/{} has shape {}, expected {}", name, dataset.info().shape, dimensions));
  }
  for (size_t i = 0; i < rank; ++i) {
    if (dataset.info().shape[i] > 0) continue;
    fail(file, fmt::format("/{} has shape {}: dimension {} is empty", name, dataset.info().shape, i));
  }
  return dataset;
}

// An optional or dependent data set: its shape follows from the others.
void check_shape(const Hdf5File& file, const std::string& name, const std::vector<int64_t>& expected) {
  const std::vector<int64_t> shape = file.dataset(name).info().shape;
  if (shape != expected) fail(file, fmt::format("/{} has shape {}, expected {}", name, shape, expected));
}

void warn_when_compressed(const Hdf5Dataset& dataset) {
  if (dataset.info().layout != DatasetLayout::kCompressed) return;
  log_warning("{} is compressed, which reads 30 to 100 times slower; write it without compression",
              dataset.label());
}

std::vector<float> channel_numbers(const Hdf5File& file, const std::string& attribute, int64_t channels) {
  const auto values = file.attributes().numbers(attribute);
  if (!values) fail(file, fmt::format("no attribute '{}', expected {} numbers", attribute, channels));
  if (static_cast<int64_t>(values->size()) != channels) {
    fail(file,
         fmt::format("attribute '{}' has {} values for {} channels", attribute, values->size(), channels));
  }
  const bool positive = attribute == "latent_std";
  for (double value : *values) {
    if (!std::isfinite(value) || (positive && value <= 0)) {
      fail(file, fmt::format("attribute '{}' holds {}, expected {}", attribute, value,
                             positive ? "positive numbers" : "finite numbers"));
    }
  }
  return {values->begin(), values->end()};
}

void read_latents(const Hdf5File& file, LatentHeader& header) {
  const Hdf5Dataset latents = required(file, "latents", 5, "[N, C, T, H, W]");
  const auto& shape = latents.info().shape;
  header.samples = shape[0];
  std::copy(shape.begin() + 1, shape.end(), header.latent_shape.begin());
  header.latent_type = stored_type(latents);
  warn_when_compressed(latents);
  const auto codec = file.attributes().text("codec");
  if (!codec) fail(file, "no attribute 'codec'");
  header.codec = *codec;
  if (number_or(file, "normalized", 0) != 1) {
    fail(file, "latents are not marked as normalised",
         "store (latent - mean) / std per channel and set the attribute normalized=True");
  }
  header.latent_mean = channel_numbers(file, "latent_mean", shape[1]);
  header.latent_std = channel_numbers(file, "latent_std", shape[1]);
}

void read_text(const Hdf5File& file, LatentHeader& header) {
  const Hdf5Dataset text = required(file, "text", 3, "[N, S, E]");
  const auto& shape = text.info().shape;
  if (!header.has_latents) header.samples = shape[0];
  if (shape[0] != header.samples) {
    fail(file, fmt::format("/text has {} samples, /latents has {}", shape[0], header.samples));
  }
  header.text_shape = {shape[1], shape[2]};
  header.text_type = stored_type(text);
  warn_when_compressed(text);
  required(file, "text_length", 1, "[N] int32");
  check_shape(file, "text_length", {header.samples});
}

void read_optional_datasets(const Hdf5File& file, LatentHeader& header) {
  header.has_prompts = file.has("prompt");
  header.has_checksum = file.has("checksum");
  header.has_negative_text = file.has("negative_text");
  if (header.has_prompts) {
    check_shape(file, "prompt", {header.samples});
    if (file.dataset("prompt").info().type != ElementType::kString) fail(file, "/prompt holds no strings");
  }
  if (header.has_checksum) {
    check_shape(file, "checksum", {header.samples});
    if (file.dataset("checksum").info().type != ElementType::kUint64) fail(file, "/checksum is not uint64");
  }
  if (header.has_negative_text) {
    check_shape(file, "negative_text", {header.text_shape[0], header.text_shape[1]});
    if (!file.has("negative_text_length")) fail(file, "/negative_text without /negative_text_length");
  }
}

void read_noise(const Hdf5File& file, LatentHeader& header) {
  const auto seed = file.attributes().unsigned_integer("noise_seed");
  const auto first = file.attributes().unsigned_integer("noise_first");
  if (seed.has_value() != first.has_value()) {
    fail(file, fmt::format("attribute '{}' without '{}'", seed ? "noise_seed" : "noise_first",
                           seed ? "noise_first" : "noise_seed"));
  }
  if (!seed || !header.has_latents) return;
  const uint64_t most = kMostNumbers - static_cast<uint64_t>(header.samples);
  if (*first > most) fail(file, fmt::format("attribute 'noise_first' is {}, at most {}", *first, most));
  header.noise = {*seed, static_cast<int64_t>(*first)};
}

void read_description(const Hdf5File& file, LatentHeader& header) {
  const Hdf5Attributes attributes = file.attributes();
  header.video_frames = count_or_zero(file, "video_frames");
  header.video_height = count_or_zero(file, "video_height");
  header.video_width = count_or_zero(file, "video_width");
  header.fps = number_or(file, "fps", 0);
  header.text_encoder = attributes.text("text_encoder").value_or("");
  header.negative_prompt = attributes.text("negative_prompt").value_or("");
  header.generator = attributes.text("generator").value_or("");
  if (!header.generator.empty() && !nlohmann::json::accept(header.generator)) {
    fail(file, fmt::format("attribute 'generator' is not JSON: {}", header.generator));
  }
}

}  // namespace

size_t size_bytes(StoredType type) { return type == StoredType::kFloat32 ? 4 : 2; }

int64_t LatentHeader::latent_elements() const {
  return latent_shape[0] * latent_shape[1] * latent_shape[2] * latent_shape[3];
}

StoredType stored_type(const Hdf5Dataset& dataset) {
  switch (dataset.info().type) {
    case ElementType::kFloat16:
      return StoredType::kFloat16;
    case ElementType::kFloat32:
      return StoredType::kFloat32;
    case ElementType::kUint16:
      if (dataset.attributes().text("dtype") == "bfloat16") return StoredType::kBfloat16;
      throw Error(ErrorKind::kData,
                  fmt::format("{} is uint16 without the attribute dtype=\"bfloat16\"", dataset.label()));
    default:
      throw Error(
          ErrorKind::kData,
          fmt::format("{} holds {}, expected float16, float32 or uint16 with attribute dtype=\"bfloat16\", "
                      "little-endian",
                      dataset.label(), name(dataset.info().type)));
  }
}

LatentHeader read_latent_header(const Hdf5File& file) {
  check_format(file);
  LatentHeader header;
  header.has_latents = file.has("latents");
  if (header.has_latents) read_latents(file, header);
  read_text(file, header);
  read_optional_datasets(file, header);
  read_noise(file, header);
  read_description(file, header);
  return header;
}

void write_latent_attributes(Hdf5File& file, const LatentHeader& header) {
  Hdf5Attributes attributes = file.attributes();
  attributes.write_text("format", kFormat);
  attributes.write_integer("version", kVersion);
  if (header.has_latents) {
    attributes.write_text("codec", header.codec);
    attributes.write_bool("normalized", true);
    attributes.write_numbers("latent_mean", header.latent_mean);
    attributes.write_numbers("latent_std", header.latent_std);
    if (header.noise) {
      attributes.write_unsigned("noise_seed", header.noise->seed);
      attributes.write_unsigned("noise_first", static_cast<uint64_t>(header.noise->number));
    }
  }
  if (header.video_frames > 0) attributes.write_integer("video_frames", header.video_frames);
  if (header.video_height > 0) attributes.write_integer("video_height", header.video_height);
  if (header.video_width > 0) attributes.write_integer("video_width", header.video_width);
  if (header.fps > 0) attributes.write_number("fps", header.fps);
  if (!header.text_encoder.empty()) attributes.write_text("text_encoder", header.text_encoder);
  if (!header.negative_prompt.empty()) attributes.write_text("negative_prompt", header.negative_prompt);
  if (!header.generator.empty()) attributes.write_text("generator", header.generator);
}

}  // namespace tmd::data
