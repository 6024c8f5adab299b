#pragma once

#include <deque>

#include <ATen/core/Tensor.h>

namespace tmd::model {

/// What the layers of a causal video network keep of the frames before a chunk. Every chunk goes through the
/// same layers, so slot i belongs to the i-th layer that asks for one; no layer needs a name.
class FrameMemory {
 public:
  /// Call before each chunk.
  void begin_chunk() { next_ = 0; }

  /// The slot of the next layer that remembers: undefined in the first chunk, then what the layer left there.
  /// Valid as long as this object.
  at::Tensor& next_slot() {
    if (next_ == slots_.size()) slots_.emplace_back();
    return slots_[next_++];
  }

 private:
  std::deque<at::Tensor> slots_;  // a deque: references stay valid while it grows
  size_t next_ = 0;
};

}  // namespace tmd::model
