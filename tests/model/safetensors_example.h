#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <unistd.h>

#include <ATen/ATen.h>

#include "base/safetensors.h"

namespace tmd::test {

/// The name that safetensors gives an element type.
inline std::string dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return "F64";
    case at::kFloat:
      return "F32";
    case at::kHalf:
      return "F16";
    case at::kBFloat16:
      return "BF16";
    case at::kLong:
      return "I64";
    default:
      throw std::invalid_argument("no safetensors name");
  }
}

/// A safetensors file of the given tensors in the folder for temporary files; removed at the end.
class SafetensorsExample {
 public:
  explicit SafetensorsExample(const std::map<std::string, at::Tensor>& tensors) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("tmd-example-" + std::to_string(getpid()) + "-" + std::to_string(count++) + ".safetensors");
    std::vector<SafetensorsDeclaration> declarations;
    for (const auto& [name, tensor] : tensors) {
      declarations.push_back({name, dtype_name(tensor.scalar_type()), tensor.sizes().vec()});
    }
    SafetensorsWriter writer(path_, std::move(declarations));
    for (const auto& [name, tensor] : tensors) {
      const at::Tensor packed = tensor.contiguous();
      writer.append(name, std::span(static_cast<const std::byte*>(packed.data_ptr()), packed.nbytes()));
    }
    writer.finish();
  }
  SafetensorsExample(const SafetensorsExample&) = delete;
  SafetensorsExample& operator=(const SafetensorsExample&) = delete;
  ~SafetensorsExample() { std::filesystem::remove(path_); }

  SafetensorsFile open() const { return SafetensorsFile(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace tmd::test
