#pragma once

#include <ATen/core/Tensor.h>

struct CUstream_st;

namespace tmd::sharding {

/// Whether work on `tensor` belongs on the stream of a device; else it is done by threads of the host.
bool is_on_device(const at::Tensor& tensor);

/// The stream on which ATen puts this thread's work with `tensor`; null where is_on_device is false.
CUstream_st* stream_of(const at::Tensor& tensor);

}  // namespace tmd::sharding
