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
  /// float32, float64, int32, int64, and minimum and maximum of uint8 (its sums would wrap unseen). Throws
  /// kInternal for others.
  Reduction(at::ScalarType type, ReduceOp op);

  size_t element_bytes() const { return element_bytes_; }

  /// output[i] = inputs[0][i] op inputs[1][i] op ... for i < elements. `output` may be one of the inputs, of
  /// which there is one at least; all are aligned for the type. Thread: any.
  void apply(std::span<const std::byte* const> inputs, std::byte* output, int64_t elements) const {
    kernel_(inputs, output, elements);
  }

 private:
  using Kernel = void (*)(std::span<const std::byte* const>, std::byte*, int64_t);

  Kernel kernel_ = nullptr;
  size_t element_bytes_ = 0;
};

}  // namespace tmd::comm
