#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "base/cuda_runtime.h"

namespace tmd {

/// Reads memory of a device into any memory of the host, through two pinned buffers and a stream of its own:
/// one is filled while the other is emptied. Thread: any, one at a time.
class DeviceReader {
 public:
  /// Throws as base/cuda_runtime.h.
  explicit DeviceReader(int device);

  /// Fills `to` with the bytes at `from`, and returns when they are there. What shall be read must have been
  /// written: no other stream is waited for.
  void read(std::span<std::byte> to, const std::byte* from);

 private:
  struct Piece {
    cuda::PinnedMemory memory;
    cuda::Event filled;
  };

  int device_;
  cuda::Stream stream_;
  std::array<Piece, 2> pieces_;
};

}  // namespace tmd
