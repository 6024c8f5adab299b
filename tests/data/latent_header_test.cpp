#include "data/latent_header.h"

#include <array>
#include <functional>
#include <limits>
#include <optional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/expect_error.h"
#include "tests/data/small_file.h"
#include "tests/data/temporary_folder.h"

namespace tmd::data {
namespace {

constexpr int64_t kSamples = 2;

// A minimal file written call by call, so that each part can be left out or be wrong.
struct RawFile {
  std::string format = "tmd-latents";
  double version = 1;
  bool has_codec = true, is_normalized = true;
  std::vector<float> mean = {0, 0}, std = {1, 1};
  std::vector<int64_t> latents = {kSamples, 2, 1, 2, 2}, text = {kSamples, 3, 4}, text_length = {kSamples};
  std::vector<int64_t> prompt, checksum, negative_text, negative_text_length;
  ElementType latent_type = ElementType::kFloat32, text_length_type = ElementType::kInt32;
  ElementType prompt_type = ElementType::kString, checksum_type = ElementType::kUint64;
  std::string latent_dtype, generator;
  double frames = 0;
  std::optional<uint64_t> noise_seed;
  std::optional<int64_t> noise_first;
  bool noise_is_text = false;

  void write(const std::filesystem::path& path) const {
    Hdf5File file = Hdf5File::create(path);
    Hdf5Attributes attributes = file.attributes();
    if (!format.empty()) attributes.write_text("format", format);
    attributes.write_number("version", version);
    if (has_codec) attributes.write_text("codec", "pixels-2x2");
    if (is_normalized) attributes.write_bool("normalized", true);
    if (!mean.empty()) attributes.write_numbers("latent_mean", mean);
    if (!std.empty()) attributes.write_numbers("latent_std", std);
    if (!generator.empty()) attributes.write_text("generator", generator);
    if (frames != 0) attributes.write_number("video_frames", frames);
    if (noise_seed) attributes.write_unsigned("noise_seed", *noise_seed);
    if (noise_first) attributes.write_integer("noise_first", *noise_first);
    if (noise_is_text) attributes.write_text("noise_first", "0");
    const auto add = [&](const char* name, ElementType type, const std::vector<int64_t>& shape) {
      if (!shape.empty()) file.create_dataset(name, type, shape);
    };
    add("latents", latent_type, latents);
    if (!latent_dtype.empty()) file.dataset("latents").attributes().write_text("dtype", latent_dtype);
    add("text", ElementType::kFloat32, text);
    add("text_length", text_length_type, text_length);
    add("prompt", prompt_type, prompt);
    add("checksum", checksum_type, checksum);
    add("negative_text", ElementType::kFloat32, negative_text);
    add("negative_text_length", ElementType::kInt32, negative_text_length);
    file.close();
  }
};

class LatentHeaderTest : public testing::Test {
 protected:
  LatentHeader read(const RawFile& raw) {
    raw.write(folder_ / "x.h5");
    return read_latent_header(Hdf5File::open(folder_ / "x.h5"));
  }
  void expect_refused(const std::string& part, const std::function<void(RawFile&)>& damage) {
    RawFile raw;
    damage(raw);
    expect_error(ErrorKind::kData, part, [&] { read(raw); });
  }

