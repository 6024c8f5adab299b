#pragma once

#include <filesystem>

#include <ATen/ATen.h>

#include "data/writer.h"

namespace tmd::data {

inline LatentHeader small_header(int64_t samples = 5) {
  LatentHeader header;
  header.samples = samples;
  header.codec = "pixels-2x2";
  header.latent_shape = {12, 2, 2, 3};
  header.text_shape = {3, 4};
  header.latent_type = header.text_type = StoredType::kFloat32;
  header.latent_mean.assign(12, 0.5f);
  header.latent_std.assign(12, 2.0f);
  header.video_frames = 2;
  header.video_height = 4;
  header.video_width = 6;
  header.fps = 12.5;
  header.text_encoder = "words";
  header.negative_prompt = "süß";
  header.generator = R"({"steps":50})";
  header.has_prompts = header.has_negative_text = true;
  return header;
}

/// Sample `index` of a small file: every number is a different multiple of 1/64, exact in all stored types
/// but bfloat16.
inline Sample small_sample(const LatentHeader& header, int64_t index) {
  Sample sample;
  if (header.has_latents) {
    sample.latent = (at::arange(header.latent_elements(), at::kFloat) / 64 + static_cast<double>(index))
                        .reshape(header.latent_shape);
  }
  sample.text_length = index % (header.text_shape[0] + 1);
  sample.text = at::zeros(header.text_shape, at::kFloat);
  if (sample.text_length > 0)
    sample.text.slice(0, 0, sample.text_length).fill_(0.25 * static_cast<double>(index + 1));
  sample.prompt = "prompt ä " + std::to_string(index);
  return sample;
}

inline void write_small_file(const std::filesystem::path& path, const LatentHeader& header) {
  LatentWriter writer(path, header);
  for (int64_t i = 0; i < header.samples; ++i) writer.write(i, small_sample(header, i));
  if (header.has_negative_text) {
    at::Tensor text = at::zeros(header.text_shape, at::kFloat);
    text[0].fill_(-1);
    writer.write_negative_text({text, 1});
  }
  writer.finish();
}

}  // namespace tmd::data
