// In the place of sharding/kernel_place.cpp in tests: what lies in memory of the host counts as on a device, whose
// kernels are
// those of the emulated grid.
#include "sharding/kernel_place.h"

namespace tmd::sharding {

bool is_on_device(const at::Tensor& tensor) { return !tensor.is_meta(); }
CUstream_st* stream_of(const at::Tensor&) { return nullptr; }

}  // namespace tmd::sharding
