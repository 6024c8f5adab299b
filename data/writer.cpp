#include "data/writer.h"

#include <array>
#include <unistd.h>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/hash.h"
#include "data/latent_file.h"

namespace tmd::data {
namespace {

ElementType element_type(StoredType type) {
  switch (type) {
    case StoredType::kFloat16:
      return ElementType::kFloat16;
    case StoredType::kFloat32:
      return ElementType::kFloat32;
    case StoredType::kBfloat16:
      return ElementType::kUint16;
  }
  return ElementType::kOther;
}

at::ScalarType scalar_type(StoredType type) {
  switch (type) {
    case StoredType::kFloat16:
      return at::kHalf;
    case StoredType::kFloat32:
      return at::kFloat;
    case StoredType::kBfloat16:
      return at::kBFloat16;
  }
  return at::kFloat;
}

Hdf5Dataset create_numbers(Hdf5File& file, const std::string& name, StoredType type,
                           std::span<const int64_t> shape, std::span<const int64_t> chunk) {
  Hdf5Dataset dataset = file.create_dataset(name, element_type(type), shape, chunk);
  if (type == StoredType::kBfloat16) dataset.attributes().write_text("dtype", "bfloat16");
  return dataset;
}

at::Tensor stored_tensor(const at::Tensor& values, StoredType type, at::IntArrayRef shape,
                         const std::string& label) {
  ensure(values.sizes() == shape, label + " has the shape of the header");
  const at::Tensor stored = values.detach().to(at::kCPU, scalar_type(type)).contiguous();
  check(stored.isfinite().all().item<bool>(), ErrorKind::kData,
        fmt::format("{} has values that are not finite or too large for the stored type", label));
  return stored;
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

void write_list(Hdf5File& file, const std::string& name, ElementType type, int64_t count,
                std::span<const std::byte> bytes) {
  file.create_dataset(name, type, std::array{count}).write_rows(0, count, bytes);
}

}  // namespace

LatentWriter::LatentWriter(const std::filesystem::path& path, LatentHeader header)
    : path_(path),
      temporary_(fmt::format("{}.tmp-{}", path.string(), getpid())),
      header_(std::move(header)),
      file_(Hdf5File::create(temporary_)),
      text_lengths_(header_.samples, -1),
      prompts_(header_.has_prompts ? header_.samples : 0),
      checksums_(header_.has_checksum ? header_.samples : 0) {
  ensure(header_.samples >= 1 && header_.text_elements() >= 1,
         "a file has at least one sample and one text row");
  write_latent_attributes(file_, header_);
  if (header_.has_latents) {
    const auto& [c, t, h, w] = header_.latent_shape;
    ensure(header_.latent_elements() >= 1 && header_.latent_mean.size() == static_cast<size_t>(c) &&
               header_.latent_std.size() == static_cast<size_t>(c),
           "a latent is not empty and has a mean and a std for each channel");
    latents_ = create_numbers(file_, "latents", header_.latent_type, std::array{header_.samples, c, t, h, w},
                              std::array<int64_t, 5>{1, c, t, h, w});
  }
  const auto& [rows, features] = header_.text_shape;
  text_ = create_numbers(file_, "text", header_.text_type, std::array{header_.samples, rows, features},
                         std::array<int64_t, 3>{1, rows, features});
}

LatentWriter::~LatentWriter() {
  if (is_finished_) return;
  std::error_code ignored;  // a leftover temporary file harms nobody
  std::filesystem::remove(temporary_, ignored);
}

void LatentWriter::write(int64_t index, const Sample& sample) {
  ensure(index >= 0 && index < header_.samples && text_lengths_[index] < 0, "each row is written once");
  ensure(sample.text_length >= 0 && sample.text_length <= header_.text_shape[0], "a text fits its rows");
  const std::string label = fmt::format("sample {} of {}", index, path_.string());
  Xxh3 hash;
  if (header_.has_latents) {
    const at::Tensor latent = stored_tensor(sample.latent, header_.latent_type, header_.latent_shape, label);
    latents_->write_rows(index, 1, bytes_of(latent));
    hash.update(bytes_of(latent));
  }
  const at::Tensor text = stored_tensor(sample.text, header_.text_type, header_.text_shape, label);
  text_->write_rows(index, 1, bytes_of(text));
  hash.update(bytes_of(text));
  text_lengths_[index] = static_cast<int32_t>(sample.text_length);
  if (header_.has_prompts) prompts_[index] = sample.prompt;
  if (header_.has_checksum) checksums_[index] = hash.digest();
}

void LatentWriter::write_negative_text(const TextEmbedding& negative) {
  ensure(header_.has_negative_text && !has_written_negative_, "the header promises one negative text");
  const at::Tensor text = stored_tensor(negative.text, header_.text_type, header_.text_shape,
                                        "negative text of " + path_.string());
  create_numbers(file_, "negative_text", header_.text_type, header_.text_shape, {})
      .write_rows(0, header_.text_shape[0], bytes_of(text));
  const auto length = static_cast<int32_t>(negative.text_length);
  file_.create_dataset("negative_text_length", ElementType::kInt32, {})
      .write_rows(0, 1, std::as_bytes(std::span(&length, 1)));
  has_written_negative_ = true;
}

void LatentWriter::write_integers(const std::string& name, int64_t columns, std::span<const int32_t> values) {
  file_.create_dataset(name, ElementType::kInt32, std::array{header_.samples, columns})
      .write_rows(0, header_.samples, std::as_bytes(values));
}

void LatentWriter::finish() {
  ensure(!is_finished_, "finish is called once");
  for (const int32_t length : text_lengths_) ensure(length >= 0, "every row was written");
  ensure(has_written_negative_ == header_.has_negative_text, "the promised negative text was written");
  write_list(file_, "text_length", ElementType::kInt32, header_.samples,
             std::as_bytes(std::span(text_lengths_)));
  if (header_.has_prompts) {
    file_.create_dataset("prompt", ElementType::kString, std::array{header_.samples}).write_strings(prompts_);
  }
  if (header_.has_checksum) {
    write_list(file_, "checksum", ElementType::kUint64, header_.samples,
               std::as_bytes(std::span(checksums_)));
  }
  latents_.reset();
  text_.reset();
  file_.close();
  File::open_to_read(temporary_).sync();
  std::error_code code;
  std::filesystem::rename(temporary_, path_, code);
  check(!code, ErrorKind::kIo,
        fmt::format("cannot rename {} to {}: {}", temporary_.string(), path_.string(), code.message()));
  is_finished_ = true;
  sync_folder(path_.has_parent_path() ? path_.parent_path() : std::filesystem::path("."));
}

int64_t seal_file(const std::filesystem::path& path) {
  std::vector<uint64_t> checksums;
  {
    const LatentFile file(path);
    if (file.header().has_checksum) {
      throw Error(ErrorKind::kData, fmt::format("{} is sealed already", path.string()),
                  "`tmd data check` compares the checksums with the samples");
    }
    checksums.reserve(file.header().samples);
    for (int64_t i = 0; i < file.header().samples; ++i) checksums.push_back(file.compute_checksum(i));
  }
  const auto count = static_cast<int64_t>(checksums.size());
  Hdf5File file = Hdf5File::open_for_update(path);
  write_list(file, "checksum", ElementType::kUint64, count, std::as_bytes(std::span(checksums)));
  file.close();
  File::open_to_read(path).sync();
  return count;
}

}  // namespace tmd::data
