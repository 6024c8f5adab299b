#include "sharding/run_unit.h"

#include <algorithm>
#include <optional>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include "base/error.h"
#include "sharding/forward_mode.h"
#include "sharding/gradient_sink.h"
#include "sharding/linear.h"
#include "sharding/memory_counter.h"

namespace tmd::sharding {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What the backward pass needs besides the inputs; travels in the autograd context.
struct UnitCall : torch::CustomClassHolder {
  ShardedNetwork* network = nullptr;
  int unit = 0;
  bool weight_gradients = false;
  UnitFunction function;
  std::vector<bool> input_wants_gradient;
  SinkPtr sink = c10::make_intrusive<SinkOfPass>();
  bool has_graph = false;           // a backward pass may come
  Tensors inputs, params, outputs;  // of the graph that a kept unit holds until then

  const std::string& name() const { return network->spec(unit).name; }
};

using CallPtr = c10::intrusive_ptr<UnitCall>;

Tensors detached(const Tensors& tensors, const std::vector<bool>& wants_gradient) {
  Tensors result;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& tensor = tensors[i];
    result.push_back(tensor.defined() ? tensor.detach() : tensor);
    if (wants_gradient[i]) result.back().requires_grad_(true);
  }
  return result;
}

// The unit's own graph, from leaves that are detached from all others.
void build_graph(UnitCall& call, const Tensors& inputs, const Tensors& params) {
  const at::AutoGradMode enable_graph(true);
  call.inputs = detached(inputs, call.input_wants_gradient);
  call.params = detached(params, std::vector<bool>(params.size(), call.weight_gradients));
  for (size_t i = 0; call.weight_gradients && i < params.size(); ++i)
    send_gradient(call.params[i], static_cast<int>(i), call.sink);
  call.outputs = call.function(call.params, call.inputs);
}

// Ends the unit's own graph. Gradients of the inputs, undefined where none is wanted; those of the parameters
// go to the sink.
Tensors differentiate(UnitCall& call, const variable_list& output_grads) {
  const Tensors inputs = std::exchange(call.inputs, {}), params = std::exchange(call.params, {}),
                outputs = std::exchange(call.outputs, {});
  Tensors roots, root_grads, wanted;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].requires_grad()) continue;
    roots.push_back(outputs[i]);
    root_grads.push_back(output_grads[i]);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (call.input_wants_gradient[i]) wanted.push_back(inputs[i]);
  }
  if (call.weight_gradients) wanted.insert(wanted.end(), params.begin(), params.end());
  Tensors result(call.input_wants_gradient.size());
  if (roots.empty()) return result;  // a unit that this rank leaves to others
  const Tensors grads = torch::autograd::grad(roots, wanted, root_grads, /*retain_graph=*/std::nullopt,
                                              /*create_graph=*/false, /*allow_unused=*/true);
  auto next = grads.begin();
  for (size_t i = 0; i < result.size(); ++i) {
    if (call.input_wants_gradient[i]) result[i] = *next++;
  }
  return result;
}

Tensors gradients_of(UnitCall& call, AutogradContext& context, const variable_list& output_grads) {
  const MemoryTag tag(MemoryItem::kTemporaries);
  if (!call.outputs.empty()) return differentiate(call, output_grads);
  const ShardedNetwork::Gathered gathered = call.network->gather(call.unit);
  build_graph(call, context.get_saved_variables(), gathered.params);
  return differentiate(call, output_grads);
}

class RunUnit : public torch::autograd::Function<RunUnit> {
 public:
  // `anchor` requires gradients when the weights do: it makes autograd visit units whose inputs do not.
  static variable_list forward(AutogradContext* context, const CallPtr& call, const at::Tensor& anchor,
                               at::TensorList input_list) {
    (void)anchor;
    const variable_list inputs = input_list.vec();
    for (const at::Tensor& input : inputs) {
      call->input_wants_gradient.push_back(input.defined() && input.requires_grad());
    }
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    const MemoryPlace place(call->network->name(), call->name(), /*backward=*/false);
    const ShardedNetwork::Gathered gathered = call->network->gather(call->unit);
    if (call->has_graph && call->network->keeps(call->unit)) {
      build_graph(*call, inputs, gathered.params);
      return detached(call->outputs, std::vector<bool>(call->outputs.size(), false));
    }
    context->save_for_backward(inputs);
    const MemoryTag tag(MemoryItem::kTemporaries);
    Tensors outputs = call->function(gathered.params, inputs);
    for (const at::Tensor& output : outputs) count_as(output, MemoryItem::kActivations);
    return outputs;
  }

  static variable_list backward(AutogradContext* context, const variable_list& output_grads) {
    const auto call = c10::static_intrusive_pointer_cast<UnitCall>(context->saved_data["call"].toCapsule());
    const MemoryPlace place(call->network->name(), call->name(), /*backward=*/true);
    std::optional<GradientSink> sink;
    if (call->weight_gradients) call->sink->sink = &sink.emplace(*call->network, call->unit);
    const Tensors grads = gradients_of(*call, *context, output_grads);
    call->sink->sink = nullptr;
    if (sink) sink->finish();
    variable_list result = {at::Tensor(), at::Tensor()};  // the call, the anchor
    result.insert(result.end(), grads.begin(), grads.end());
    return result;
  }
};

// Tangents ride along through the function itself; there is no backward pass.
Tensors run_forward_mode(ShardedNetwork& network, int unit, const UnitFunction& function,
                         const Tensors& inputs) {
  ensure(!at::GradMode::is_enabled() && network.mesh().sample_group().size() == 1,
         "forward-mode differentiation has no graph, and no sample that ranks share");
  const MemoryPlace place(network.name(), network.spec(unit).name, /*backward=*/false);
  const ShardedNetwork::Gathered gathered = network.gather(unit);
  const MemoryTag tag(MemoryItem::kTemporaries);
  return function(gathered.params, inputs);
}

}  // namespace

Tensors run_unit(ShardedNetwork& network, int unit, bool weight_gradients, UnitFunction function,
                 const Tensors& inputs) {
  if (carries_tangent(inputs)) return run_forward_mode(network, unit, function, inputs);
  auto call = c10::make_intrusive<UnitCall>();
  call->network = &network;
  call->unit = unit;
  call->weight_gradients = weight_gradients;
  call->function = std::move(function);
  const auto wants_gradient = [](const at::Tensor& x) { return x.defined() && x.requires_grad(); };
  call->has_graph = at::GradMode::is_enabled() &&
                    (weight_gradients || std::any_of(inputs.begin(), inputs.end(), wants_gradient));
  const at::Tensor anchor = at::zeros({}, at::kFloat).set_requires_grad(weight_gradients);
  return RunUnit::apply(call, anchor, at::TensorList(inputs));  // a vector would not be seen as tensors
}

}  // namespace tmd::sharding
