#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::workers {

/// Sizes of one sample.
struct SampleShape {
  std::array<int64_t, 4> latent = {};  ///< C, T, H, W
  std::array<int64_t, 2> text = {};    ///< S, E
  bool operator==(const SampleShape&) const = default;
};

struct BatchTensors {
  at::Tensor latents;  // [B, C, T, H, W] float32
  at::Tensor text;     // [B, S, E] float32
};

/// Memory for batches that is used again as soon as nobody holds a tensor that lies in it (views included),
/// so that a feed stops allocating after its first few batches. Thread: take() by one thread; the tensors may
/// be dropped in any.
class BatchBuffers {
 public:
  /// `rows`: of the largest batch, >= 1 (kInternal).
  BatchBuffers(int64_t rows, const SampleShape& shape);

  /// Contiguous tensors of B = `rows` with unspecified content. Throws kInternal for no rows or more than
  /// those of the largest batch.
  BatchTensors take(int64_t rows);
  /// Buffers that were ever allocated.
  int64_t allocated() const { return static_cast<int64_t>(buffers_.size()); }

 private:
  int64_t rows_;
  SampleShape shape_;
  std::vector<BatchTensors> buffers_;  // each of rows_ rows
};

}  // namespace tmd::workers
