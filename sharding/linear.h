#pragma once

#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>

namespace tmd::sharding {

class GradientSink;

/// Where the gradients of a backward pass go while it runs; null before and after it.
struct SinkOfPass : torch::CustomClassHolder {
  GradientSink* sink = nullptr;
};
using SinkPtr = c10::intrusive_ptr<SinkOfPass>;

/// Sends the gradient of `param` (a leaf that wants one, parameter `index` of its unit) to the sink of the
/// pass as soon as it is there. Autograd's own result is a zero without memory. To be called before the
/// parameter is used.
void send_gradient(const at::Tensor& param, int index, const SinkPtr& pass);

/// x weight^T + bias over the last dimension, as at::linear: x [..., in], weight [out, in], bias [out] or
/// undefined, all of one type; the result is [..., out]. Where the gradient of `weight` is sent to a sink
/// (send_gradient) and is kept in its type, the backward pass multiplies straight into its place there: no
/// copy, no memory in between. In bfloat16 the product is cast on its way.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace tmd::sharding
