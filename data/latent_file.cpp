#include "data/latent_file.h"

#include <cstring>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/hash.h"
#include "data/element_convert.h"

namespace tmd::data {
namespace {

at::Tensor float_tensor(const std::vector<std::byte>& bytes, StoredType type, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  const std::span<float> out(tensor.mutable_data_ptr<float>(), tensor.numel());
  ensure(bytes.size() == out.size() * size_bytes(type), "stored bytes fill the tensor");
  const std::span<const uint16_t> words(reinterpret_cast<const uint16_t*>(bytes.data()), bytes.size() / 2);
  switch (type) {
    case StoredType::kFloat16:
      float_from_half(words, out);
      break;
    case StoredType::kBfloat16:
      float_from_bfloat16(words, out);
      break;
    case StoredType::kFloat32:
      std::memcpy(out.data(), bytes.data(), bytes.size());
      break;
  }
  return tensor;
}

std::optional<Hdf5Dataset> open_if(bool present, const Hdf5File& file, const std::string& name) {
  return present ? std::optional(file.dataset(name)) : std::nullopt;
}

std::vector<uint64_t> read_checksums(const Hdf5File& file, const LatentHeader& header) {
  std::vector<uint64_t> checksums(header.has_checksum ? header.samples : 0);
  if (header.has_checksum) {
    file.dataset("checksum").read_rows(0, header.samples, std::as_writable_bytes(std::span(checksums)));
  }
  return checksums;
}

}  // namespace

uint64_t StoredSample::checksum() const { return Xxh3().update(latent).update(text).digest(); }

LatentFile::LatentFile(const std::filesystem::path& path)
    : file_(Hdf5File::open(path)),
      header_(read_latent_header(file_)),
      latents_(open_if(header_.has_latents, file_, "latents")),
      prompts_(open_if(header_.has_prompts, file_, "prompt")),
      text_(file_.dataset("text")),
      text_lengths_(file_.dataset("text_length").read_integers()),
      checksums_(read_checksums(file_, header_)) {}

std::string LatentFile::sample_name(int64_t index) const {
  return fmt::format("{} sample {}", path().string(), index);
}

void LatentFile::read_stored(int64_t index, StoredSample& out) const {
  if (latents_) {
    out.latent.resize(header_.latent_elements() * size_bytes(header_.latent_type));
    latents_->read_rows(index, 1, out.latent);
  }
  out.text.resize(header_.text_elements() * size_bytes(header_.text_type));
  text_.read_rows(index, 1, out.text);
}

Sample LatentFile::convert(int64_t index, const StoredSample& stored, WithPrompt prompt) const {
  Sample sample;
  if (latents_) sample.latent = float_tensor(stored.latent, header_.latent_type, header_.latent_shape);
  sample.text = float_tensor(stored.text, header_.text_type, header_.text_shape);
  sample.text_length = text_lengths_[index];
  if (prompts_ && prompt == WithPrompt::kYes) sample.prompt = prompts_->read_strings(index, 1)[0];
  return sample;
}

Sample LatentFile::read_sample(int64_t index) const {
  StoredSample stored;
  read_stored(index, stored);
  return convert(index, stored);
}

uint64_t LatentFile::stored_checksum(int64_t index) const {
  ensure(header_.has_checksum, "stored_checksum is asked of a sealed file");
  return checksums_[index];
}

uint64_t LatentFile::compute_checksum(int64_t index) const {
  StoredSample stored;
  read_stored(index, stored);
  return stored.checksum();
}

TextEmbedding LatentFile::negative_text() const {
  if (!header_.has_negative_text) {
    throw Error(ErrorKind::kData,
                fmt::format("{} has no data set /negative_text, which guidance needs", path().string()),
                "add /negative_text [S, E] and /negative_text_length, or switch guidance off");
  }
  const Hdf5Dataset dataset = file_.dataset("negative_text");
  const StoredType type = stored_type(dataset);
  std::vector<std::byte> bytes(header_.text_elements() * size_bytes(type));
  dataset.read_rows(0, header_.text_shape[0], bytes);
  TextEmbedding negative{float_tensor(bytes, type, header_.text_shape), 0};
  const std::vector<int64_t> length = file_.dataset("negative_text_length").read_integers();
  if (length.size() != 1 || length[0] < 0 || length[0] > header_.text_shape[0]) {
    throw Error(ErrorKind::kData, fmt::format("/negative_text_length of {} must be one number from 0 to {}",
                                              path().string(), header_.text_shape[0]));
  }
  const std::span<const float> values(negative.text.const_data_ptr<float>(), negative.text.numel());
  const auto rows_used = static_cast<size_t>(length[0] * header_.text_shape[1]);
  check(is_finite(values), ErrorKind::kData,
        fmt::format("/negative_text of {} has non-finite values", path().string()));
  check(
      is_zero(values.subspan(rows_used)), ErrorKind::kData,
      fmt::format("/negative_text of {} has non-zero rows beyond its length {}", path().string(), length[0]));
  negative.text_length = length[0];
  return negative;
}

}  // namespace tmd::data
