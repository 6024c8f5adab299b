#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"

namespace tmd::comm {

/// Combines equally long arrays element by element, always in the order in which they are given, so that
/// equal inputs give equal bits. Minimum and maximum of floating-point numbers are NaN where any input is
/// NaN; integer sums wrap.
class Reduction {
 public:
  /// Throws kInternal when `type` cannot be reduced with `op` (sums of uint8 would wrap unseen).
  Reduction(at::ScalarType type, ReduceOp op);

  size_t element_bytes() const { return element_bytes_; }

  /// output[i] = inputs[0][i] op inputs[1][i] op ... for i < elements. `output` may be one of the inputs.
  void apply(std::span<const std::byte* const> inputs, std::byte* output, int64_t elements) const {
    kernel_(inputs, output, elements);
  }

 private:
  using Kernel = void (*)(std::span<const std::byte* const>, std::byte*, int64_t);

  Kernel kernel_ = nullptr;
  size_t element_bytes_ = 0;
};

}  // namespace tmd::comm
