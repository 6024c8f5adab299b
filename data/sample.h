#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace tmd::data {

/// One training sample, or one prompt when `latent` is undefined.
/// Whether a sample comes with its prompt: training does without, and HDF5 takes longer for the text than for
/// a small latent.
enum class WithPrompt { kYes, kNo };

struct Sample {
  at::Tensor latent;        // [C, T, H, W] float32, normalised; undefined in a list of prompts
  at::Tensor text;          // [S, E] float32, rows beyond text_length are zero
  int64_t text_length = 0;  ///< rows of `text` that hold words, 0 to S
  std::string prompt;       ///< UTF-8; empty when the file has no prompts
};

/// An embedding without a sample, e.g. the negative prompt's, which stands for "no condition" in guidance.
struct TextEmbedding {
  at::Tensor text;          // [S, E] float32, rows beyond text_length are zero
  int64_t text_length = 0;  ///< 0 to S
};

}  // namespace tmd::data
