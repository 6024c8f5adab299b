#include "data/latent_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/expect_error.h"
#include "tests/data/small_file.h"
#include "tests/data/temporary_folder.h"

namespace tmd::data {
namespace {

constexpr const char* kClips = "tests/golden/clips_slice.h5";

float at_index(const at::Tensor& tensor, std::initializer_list<int64_t> index) {
  at::Tensor value = tensor;
  for (int64_t i : index) value = value[i];
  return value.item<float>();
}

TEST(LatentFile, header_of_real_clips) {
  const LatentFile file(kClips);
  const LatentHeader& header = file.header();
  EXPECT_EQ(header.samples, 72);
  EXPECT_EQ(header.codec, "dct-4x8x8");
  EXPECT_EQ(header.latent_shape, (std::array<int64_t, 4>{16, 4, 8, 12}));
  EXPECT_EQ(header.text_shape, (std::array<int64_t, 2>{16, 384}));
  EXPECT_EQ(header.latent_type, StoredType::kFloat16);
  EXPECT_FLOAT_EQ(header.latent_std[10], 2.27665019f);
  EXPECT_EQ(header.video_height, 64);
  EXPECT_EQ(header.fps, 24);
  EXPECT_EQ(header.text_encoder, "all-MiniLM-L6-v2");
  EXPECT_EQ(header.negative_prompt, "blurred, still picture, noise");
  EXPECT_TRUE(header.has_prompts && header.has_negative_text);
  EXPECT_FALSE(header.has_checksum);
}

TEST(LatentFile, read_sample_of_real_clips) {
  // The numbers are h5py's view of the same row.
  const Sample sample = LatentFile(kClips).read_sample(17);
  EXPECT_EQ(at_index(sample.latent, {0, 0, 0, 0}), 0.55859375f);
  EXPECT_EQ(at_index(sample.latent, {3, 1, 2, 3}), 0.006992340087890625f);
  EXPECT_EQ(at_index(sample.latent, {15, 3, 7, 11}), -0.39892578125f);
  EXPECT_NEAR(sample.latent.to(at::kDouble).sum().item<double>(), -131.81874680519104, 1e-9);
  EXPECT_EQ(at_index(sample.text, {0, 0}), 0.48876953125f);
  EXPECT_EQ(at_index(sample.text, {3, 100}), 0.54833984375f);
  EXPECT_EQ(sample.text_length, 16);
  EXPECT_EQ(sample.prompt, "a fat rabbit in a green meadow, animated film, right part, still");
}

TEST(LatentFile, h5py_defaults_and_compressed_bfloat16_agree) {
  const LatentFile plain("tests/golden/h5py_defaults.h5"), compressed("tests/golden/h5py_gzip.h5");
  EXPECT_EQ(compressed.header().latent_type, StoredType::kBfloat16);
  for (int64_t i = 0; i < 3; ++i) {
    const Sample a = plain.read_sample(i), b = compressed.read_sample(i);
    const at::Tensor expected = (at::arange(8 * i, 8 * i + 8, at::kFloat) / 8 - 1).reshape({2, 1, 2, 2});
    EXPECT_TRUE(a.latent.equal(expected));
    EXPECT_TRUE(b.latent.equal(expected));
    EXPECT_TRUE(a.text.equal(b.text));
    EXPECT_EQ(a.text_length, i == 1 ? 2 : 1);
    EXPECT_EQ(b.text_length, a.text_length);
  }
  EXPECT_EQ(plain.read_sample(1).prompt, "zwei Wörter");
  EXPECT_TRUE(plain.negative_text().text.equal(compressed.negative_text().text));
  EXPECT_EQ(compressed.negative_text().text_length, 1);
}

TEST(LatentFile, negative_text_of_real_clips) {
  const TextEmbedding negative = LatentFile(kClips).negative_text();
  EXPECT_EQ(negative.text.sizes(), at::IntArrayRef({16, 384}));
  EXPECT_GT(negative.text_length, 0);
  EXPECT_TRUE(negative.text.slice(0, negative.text_length).eq(0).all().item<bool>());
}

TEST(LatentFile, negative_text_missing) {
  const TemporaryFolder folder;
  LatentHeader header = small_header();
  header.has_negative_text = false;
  write_small_file(folder / "x.h5", header);
  const LatentFile file(folder / "x.h5");
  expect_error(ErrorKind::kData, "no data set /negative_text", [&] { file.negative_text(); });
}

TEST(LatentFile, negative_text_is_verified) {
  const TemporaryFolder folder;
  const LatentHeader header = small_header();
  const auto write_with = [&](const TextEmbedding& negative) {
    LatentWriter writer(folder / "x.h5", header);
    for (int64_t i = 0; i < header.samples; ++i) writer.write(i, small_sample(header, i));
    writer.write_negative_text(negative);
    writer.finish();
    return LatentFile(folder / "x.h5");
  };
  expect_error(ErrorKind::kData, "beyond its length 1", [&] {
    write_with({at::ones({3, 4}), 1}).negative_text();
  });
  expect_error(ErrorKind::kData, "from 0 to 3", [&] { write_with({at::ones({3, 4}), 4}).negative_text(); });
}

TEST(LatentFile, checksum_is_of_latent_then_text) {
  const LatentFile file(kClips);
  StoredSample stored, swapped;
  file.read_stored(3, stored);
  EXPECT_EQ(stored.latent.size(), 16u * 4 * 8 * 12 * 2);
  EXPECT_EQ(stored.text.size(), 16u * 384 * 2);
  EXPECT_EQ(file.compute_checksum(3), stored.checksum());
  // xxhash.xxh3_64 of Python over the two rows' bytes.
  EXPECT_EQ(file.compute_checksum(17), 0x7d58c2f73a26569dULL);
  swapped.latent = stored.text;
  swapped.text = stored.latent;
  EXPECT_NE(stored.checksum(), swapped.checksum());
}

TEST(LatentFile, prompt_list) {
  const TemporaryFolder folder;
  LatentHeader header = small_header();
  header.has_latents = false;
  write_small_file(folder / "prompts.h5", header);
  const LatentFile file(folder / "prompts.h5");
  EXPECT_FALSE(file.header().has_latents);
  const Sample sample = file.read_sample(2);
  EXPECT_FALSE(sample.latent.defined());
  EXPECT_EQ(sample.text_length, 2);
  EXPECT_EQ(sample.prompt, "prompt ä 2");
}

TEST(LatentFile, open_bad_files) {
  const TemporaryFolder folder;
  expect_error(ErrorKind::kData, "no such file", [&] { LatentFile(folder / "none.h5"); });
  expect_error(ErrorKind::kData, "not an HDF5 file", [] { LatentFile("CMakeLists.txt"); });
  std::filesystem::copy_file(kClips, folder / "cut.h5");
  std::filesystem::resize_file(folder / "cut.h5", 1000000);
  expect_error(ErrorKind::kData, "truncated", [&] { LatentFile(folder / "cut.h5"); });
  Hdf5File::create(folder / "empty.h5").close();
  expect_error(ErrorKind::kData, "no attribute 'format'", [&] { LatentFile(folder / "empty.h5"); });
}

}  // namespace
}  // namespace tmd::data
