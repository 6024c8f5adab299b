#include "sharding/linear.h"

#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "sharding/gradient_sink.h"

namespace tmd::sharding {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Destination : torch::CustomClassHolder {
  SinkPtr pass;
  int index = 0;
};
using DestinationPtr = c10::intrusive_ptr<Destination>;

// Rides on the tensor, so that a function of it needs no other argument.
struct Mark : c10::BackendMeta {
  DestinationPtr destination;
};

DestinationPtr destination_of(const at::Tensor& weight) {
  const auto* mark = dynamic_cast<Mark*>(weight.unsafeGetTensorImpl()->get_backend_meta());
  return mark ? mark->destination : nullptr;
}

at::Tensor plain_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
}

class LinearIntoSink : public torch::autograd::Function<LinearIntoSink> {
 public:
  // `inputs`: x, weight and perhaps the bias.
  static at::Tensor forward(AutogradContext* context, const DestinationPtr& destination,
                            at::TensorList inputs) {
    context->saved_data["destination"] = c10::IValue::make_capsule(destination);
    context->saved_data["has_bias"] = inputs.size() > 2;
    context->save_for_backward({inputs[0], inputs[1]});
    return plain_linear(inputs[0], inputs[1], inputs.size() > 2 ? inputs[2] : at::Tensor());
  }

  static variable_list backward(AutogradContext* context, const variable_list& output_grads) {
    const auto destination =
        c10::static_intrusive_pointer_cast<Destination>(context->saved_data["destination"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const at::Tensor grads = output_grads[0].reshape({-1, weight.size(0)});
    if (context->needs_input_grad(1)) {
      const GradientSink::Place place = destination->pass->sink->place(destination->index);
      at::Tensor gradient = place.gradient;
      const at::Tensor rows = x.reshape({-1, x.size(-1)});
      if (place.adds) {
        at::addmm_out(gradient, gradient, grads.t(), rows);
      } else {
        at::mm_out(gradient, grads.t(), rows);
      }
    }
    variable_list result = {at::Tensor(), at::Tensor(), at::Tensor()};  // the first is the destination's
    if (context->needs_input_grad(0)) result[1] = grads.mm(weight).view(x.sizes());
    if (!context->saved_data["has_bias"].toBool()) return result;
    result.push_back(context->needs_input_grad(2) ? grads.sum(0) : at::Tensor());
    return result;
  }
};

}  // namespace

void send_gradient(const at::Tensor& param, int index, const SinkPtr& pass) {
  auto mark = c10::make_intrusive<Mark>();
  mark->destination = c10::make_intrusive<Destination>();
  mark->destination->pass = pass;
  mark->destination->index = index;
  param.unsafeGetTensorImpl()->set_backend_meta(std::move(mark));
  // A hook must return the gradient's shape.
  const at::Tensor stand_in = at::zeros({}, param.options().requires_grad(false)).expand(param.sizes());
  param.register_hook([index, pass, stand_in](const at::Tensor& gradient) {
    if (!gradient.defined()) return gradient;
    pass->sink->put(index, gradient);
    return stand_in;
  });
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const bool has_graph = at::GradMode::is_enabled() && weight.requires_grad();
  const DestinationPtr destination = has_graph ? destination_of(weight) : nullptr;
  // Gradients are kept in float32 or wider; products of other types are cast on the way (GradientSink::put).
  const bool is_kept_type = weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kDouble;
  if (!destination || !is_kept_type) return plain_linear(x, weight, bias);
  std::vector<at::Tensor> inputs = {x, weight};
  if (bias.defined()) inputs.push_back(bias);
  return LinearIntoSink::apply(destination, at::TensorList(inputs));
}

}  // namespace tmd::sharding
