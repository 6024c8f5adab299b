#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/safetensors.h"
#include "sharding/param_spec.h"

namespace tmd::model {

struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
};

/// The tensors of `file`, in the order of its data.
std::vector<NamedShape> shapes_in(const SafetensorsFile& file);

/// Our name of a parameter -> its name in a file.
using NameInFile = std::function<std::string(const std::string& name)>;

/// Holds the tensors that `file` has (`found`) against those that `model` needs (`wanted`). Throws kData
/// with `hint` unless they are the same; its message names the file and lists, all at once, the tensors that
/// are missing or have another shape, and those that the model does not have (20 at most, then their number).
void check_tensors(const std::string& file, const std::string& model, std::span<const NamedShape> wanted,
                   std::span<const NamedShape> found, const std::string& hint);

/// The memory of a contiguous tensor.
std::span<std::byte> bytes_of(const at::Tensor& tensor);

/// Element type of a tensor stored as `dtype`. Throws kData, naming `file` and `tensor`, unless that is F64,
/// F32, F16 or BF16.
at::ScalarType stored_type(const std::string& dtype, const std::string& tensor, const std::string& file);

/// Reads the parameters of `unit`, in order, converted to `type` on the CPU. Their shapes must have been
/// checked. Throws kData for a tensor that is not there and as stored_type; kIo. Keeps nothing of `file`.
std::vector<at::Tensor> read_unit(const SafetensorsFile& file, const sharding::UnitSpec& unit,
                                  at::ScalarType type, const NameInFile& name_in_file);

}  // namespace tmd::model
