#pragma once

#include <cstdint>

#include "base/bfloat16.h"

// Loops over flat shards for sharding/adamw.h, free of torch. Each instruction set's build gives the same
// bits.

namespace tmd::sharding {

/// One step's numbers for a range of elements that share them.
struct AdamWFactors {
  double gradient_scale;
  double beta1, beta2, epsilon;
  double decay;         ///< 1 - lr * weight_decay
  double step_size;     ///< lr / (1 - beta1^t)
  double second_scale;  ///< 1 / sqrt(1 - beta2^t)
  double average_decay;
};

/// The range: n elements of float64 or float32 each.
struct AdamWRange {
  bool is_double;
  int64_t n;
  void *weight, *first, *second;
  const void* gradient;
  void* average;             ///< null: none is kept
  Bfloat16* copy = nullptr;  ///< [n]: receives the new weights rounded; null: none
};

/// A range with its numbers.
struct AdamWSegment {
  AdamWRange range;
  AdamWFactors factors;
};

struct AdamWKernels {
  void (*step)(const AdamWRange& range, const AdamWFactors& factors);
  /// Added in float64, in eight sums that meet at the end.
  double (*sum_of_squares)(bool is_double, const void* x, int64_t n);
};

namespace plain {
extern const AdamWKernels kAdamWKernels;
}
namespace avx2 {
extern const AdamWKernels kAdamWKernels;
}
namespace avx512 {
extern const AdamWKernels kAdamWKernels;
}

}  // namespace tmd::sharding
