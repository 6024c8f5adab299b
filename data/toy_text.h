#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "data/sample.h"

namespace tmd::data {

/// The word that toy files use as negative prompt.
inline constexpr std::string_view kToyNegativeWord = "none";
/// Attribute text_encoder of toy files.
inline constexpr std::string_view kToyTextEncoder = "toy-words";

/// The vector that stands for a word: [features] float32 of standard normal numbers, a pure function of the
/// word (number i does not depend on `features`).
at::Tensor toy_word_vector(std::string_view word, int64_t features);

/// A caption as a text embedding [rows, features] float32: one row per word, zero rows after them.
/// Throws kConfig when there are more words than rows.
TextEmbedding embed_toy_words(std::span<const std::string> words, int64_t rows, int64_t features);

}  // namespace tmd::data
