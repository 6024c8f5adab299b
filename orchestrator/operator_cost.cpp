#include "orchestrator/operator_cost.h"

#include <functional>
#include <map>
#include <string_view>

#include <ATen/ATen.h>

namespace tmd::orchestrator {
namespace {

using Inputs = c10::ArrayRef<const c10::IValue>;

double count_of(const at::Tensor& x) { return static_cast<double>(x.numel()); }

double bytes_of(const c10::IValue& value) {
  if (value.isTensor() && value.toTensor().defined()) {
    return count_of(value.toTensor()) * static_cast<double>(value.toTensor().element_size());
  }
  if (!value.isTensorList()) return 0;
  double bytes = 0;
  for (const at::Tensor& tensor : value.toTensorVector()) bytes += bytes_of(tensor);
  return bytes;
}

// [.., m, k] times [.., k, n]
double product(const at::Tensor& a, const at::Tensor& b) {
  return 2 * count_of(a) * static_cast<double>(b.size(-1));
}

double attention(const at::Tensor& q, const at::Tensor& k) {
  return 4 * count_of(q) * static_cast<double>(k.size(-2));
}

// Multiply-adds of a convolution with `places` results for each output channel.
double convolution(const at::Tensor& weight, double places) { return 2 * count_of(weight) * places; }

double places_of(const at::Tensor& map) { return count_of(map) / static_cast<double>(map.size(1)); }

// Of the result of aten::convolution, which an observer of its inputs does not see.
double places_of_result(Inputs in) {
  const at::Tensor &map = in[0].toTensor(), &weight = in[1].toTensor();
  const auto stride = in[3].toIntVector(), padding = in[4].toIntVector(), dilation = in[5].toIntVector();
  auto places = static_cast<double>(map.size(0));
  for (int64_t axis = 2; axis < map.dim(); ++axis) {
    const auto at_axis = [i = static_cast<size_t>(axis - 2)](const std::vector<int64_t>& values) {
      return values[i % values.size()];
    };
    const int64_t reach = at_axis(dilation) * (weight.size(axis) - 1);
    const int64_t starts = map.size(axis) + 2 * at_axis(padding) - reach;
    places *= static_cast<double>((starts - 1) / at_axis(stride) + 1);
  }
  return places;
}

using Rule = std::function<void(OperatorCost&, Inputs)>;

// What is read, and a result as large as the largest of it.
void move(OperatorCost& cost, Inputs in) {
  double sum = 0, largest = 0;
  for (const c10::IValue& value : in) {
    const double bytes = bytes_of(value);
    sum += bytes;
    largest = std::max(largest, bytes);
  }
  cost.moved_bytes += sum + largest;
}

std::map<std::string_view, Rule> make_rules() {
  std::map<std::string_view, Rule> rules;
  for (const char* name : {"aten::add",
                           "aten::add_",
                           "aten::sub",
                           "aten::rsub",
                           "aten::mul",
                           "aten::mul_",
                           "aten::div",
                           "aten::neg",
                           "aten::addcmul",
                           "aten::lerp",
                           "aten::rsqrt",
                           "aten::pow",
                           "aten::mean",
                           "aten::sum",
                           "aten::gelu",
                           "aten::silu",
                           "aten::sigmoid",
                           "aten::cat",
                           "aten::copy_",
                           "aten::zero_",
                           "aten::where",
                           "aten::abs",
                           "aten::clone",
                           "aten::softplus",
                           "aten::gelu_backward",
                           "aten::avg_pool3d",
                           "aten::leaky_relu",
                           "aten::native_layer_norm",
                           "aten::native_group_norm",
                           "aten::silu_backward",
                           "aten::leaky_relu_backward",
                           "aten::avg_pool3d_backward",
                           "aten::native_layer_norm_backward",
                           "aten::native_group_norm_backward"}) {
    rules[name] = move;
  }
  rules["aten::mm"] = rules["aten::bmm"] = [](OperatorCost& cost, Inputs in) {
    cost.product_flops += product(in[0].toTensor(), in[1].toTensor());
  };
  rules["aten::addmm"] = rules["aten::baddbmm"] = [](OperatorCost& cost, Inputs in) {
    cost.product_flops += product(in[1].toTensor(), in[2].toTensor());
  };
  rules["aten::_scaled_dot_product_flash_attention_for_cpu"] = [](OperatorCost& cost, Inputs in) {
    cost.attention_flops += attention(in[0].toTensor(), in[1].toTensor());
  };
  rules["aten::_scaled_dot_product_flash_attention_for_cpu_backward"] = [](OperatorCost& cost, Inputs in) {
    cost.attention_flops += 2.5 * attention(in[1].toTensor(), in[2].toTensor());
  };
  rules["aten::convolution"] = [](OperatorCost& cost, Inputs in) {
    cost.product_flops += convolution(in[1].toTensor(), places_of_result(in));
  };
  rules["aten::convolution_backward"] = [](OperatorCost& cost, Inputs in) {
    const auto wanted = in[10].toBoolList();
    const double passes = (wanted[0] ? 1 : 0) + (wanted[1] ? 1 : 0);
    cost.product_flops += passes * convolution(in[2].toTensor(), places_of(in[0].toTensor()));
  };
  return rules;
}

thread_local OperatorCost* counted = nullptr;

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
  static const std::map<std::string_view, Rule> rules = make_rules();
  const auto rule = rules.find(function.name());
  if (rule == rules.end() || !counted) return nullptr;
  ++counted->operators;
  rule->second(*counted, function.inputs());
  return nullptr;
}

}  // namespace

OperatorCost& OperatorCost::operator+=(const OperatorCost& other) {
  product_flops += other.product_flops;
  attention_flops += other.attention_flops;
  moved_bytes += other.moved_bytes;
  operators += other.operators;
  return *this;
}

OperatorCost OperatorCost::scaled(double factor) const {
  return {.product_flops = factor * product_flops,
          .attention_flops = factor * attention_flops,
          .moved_bytes = factor * moved_bytes,
          .operators = static_cast<int64_t>(factor * static_cast<double>(operators))};
}

CountOperators::CountOperators(OperatorCost& cost)
    : handle_(at::addThreadLocalCallback(
          at::RecordFunctionCallback(count).needsInputs(true).scopes({at::RecordScope::FUNCTION}))) {
  counted = &cost;
}

CountOperators::~CountOperators() {
  at::removeCallback(handle_);
  counted = nullptr;
}

}  // namespace tmd::orchestrator
