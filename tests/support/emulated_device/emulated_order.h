#pragma once

#include <cstdint>

namespace tmd::device {

/// The order in which the emulated device runs the blocks of a launch, and the threads of a block in each
/// phase. What a kernel computes must not depend on it.
struct EmulatedOrder {
  enum class Kind { kForward, kReversed, kShuffled };
  Kind kind = Kind::kForward;
  uint64_t seed = 0;  ///< of kShuffled
};

/// Of all launches from now on. Thread: one at a time.
inline EmulatedOrder emulated_order;

/// What the launches so far did. Thread: one at a time.
struct EmulatedCounts {
  int64_t launches = 0, blocks = 0;
};
inline EmulatedCounts emulated_counts;

}  // namespace tmd::device
