#pragma once

#include <cstdint>

#include "base/device_launch.h"
#include "base/portable_numbers.h"

namespace tmd::device {

/// out[i] = PhiloxStream::normal(i) of the stream with this key (PhiloxStream::philox_key), rounded to the
/// element type: the bits of PhiloxStream::fill_normal, whatever the alignment of `out`. `out` lies on the
/// current device; 0 <= n < 2^34. Stream: enqueues on `stream`. Throws kInternal as device::launch does.
void fill_normal(const portable::PhiloxKey& key, float* out, int64_t n, Stream stream);
void fill_normal(const portable::PhiloxKey& key, double* out, int64_t n, Stream stream);

}  // namespace tmd::device
