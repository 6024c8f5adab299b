#include "orchestrator/prompt_file.h"

#include <fmt/format.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/hash.h"
#include "data/writer.h"

namespace tmd::orchestrator {

at::Tensor Prompts::text() const {
  std::vector<at::Tensor> text;
  for (const data::Sample& row : rows) text.push_back(row.text);
  return at::stack(text, 0);
}

at::Tensor Prompts::negative_text() const {
  if (negative) return negative->text.unsqueeze(0);
  return at::zeros({1, header.text_shape[0], header.text_shape[1]}, at::kFloat);
}

Prompts read_prompts(data::DataSet& set, int64_t count) {
  return read_prompts_cyclically(set, 0, std::min(count, set.size()));
}

Prompts read_prompts_cyclically(data::DataSet& set, int64_t first, int64_t count) {
  Prompts prompts{.header = set.header(), .rows = {}, .negative = {}};
  for (int64_t i = first; i < first + count; ++i) {
    auto read = set.read(i % set.size());
    if (const auto* bad = std::get_if<data::BadSample>(&read)) {
      throw Error(ErrorKind::kData, fmt::format("{}: {}", bad->name, bad->problem));
    }
    prompts.rows.push_back(std::get<data::Sample>(std::move(read)));
  }
  if (set.has_negative_text()) prompts.negative = set.negative_text();
  return prompts;
}

uint64_t prompts_hash(const data::DataSet& set) {
  Xxh3 hash;
  for (const data::LatentFile& file : set.files()) {
    const bool is_sealed = file.header().has_checksum;
    for (int64_t row = 0; row < file.header().samples; ++row) {
      const uint64_t checksum = is_sealed ? file.stored_checksum(row) : file.compute_checksum(row);
      hash.update(std::as_bytes(std::span(&checksum, 1)));
    }
  }
  if (!set.has_negative_text()) return hash.digest();
  const at::Tensor negative = set.negative_text().text.contiguous();
  const std::span values(negative.const_data_ptr<float>(), static_cast<size_t>(negative.numel()));
  return hash.update(std::as_bytes(values)).digest();
}

data::LatentHeader sample_header(data::LatentHeader latents, const Prompts& prompts) {
  data::LatentHeader header = std::move(latents);
  header.has_latents = true;
  header.latent_type = header.text_type = data::StoredType::kFloat32;
  header.has_prompts = header.has_checksum = true;
  header.has_negative_text = prompts.negative.has_value();
  header.text_shape = prompts.header.text_shape;
  header.text_encoder = prompts.header.text_encoder;
  header.negative_prompt = prompts.header.negative_prompt;
  header.generator.clear();
  header.noise.reset();
  return header;
}

void require_text_shape(const Prompts& prompts, int64_t rows, int64_t features) {
  const auto& [have_rows, have_features] = prompts.header.text_shape;
  check(have_rows == rows && have_features == features, ErrorKind::kData,
        fmt::format("the prompts are {} x {}, the model takes {} x {}", have_rows, have_features, rows,
                    features),
        "embed the prompts with the encoder that made the training data (scripts/embed_prompts.py)");
}

void write_prompts(const std::filesystem::path& file, const Prompts& prompts) {
  data::LatentHeader header = prompts.header;
  header.has_latents = false;
  header.latent_shape = {};
  header.samples = static_cast<int64_t>(prompts.rows.size());
  header.has_prompts = header.has_checksum = true;
  header.has_negative_text = prompts.negative.has_value();
  header.generator.clear();
  data::LatentWriter writer(file, header);
  for (int64_t i = 0; i < header.samples; ++i) {
    data::Sample row = prompts.rows[static_cast<size_t>(i)];
    row.latent = at::Tensor();
    writer.write(i, row);
  }
  if (prompts.negative) writer.write_negative_text(*prompts.negative);
  writer.finish();
}

}  // namespace tmd::orchestrator
