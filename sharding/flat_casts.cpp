#include "sharding/flat_casts.h"

#include <ATen/ATen.h>

#include "sharding/device_kernels.h"
#include "sharding/kernel_place.h"

namespace tmd::sharding {
namespace {

// bfloat16 as the kernels spell it.
const Bfloat16* narrow(const at::Tensor& tensor) {
  return static_cast<const Bfloat16*>(tensor.const_data_ptr());
}
Bfloat16* narrow_out(const at::Tensor& tensor) { return static_cast<Bfloat16*>(tensor.data_ptr()); }

bool are(const at::Tensor& to, at::ScalarType to_type, const at::Tensor& from, at::ScalarType from_type) {
  return to.scalar_type() == to_type && from.scalar_type() == from_type && to.is_contiguous() &&
         from.is_contiguous() && to.numel() == from.numel();
}

}  // namespace

void cast_into(const at::Tensor& to, const at::Tensor& from) {
  if (is_on_device(to) && is_on_device(from)) {
    CUstream_st* stream = stream_of(to);
    if (are(to, at::kBFloat16, from, at::kFloat))
      return device::cast(from.const_data_ptr<float>(), narrow_out(to), to.numel(), stream);
    if (are(to, at::kFloat, from, at::kBFloat16))
      return device::cast(narrow(from), to.mutable_data_ptr<float>(), to.numel(), stream);
  }
  at::Tensor(to).copy_(from);
}

void add_on_device(const at::Tensor& to, const at::Tensor& from) {
  if (are(to, at::kFloat, from, at::kBFloat16))
    return device::add_cast(to.mutable_data_ptr<float>(), narrow(from), to.numel(), stream_of(to));
  at::Tensor(to).add_(from);
}

}  // namespace tmd::sharding
