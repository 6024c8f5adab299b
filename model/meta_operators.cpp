#include "model/meta_operators.h"

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

namespace tmd::model {
namespace {

using Three = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using OptionalTensor = std::optional<at::Tensor>;

at::Tensor optional_like(bool wanted, const at::Tensor& x, const OptionalTensor& shape_of) {
  if (!wanted) return {};
  return shape_of && shape_of->defined() ? at::empty_like(*shape_of) : at::empty({}, x.options());
}

at::Tensor contiguous_like(const at::Tensor& x) { return at::empty(x.sizes(), x.options()); }

// Statistics of narrow numbers are kept wide.
at::TensorOptions statistics_of(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? x.options().dtype(at::kFloat) : x.options();
}

Three layer_norm(const at::Tensor& input, at::IntArrayRef normalized, const OptionalTensor&,
                 const OptionalTensor&, double) {
  std::vector<int64_t> rows = input.sizes().vec();
  std::fill(rows.end() - static_cast<int64_t>(normalized.size()), rows.end(), 1);
  return {contiguous_like(input), at::empty(rows, statistics_of(input)),
          at::empty(rows, statistics_of(input))};
}

Three layer_norm_backward(const at::Tensor& gradient, const at::Tensor& input, at::IntArrayRef,
                          const at::Tensor&, const at::Tensor&, const OptionalTensor& weight,
                          const OptionalTensor& bias, std::array<bool, 3> wanted) {
  const at::Tensor contiguous = gradient.contiguous();
  return {wanted[0] ? contiguous_like(input) : at::Tensor(), optional_like(wanted[1], input, weight),
          optional_like(wanted[2], input, bias)};
}

Three group_norm(const at::Tensor& input, const OptionalTensor&, const OptionalTensor&, int64_t batch,
                 int64_t, int64_t, int64_t groups, double) {
  return {contiguous_like(input), at::empty({batch, groups}, statistics_of(input)),
          at::empty({batch, groups}, statistics_of(input))};
}

Three group_norm_backward(const at::Tensor& gradient, const at::Tensor& input, const at::Tensor&,
                          const at::Tensor&, const OptionalTensor& weight, int64_t, int64_t channels, int64_t,
                          int64_t, std::array<bool, 3> wanted) {
  const at::Tensor contiguous = gradient.contiguous();
  const auto per_channel = [&](bool is_wanted) {
    if (!is_wanted) return at::Tensor();
    return weight && weight->defined() ? at::empty_like(*weight) : at::empty({channels}, input.options());
  };
  return {wanted[0] ? contiguous_like(input) : at::Tensor(), per_channel(wanted[1]), per_channel(wanted[2])};
}

int64_t query_block(int64_t queries) { return queries >= 768 ? 256 : queries >= 192 ? 64 : 32; }

// Scores of one block of queries and keys for each thread, as the CPU's flash kernels hold them.
at::Tensor attention_scratch(const at::Tensor& q, const at::Tensor& k, int64_t arrays) {
  const int64_t queries = std::min(query_block(q.size(2)), q.size(2)),
                keys = std::min<int64_t>(512, k.size(2));
  const at::ScalarType type = q.scalar_type() == at::kBFloat16 ? at::kFloat : q.scalar_type();
  return at::empty({at::get_num_threads(), arrays * queries * keys + 2 * queries + queries * q.size(3)},
                   q.options().dtype(type));
}

// q, k, v [batch, heads, tokens, channels]; the result is such a view of [batch, tokens, heads, channels].
std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor&,
                                             double, bool, const OptionalTensor&, std::optional<double>) {
  const int64_t batch = q.size(0), heads = q.size(1), tokens = q.size(2), channels = q.size(3);
  at::Tensor out = at::empty({batch, tokens, heads, channels}, q.options()).transpose(1, 2);
  at::Tensor sums = at::empty({batch, tokens, heads}, statistics_of(q)).transpose(1, 2);
  attention_scratch(q, k, 1);
  return {std::move(out), std::move(sums)};
}

Three attention_backward(const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, const at::Tensor&, const at::Tensor&, double, bool,
                         const OptionalTensor&, std::optional<double>) {
  const at::Tensor contiguous = gradient.contiguous();
  const auto gradient_of = [](const at::Tensor& x) {  // laid out by tokens, as the result
    return at::empty({x.size(0), x.size(2), x.size(1), x.size(3)}, x.options()).transpose(1, 2);
  };
  Three result = {gradient_of(q), gradient_of(k), gradient_of(v)};
  attention_scratch(q, k, 2);
  return result;
}

// What the composite operator chooses on the host for attention without mask and dropout; of the meta device
// it knows nothing and would hold all scores.
at::Tensor composite_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const OptionalTensor&, double, bool is_causal, std::optional<double> scale,
                               bool) {
  return std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0, is_causal, {}, scale));
}

