#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/data_set.h"

namespace tmd::orchestrator {

/// Prompts with their embeddings, in memory.
struct Prompts {
  data::LatentHeader header;  ///< of the file that they come from
  std::vector<data::Sample> rows;
  std::optional<data::TextEmbedding> negative;

  at::Tensor text() const;           ///< [N, S, E]
  at::Tensor negative_text() const;  ///< [1, S, E]; zeros where there is none
};

/// The first `count` prompts of `set`, or all if it has fewer. Throws kData for a broken sample.
Prompts read_prompts(data::DataSet& set, int64_t count);

/// Prompts number `first` to first + count - 1 of an endless list that repeats those of `set`. Throws kData
/// for a broken sample.
Prompts read_prompts_cyclically(data::DataSet& set, int64_t first, int64_t count);

/// Identifies what samples are made from: the checksum of every row (of a sealed file the stored ones, of
/// another one it reads all) and the negative embedding. DataSet::data_hash looks at two rows alone. Throws
/// kIo; kData as LatentFile::negative_text.
uint64_t prompts_hash(const data::DataSet& set);

/// Header of a file of samples of such prompts: all that `latents` says of latents; numbers in float32, with
/// prompts and checksums. The number of samples is left to the caller.
data::LatentHeader sample_header(data::LatentHeader latents, const Prompts& prompts);

/// Throws kData unless the embeddings have `rows` rows of `features` numbers.
void require_text_shape(const Prompts& prompts, int64_t rows, int64_t features);

/// Writes the prompts as a tmd-latents file without latents. Throws kIo.
void write_prompts(const std::filesystem::path& file, const Prompts& prompts);

}  // namespace tmd::orchestrator
