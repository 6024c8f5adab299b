#include "data/data_set.h"

#include <algorithm>
#include <glob.h>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "base/hash.h"
#include "data/element_convert.h"

namespace tmd::data {
namespace {

void release_glob(glob_t* matches) noexcept { globfree(matches); }

std::vector<std::filesystem::path> expand(const std::string& pattern) {
  if (pattern.find_first_of("*?[") == std::string::npos) return {pattern};
  glob_t matches = {};
  const UniqueHandle<glob_t*, nullptr, &release_glob> owner(&matches);
  const int status = glob(pattern.c_str(), 0, nullptr, &matches);
  if (status != 0) throw Error(ErrorKind::kData, fmt::format("no such file: nothing matches {}", pattern));
  return {matches.gl_pathv, matches.gl_pathv + matches.gl_pathc};
}

void check_agrees(const LatentFile& first, const LatentFile& other) {
  const LatentHeader &a = first.header(), &b = other.header();
  const auto require = [&](bool equal, const std::string& what, const auto& left, const auto& right) {
    if (equal) return;
    throw Error(ErrorKind::kData,
                fmt::format("{} and {} cannot be one data set: {} {} and {}", first.path().string(),
                            other.path().string(), what, left, right));
  };
  require(a.has_latents == b.has_latents, "presence of /latents", a.has_latents, b.has_latents);
  require(a.latent_shape == b.latent_shape, "latent shapes", a.latent_shape, b.latent_shape);
  require(a.text_shape == b.text_shape, "text shapes", a.text_shape, b.text_shape);
  require(a.codec == b.codec, "codecs", a.codec, b.codec);
  require(a.latent_mean == b.latent_mean, "latent_mean", a.latent_mean, b.latent_mean);
  require(a.latent_std == b.latent_std, "latent_std", a.latent_std, b.latent_std);
  require(a.text_encoder == b.text_encoder, "text encoders", a.text_encoder, b.text_encoder);
}

std::span<const float> values_of(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

// Empty when the sample is good.
std::string problem_of(const Sample& sample) {
  const int64_t rows = sample.text.size(0), features = sample.text.size(1);
  if (sample.latent.defined() && !is_finite(values_of(sample.latent)))
    return "non-finite values in the latent";
  if (!is_finite(values_of(sample.text))) return "non-finite values in the text embedding";
  if (sample.text_length < 0 || sample.text_length > rows) {
    return fmt::format("text_length is {}, expected 0 to {}", sample.text_length, rows);
  }
  if (!is_zero(values_of(sample.text).subspan(sample.text_length * features))) {
    return fmt::format("non-zero text rows beyond text_length {}", sample.text_length);
  }
  return {};
}

void hash_header(Xxh3& hash, const LatentHeader& header) {
  hash.update(fmt::format("{}|{}|{}|{}|{}|{}|{}|{}|{}", header.samples, header.has_latents, header.codec,
                          header.latent_shape, header.text_shape, static_cast<int>(header.latent_type),
                          static_cast<int>(header.text_type), header.text_encoder, header.negative_prompt));
  hash.update(std::as_bytes(std::span(header.latent_mean)))
      .update(std::as_bytes(std::span(header.latent_std)));
  // Files without it keep the hash that runs know them by.
  if (header.noise) hash.update(fmt::format("|{}|{}", header.noise->seed, header.noise->number));
}

}  // namespace

std::vector<std::filesystem::path> resolve_files(std::span<const std::string> patterns) {
  check(!patterns.empty(), ErrorKind::kData, "no data files were named", "set data.files");
  std::vector<std::filesystem::path> files;
  for (const std::string& pattern : patterns) std::ranges::copy(expand(pattern), std::back_inserter(files));
  return files;
}

DataSet::DataSet(const std::vector<std::filesystem::path>& files) {
  check(!files.empty(), ErrorKind::kData, "a data set needs at least one file", "set data.files");
  files_.reserve(files.size());
  for (const auto& path : files) {
    files_.emplace_back(path);
    check_agrees(files_.front(), files_.back());
    begins_.push_back(size_);
    size_ += files_.back().header().samples;
  }
}

SamplePlace DataSet::place(int64_t index) const {
  ensure(index >= 0 && index < size_, "a sample index lies within the data set");
  const auto after = std::ranges::upper_bound(begins_, index);
  const int64_t file = std::distance(begins_.begin(), after) - 1;
  return {file, index - begins_[file]};
}

std::string DataSet::sample_name(int64_t index) const {
  const SamplePlace at = place(index);
  return files_[at.file].sample_name(at.row);
}

std::optional<NoiseOf> DataSet::noise_of(int64_t index) const {
  const SamplePlace at = place(index);
  std::optional<NoiseOf> noise = files_[at.file].header().noise;
  if (noise) noise->number += at.row;
  return noise;
}

ReadResult DataSet::read(int64_t index, WithPrompt prompt) {
  try {
    return read_once(index, prompt);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInternal) throw;
  }
  // A passing fault of the file system must not change which samples a run sees: unreadable is what fails
  // twice.
  try {
    return read_once(index, prompt);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInternal) throw;
    return BadSample{sample_name(index), fmt::format("cannot be read: {}", error.what())};
  }
}

ReadResult DataSet::read_once(int64_t index, WithPrompt prompt) {
  const SamplePlace at = place(index);
  const LatentFile& file = files_[at.file];
  const auto bad = [&](std::string problem) {
    return BadSample{file.sample_name(at.row), std::move(problem)};
  };
  file.read_stored(at.row, scratch_);
  if (file.header().has_checksum) {
    const uint64_t stored = file.stored_checksum(at.row), computed = scratch_.checksum();
    if (stored != computed)
      return bad(fmt::format("checksum {:016x} stored, {:016x} computed", stored, computed));
  }
  Sample sample = file.convert(at.row, scratch_, prompt);
  std::string problem = problem_of(sample);
  if (!problem.empty()) return bad(std::move(problem));
  return sample;
}

uint64_t DataSet::data_hash() const {
  Xxh3 hash;
  for (const LatentFile& file : files_) {
    hash_header(hash, file.header());
    for (int64_t row : {int64_t{0}, file.header().samples - 1}) {
      const uint64_t checksum =
          file.header().has_checksum ? file.stored_checksum(row) : file.compute_checksum(row);
      hash.update(std::as_bytes(std::span(&checksum, 1)));
    }
  }
  return hash.digest();
}

}  // namespace tmd::data