at::Tensor where(const at::Tensor& condition, const at::Tensor& a, const at::Tensor& b) {
  const auto shape = at::infer_size(condition.sizes(), at::infer_size(a.sizes(), b.sizes()));
  return at::empty(shape, a.options().dtype(at::result_type(a, b)));
}

at::Tensor elementwise(const at::Tensor& x) { return at::empty_like(x); }

at::Tensor index_select(const at::Tensor& x, int64_t axis, const at::Tensor& index) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[static_cast<size_t>(axis)] = index.numel();
  return at::empty(shape, x.options());
}

// float64 is convolved as a product with unfolded columns, in one piece for the whole batch.
at::Tensor unfolded(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& output) {
  const int64_t window = weight.numel() / weight.size(0);
  if (input.scalar_type() != at::kDouble || window == weight.size(1)) return {};
  return at::empty({input.size(0), window, output[0][0].numel()}, input.options());
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const OptionalTensor&,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool,
                       at::IntArrayRef, int64_t) {
  std::vector<int64_t> shape = {input.size(0), weight.size(0)};
  for (int64_t axis = 2; axis < input.dim(); ++axis) {
    const size_t i = static_cast<size_t>(axis - 2);
    const int64_t reach = dilation[i % dilation.size()] * (weight.size(axis) - 1) + 1;
    shape.push_back((input.size(axis) + 2 * padding[i % padding.size()] - reach) / stride[i % stride.size()] +
                    1);
  }
  at::Tensor output = at::empty(shape, input.options());
  unfolded(input, weight, output);
  return output;
}

Three convolution_backward(const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight,
                           at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, bool, at::IntArrayRef, int64_t,
                           std::array<bool, 3> wanted) {
  const at::Tensor contiguous = gradient.contiguous();
  unfolded(input, weight, gradient);
  return {wanted[0] ? contiguous_like(input) : at::Tensor(),
          wanted[1] ? at::empty_like(weight) : at::Tensor(),
          wanted[2] ? at::empty({weight.size(0)}, weight.options()) : at::Tensor()};
}

}  // namespace

void register_meta_operators() {
  static torch::Library library = [] {
    torch::Library meta(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    meta.impl("native_layer_norm", TORCH_FN(layer_norm));
    meta.impl("native_layer_norm_backward", TORCH_FN(layer_norm_backward));
    meta.impl("native_group_norm", TORCH_FN(group_norm));
    meta.impl("native_group_norm_backward", TORCH_FN(group_norm_backward));
    meta.impl("scaled_dot_product_attention", TORCH_FN(composite_attention));
    meta.impl("abs", TORCH_FN(elementwise));
    meta.impl("index_select", TORCH_FN(index_select));
    meta.impl("where.self", TORCH_FN(where));
    meta.impl("_scaled_dot_product_flash_attention_for_cpu", TORCH_FN(attention));
    meta.impl("_scaled_dot_product_flash_attention_for_cpu_backward", TORCH_FN(attention_backward));
    meta.impl("convolution_overrideable", TORCH_FN(convolution));
    meta.impl("convolution_backward_overrideable", TORCH_FN(convolution_backward));
    return meta;
  }();
  static torch::Library autograd = [] {
    torch::Library meta(torch::Library::IMPL, "aten", c10::DispatchKey::AutogradMeta, __FILE__, __LINE__);
    meta.impl("scaled_dot_product_attention", TORCH_FN(composite_attention));
    return meta;
  }();
  (void)library;
  (void)autograd;
}

}  // namespace tmd::model
