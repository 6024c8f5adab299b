#include "sharding/kernel_place.h"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace tmd::sharding {

bool is_on_device(const at::Tensor& tensor) { return tensor.is_cuda(); }

CUstream_st* stream_of(const at::Tensor& tensor) {
  if (!is_on_device(tensor)) return nullptr;
  const c10::Stream stream = c10::impl::VirtualGuardImpl(tensor.device().type()).getStream(tensor.device());
  return static_cast<CUstream_st*>(stream.native_handle());
}

}  // namespace tmd::sharding
