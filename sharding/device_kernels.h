#pragma once

#include <cstdint>

#include "base/bfloat16.h"
#include "base/device_launch.h"
#include "sharding/adamw_kernels.h"

// What the engine does to flat shards on a device, free of torch; the loops of sharding/adamw_kernels.h and
// of the casts around a gather. Pointers lie on the current device. Each is aligned to its elements, and may
// lie anywhere beyond that: where all that a function is given lies on 16 bytes, or off by the same number of
// elements, it travels 16 bytes at a time. Neither alignment nor the device's schedule changes a bit of a
// result.
//
// Stream: all enqueue on `stream`. Throws kInternal as device::launch does.

namespace tmd::sharding::device {

using tmd::device::Stream;

/// AdamWKernels::step for `count` segments of one type in one pass over memory, 16 segments a launch; the
/// same bits. `segments` is host memory and free again on return. No two segments overlap.
void adamw_step(const AdamWSegment* segments, int64_t count, Stream stream);

/// Elements whose squares become one partial sum.
constexpr int64_t kSquaresPerPartial = 8192;
/// Partial sums of n elements.
constexpr int64_t square_partials(int64_t n) { return tmd::device::blocks_for(n, kSquaresPerPartial); }

/// partials[i] = sum of the squares of elements i kSquaresPerPartial ... of x, n of float64 or float32, in
/// float64. `partials` has square_partials(n) elements.
void sum_of_squares(bool is_double, const void* x, int64_t n, double* partials, Stream stream);

/// *total = sum of n numbers, added in an order that n alone fixes; 0 if n is 0. `x` and `total` do not
/// overlap.
void sum(const double* x, int64_t n, double* total, Stream stream);

/// to[i] = from[i], to the nearest, ties to even; NaN becomes 0x7fc0. The ranges do not overlap.
void cast(const float* from, Bfloat16* to, int64_t n, Stream stream);
/// to[i] = from[i], exactly.
void cast(const Bfloat16* from, float* to, int64_t n, Stream stream);

/// target[i] += values[i] in float32.
void add_cast(float* target, const Bfloat16* values, int64_t n, Stream stream);

}  // namespace tmd::sharding::device
