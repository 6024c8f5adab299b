#pragma once

#include <ATen/core/Tensor.h>

namespace tmd::sharding {

/// to = from for tensors of equal size, in the type of `to`. Ranges of float32 and bfloat16 on a device go
/// through sharding/device_kernels.h, everything else through ATen.
void cast_into(const at::Tensor& to, const at::Tensor& from);

/// to += from on a device, in the type of `to`, without a copy of `from` in that type.
void add_on_device(const at::Tensor& to, const at::Tensor& from);

}  // namespace tmd::sharding
