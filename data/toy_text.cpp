#include "data/toy_text.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/philox.h"

namespace tmd::data {

at::Tensor toy_word_vector(std::string_view word, int64_t features) {
  at::Tensor vector = at::empty({features}, at::kFloat);
  const PhiloxStream stream(xxh3_64(word), 0, 0, Purpose::kToy);
  stream.fill_normal(std::span(vector.mutable_data_ptr<float>(), static_cast<size_t>(features)));
  return vector;
}

TextEmbedding embed_toy_words(std::span<const std::string> words, int64_t rows, int64_t features) {
  const auto count = static_cast<int64_t>(words.size());
  check(count <= rows, ErrorKind::kConfig,
        fmt::format("the caption \"{}\" has {} words, the text only {} rows", fmt::join(words, " "), count,
                    rows));
  TextEmbedding embedding{at::zeros({rows, features}, at::kFloat), count};
  for (int64_t i = 0; i < count; ++i) embedding.text[i].copy_(toy_word_vector(words[i], features));
  return embedding;
}

}  // namespace tmd::data