  TemporaryFolder folder_;
};

TEST_F(LatentHeaderTest, minimal_file) {
  const LatentHeader header = read({});
  EXPECT_EQ(header.samples, kSamples);
  EXPECT_EQ(header.latent_shape, (std::array<int64_t, 4>{2, 1, 2, 2}));
  EXPECT_EQ(header.text_shape, (std::array<int64_t, 2>{3, 4}));
  EXPECT_FALSE(header.has_prompts || header.has_negative_text || header.has_checksum);
  EXPECT_EQ(header.video_frames, 0);
}

TEST_F(LatentHeaderTest, prompt_list_without_latents) {
  RawFile raw;
  raw.latents.clear();
  raw.has_codec = raw.is_normalized = false;
  raw.mean.clear();
  raw.std.clear();
  const LatentHeader header = read(raw);
  EXPECT_FALSE(header.has_latents);
  EXPECT_EQ(header.samples, kSamples);
}

TEST_F(LatentHeaderTest, wrong_format_and_version) {
  expect_refused("no attribute 'format'", [](RawFile& raw) { raw.format.clear(); });
  expect_refused("format is \"other\", expected \"tmd-latents\"", [](RawFile& raw) { raw.format = "other"; });
  expect_refused("version 2 is newer", [](RawFile& raw) { raw.version = 2; });
  expect_refused("version is 0", [](RawFile& raw) { raw.version = 0; });
}

TEST_F(LatentHeaderTest, missing_parts) {
  expect_refused("no attribute 'codec'", [](RawFile& raw) { raw.has_codec = false; });
  expect_refused("not marked as normalised", [](RawFile& raw) { raw.is_normalized = false; });
  expect_refused("no attribute 'latent_mean', expected 2", [](RawFile& raw) { raw.mean.clear(); });
  expect_refused("no attribute 'latent_std'", [](RawFile& raw) { raw.std.clear(); });
  expect_refused("no data set /text,", [](RawFile& raw) { raw.text.clear(); });
  expect_refused("no data set /text_length", [](RawFile& raw) { raw.text_length.clear(); });
  expect_refused("/negative_text_length", [](RawFile& raw) { raw.negative_text = {3, 4}; });
}

TEST_F(LatentHeaderTest, wrong_shapes) {
  expect_refused("/latents has shape [2, 2, 2], expected [N, C, T, H, W]", [](RawFile& raw) {
    raw.latents = {2, 2, 2};
  });
  expect_refused("dimension 0 is empty", [](RawFile& raw) { raw.latents[0] = 0; });
  expect_refused("/text has 3 samples, /latents has 2", [](RawFile& raw) { raw.text[0] = 3; });
  expect_refused("/text has shape [2, 3]", [](RawFile& raw) { raw.text = {2, 3}; });
  expect_refused("/text_length has shape [5], expected [2]", [](RawFile& raw) { raw.text_length = {5}; });
  expect_refused("/prompt has shape [3]", [](RawFile& raw) { raw.prompt = {3}; });
  expect_refused("/checksum has shape [1]", [](RawFile& raw) { raw.checksum = {1}; });
  expect_refused("/negative_text has shape [2, 4], expected [3, 4]", [](RawFile& raw) {
    raw.negative_text = {2, 4};
    raw.negative_text_length = {1};
  });
  expect_refused("'latent_mean' has 3 values for 2 channels", [](RawFile& raw) { raw.mean = {0, 0, 0}; });
}

TEST_F(LatentHeaderTest, wrong_types_and_values) {
  expect_refused("holds float64", [](RawFile& raw) { raw.latent_type = ElementType::kFloat64; });
  expect_refused("uint16 without the attribute",
                 [](RawFile& raw) { raw.latent_type = ElementType::kUint16; });
  expect_refused("uint16 without the attribute", [](RawFile& raw) {
    raw.latent_type = ElementType::kUint16;
    raw.latent_dtype = "float8";
  });
  expect_refused("/prompt holds no strings", [](RawFile& raw) {
    raw.prompt = {kSamples};
    raw.prompt_type = ElementType::kInt32;
  });
  expect_refused("/checksum is not uint64", [](RawFile& raw) {
    raw.checksum = {kSamples};
    raw.checksum_type = ElementType::kInt64;
  });
  expect_refused("'latent_std' holds 0, expected positive", [](RawFile& raw) { raw.std = {1, 0}; });
  expect_refused("'latent_mean' holds nan",
                 [](RawFile& raw) { raw.mean[0] = std::numeric_limits<float>::quiet_NaN(); });
  expect_refused("'generator' is not JSON", [](RawFile& raw) { raw.generator = "{steps: 50"; });
  expect_refused("'video_frames' is 1.5", [](RawFile& raw) { raw.frames = 1.5; });
}

TEST_F(LatentHeaderTest, bfloat16_is_named_by_an_attribute) {
  RawFile raw;
  raw.latent_type = ElementType::kUint16;
  raw.latent_dtype = "bfloat16";
  EXPECT_EQ(read(raw).latent_type, StoredType::kBfloat16);
}

TEST_F(LatentHeaderTest, noise_of_other_writers) {
  EXPECT_FALSE(read({}).noise.has_value());
  RawFile raw;
  raw.noise_seed = 7;
  raw.noise_first = 12;  // a signed integer, as h5py writes Python's
  EXPECT_EQ(read(raw).noise, (NoiseOf{7, 12}));
  raw.noise_first = (int64_t{1} << 48) - kSamples;
  EXPECT_EQ(read(raw).noise, (NoiseOf{7, (int64_t{1} << 48) - kSamples}));
}

TEST_F(LatentHeaderTest, damaged_noise) {
  expect_refused("attribute 'noise_seed' without 'noise_first'", [](RawFile& raw) { raw.noise_seed = 7; });
  expect_refused("attribute 'noise_first' without 'noise_seed'", [](RawFile& raw) { raw.noise_first = 0; });
  expect_refused("is -1, expected 0 or more", [](RawFile& raw) {
    raw.noise_seed = 7;
    raw.noise_first = -1;
  });
  expect_refused("'noise_first' is 281474976710655, at most 281474976710654", [](RawFile& raw) {
    raw.noise_seed = 7;
    raw.noise_first = (int64_t{1} << 48) - 1;
  });
  expect_refused("must be one integer", [](RawFile& raw) {
    raw.noise_seed = 7;
    raw.noise_is_text = true;
  });
}

TEST_F(LatentHeaderTest, attributes_round_trip) {
  LatentHeader header = small_header();
  header.has_checksum = true;
  header.noise = {~uint64_t{0}, 12};
  write_small_file(folder_ / "x.h5", header);
  EXPECT_EQ(read_latent_header(Hdf5File::open(folder_ / "x.h5")), header);
}

}  // namespace
}  // namespace tmd::data
