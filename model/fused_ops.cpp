#include "model/fused_ops.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"
#include "model/fused_rows.h"
#include "model/plain_ops.h"
#include "sharding/forward_mode.h"

namespace tmd::model {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// x, y [B, N, D]; gate [B, 1, D], or undefined for 1.
class GatedSum : public Function<GatedSum> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in, const at::Tensor& y_in,
                            const std::optional<at::Tensor>& gate_in) {
    const at::Tensor x = x_in.contiguous(), y = y_in.contiguous();
    const at::Tensor gate = gate_in ? gate_in->contiguous() : at::Tensor();
    const at::Tensor sum = at::empty_like(x);
    GateCall call = call_of(x.scalar_type(), y, gate);
    call.x = x.const_data_ptr();
    call.y = sum.mutable_data_ptr();
    TokenKernels(x).gate_forward(call);
    // y is kept for the gradient of the gate alone
    const bool gate_learns = gate_in && gate_in->requires_grad();
    context->save_for_backward({gate, gate_learns ? y : at::Tensor()});
    context->saved_data["type"] = static_cast<int64_t>(y.scalar_type());
    return sum;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &y = saved[1];
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    variable_list result = {gradients[0], at::Tensor(), at::Tensor()};
    const bool wants_y = context->needs_input_grad(1);
    if (!gate.defined()) {
      if (wants_y) result[1] = gradients[0].to(type);
      return result;
    }
    const bool wants_gate = context->needs_input_grad(2);
    if (!wants_y && !wants_gate) return result;
    const at::Tensor dsum = gradients[0].contiguous();
    const TokenKernels kernels(dsum);
    if (wants_y) result[1] = empty_beside(dsum, dsum.sizes(), type);
    GateCall call = call_of(dsum.scalar_type(), y.defined() ? y : result[1], gate);
    call.y_gradient = dsum.const_data_ptr();
    if (wants_y) call.branch_gradient = result[1].mutable_data_ptr();
    const at::Tensor columns = wants_gate ? kernels.columns(dsum.size(2)) : at::Tensor();
    kernels.gate_backward(call, columns);
    if (wants_gate) result[2] = kernels.sum(columns, /*by_sample=*/true).view(gate.sizes());
    return result;
  }

 private:
  static GateCall call_of(at::ScalarType x_type, const at::Tensor& y, const at::Tensor& gate) {
    return {.x_type = element_of(x_type),
            .branch_type = element_of(y.scalar_type()),
            .width = y.size(2),
            .tokens = y.size(1),
            .gate = gate.defined() ? gate.const_data_ptr() : nullptr,
            .sample_stride = y.size(2),
            .branch = y.const_data_ptr()};
  }
};

class Gelu : public Function<Gelu> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in) {
    const at::Tensor x = x_in.contiguous(), y = at::empty_like(x);
    model::gelu_forward(x, y);
    context->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor x = context->get_saved_variables()[0], dy = gradients[0].contiguous();
    const at::Tensor dx = at::empty_like(x);
    model::gelu_backward(x, dy, dx);
    return {dx};
  }
};

void check_sum(const at::Tensor& x, const at::Tensor& y) {
  ensure(x.sizes() == y.sizes() && compute_type(x.scalar_type()) == compute_type(y.scalar_type()),
         "a residual and its branch fit");
}

}  // namespace

at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate) {
  if (sharding::carries_tangent({x, y, gate})) return plain::add_gated(x, y, gate);
  check_operands(x, {y, gate});
  check_sum(x, y);
  ensure(gate.scalar_type() == compute_type(x.scalar_type()) && gate.numel() == x.size(0) * x.size(2),
         "a gate is wide and fits its branch");
  return GatedSum::apply(x, y, std::optional(gate));
}

at::Tensor add_wide(const at::Tensor& x, const at::Tensor& y) {
  if (sharding::carries_tangent({x, y})) return (wide(x) + wide(y)).to(x.scalar_type());
  check_operands(x, {y});
  check_sum(x, y);
  return x.scalar_type() == y.scalar_type() ? x + y : GatedSum::apply(x, y, std::optional<at::Tensor>());
}

at::Tensor gelu_tanh(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble || sharding::carries_tangent({x}) ? at::gelu(x, "tanh")
                                                                          : Gelu::apply(x);
}

}  // namespace tmd::model
