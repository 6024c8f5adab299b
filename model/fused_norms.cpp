#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include "base/error.h"
#include "model/fused_ops.h"
#include "model/fused_rows.h"
#include "model/plain_ops.h"
#include "sharding/forward_mode.h"

namespace tmd::model {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// x [B, N, D]; scale and shift [B, 1, D] or [D]; `one` is added to the scale.
class LayerNorm : public Function<LayerNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in, const at::Tensor& scale_in,
                            const at::Tensor& shift_in, double one, double epsilon, at::ScalarType type) {
    const at::Tensor x = x_in.contiguous(), scale = scale_in.contiguous(), shift = shift_in.contiguous();
    const at::ScalarType wide = compute_type(x.scalar_type());
    const at::Tensor y = empty_beside(x, x.sizes(), type);
    const at::Tensor mean = empty_beside(x, {x.size(0), x.size(1)}, wide), deviation = at::empty_like(mean);
    NormCall call = call_of(x, scale, mean, deviation, one, type);
    call.epsilon = epsilon;
    call.shift = shift.const_data_ptr();
    call.y = y.mutable_data_ptr();
    TokenKernels(x).norm_forward(call);
    context->save_for_backward({x, scale, mean, deviation});
    context->saved_data["one"] = one;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &scale = saved[1], dy = gradients[0].contiguous();
    const bool wants_x = context->needs_input_grad(0);
    const bool wants_scale = context->needs_input_grad(1), wants_shift = context->needs_input_grad(2);
    const int64_t width = x.size(2);
    const TokenKernels kernels(x);
    const at::Tensor dx = wants_x ? at::empty_like(x) : at::Tensor();
    const at::Tensor columns = wants_scale || wants_shift ? kernels.columns(2 * width) : at::Tensor();
    NormCall call =
        call_of(x, scale, saved[2], saved[3], context->saved_data["one"].toDouble(), dy.scalar_type());
    call.y_gradient = dy.const_data_ptr();
    if (wants_x) call.x_gradient = dx.mutable_data_ptr();
    kernels.norm_backward(call, columns);
    variable_list result(6);
    result[0] = dx;
    if (!columns.defined()) return result;
    const at::Tensor sums = kernels.sum(columns, /*by_sample=*/scale.dim() == 3);
    if (wants_scale) result[1] = sums.narrow(1, 0, width).reshape(scale.sizes());
    if (wants_shift) result[2] = sums.narrow(1, width, width).reshape(scale.sizes());
    return result;
  }

 private:
  static NormCall call_of(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& mean,
                          const at::Tensor& deviation, double one, at::ScalarType y_type) {
    return {.x_type = element_of(x.scalar_type()),
            .y_type = element_of(y_type),
            .width = x.size(2),
            .tokens = x.size(1),
            .x = x.const_data_ptr(),
            .scale = scale.const_data_ptr(),
            .sample_stride = scale.dim() == 3 ? x.size(2) : 0,
            .one = one,
            .mean = mean.mutable_data_ptr(),
            .deviation = deviation.mutable_data_ptr()};
  }
};

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift, double one,
                      double epsilon, at::ScalarType type) {
  check_operands(x, {scale, shift});
  const at::ScalarType wide = compute_type(x.scalar_type());
  ensure(scale.scalar_type() == wide && shift.scalar_type() == wide && compute_type(type) == wide,
         "weights and modulations of a norm are wide");
  ensure(scale.sizes() == shift.sizes() && scale.numel() == x.size(2) * (scale.dim() == 3 ? x.size(0) : 1),
         "weights and modulations of a norm fit its input");
  return LayerNorm::apply(x, scale, shift, one, epsilon, type);
}

struct RmsSettings : torch::CustomClassHolder {
  explicit RmsSettings(const RmsNormOptions& o) : options(o) {}
  const RmsNormOptions options;
};
using RmsSettingsPtr = c10::intrusive_ptr<RmsSettings>;

// Inputs x_i [B, N_i, D] with weights [D], rotations [N_i, head_dim] or undefined. What is summed over a row
// lies in one tensor for all of them, one behind the other.
class RmsNorms : public Function<RmsNorms> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList xs, at::TensorList weights,
                               const std::optional<at::Tensor>& angles, const RmsSettingsPtr& settings) {
    const RmsNormOptions& options = settings->options;
    const at::Tensor rotations = angles.value_or(at::Tensor());
    int64_t row = 0;
    for (const at::Tensor& x : xs) row += x.size(0) * x.size(1);
    at::Tensor sums = empty_beside(xs[0], {row}, compute_type(xs[0].scalar_type()));
    variable_list saved, results;
    std::vector<Pass> passes;
    row = 0;
    for (size_t i = 0; i < xs.size(); ++i) {
      const at::Tensor x = xs[i].contiguous();
      at::Tensor weight = weights[i].contiguous();
      if (options.stream == at::kBFloat16) weight = weight.to(at::kBFloat16).to(weight.scalar_type());
      results.push_back(empty_beside(x, x.sizes(), options.type));
      const int64_t rows = x.size(0) * x.size(1);
      RmsCall call = call_of(x, weight, rotations, sums.narrow(0, row, rows), options, options.type);
      call.y = results.back().mutable_data_ptr();
      passes.push_back({TokenKernels(x), call});
      saved.insert(saved.end(), {x, weight});
      row += rows;
    }
    in_two_halves(
        passes, [](const Pass& p, RmsHalves halves) { p.kernels.rms_forward(p.call, halves); },
        options.sum_over_ranks, sums);
    saved.insert(saved.end(), {rotations, sums});
    context->save_for_backward(saved);
    context->saved_data["settings"] = c10::IValue::make_capsule(settings);
    return results;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto settings =
        c10::static_intrusive_pointer_cast<RmsSettings>(context->saved_data["settings"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const size_t count = gradients.size();
    const at::Tensor &rotations = saved[2 * count], &sums = saved[2 * count + 1];
    at::Tensor products = at::zeros_like(sums);  // zero where no gradient is wanted
    variable_list result(2 * count + 2), dys;
    std::vector<Pass> passes;
    bool wants_x = false;
    int64_t row = 0;
    for (size_t i = 0; i < count; ++i) {
      const at::Tensor& x = saved[2 * i];
      const int64_t rows = x.size(0) * x.size(1);
      dys.push_back(gradients[i].contiguous());
      RmsCall call = call_of(x, saved[2 * i + 1], rotations, sums.narrow(0, row, rows), settings->options,
                             dys[i].scalar_type());
      call.y_gradient = dys[i].const_data_ptr();
      if (context->needs_input_grad(i)) {
        wants_x = true;
        result[i] = at::empty_like(x);
        call.products = products.narrow(0, row, rows).mutable_data_ptr();
        call.x_gradient = result[i].mutable_data_ptr();
      }
      const TokenKernels kernels(x);
      const bool wants_weight = context->needs_input_grad(count + i);
      passes.push_back({kernels, call, wants_weight ? kernels.columns(x.size(2)) : at::Tensor()});
      row += rows;
    }
    in_two_halves(
        passes, [](const Pass& p, RmsHalves halves) { p.kernels.rms_backward(p.call, halves, p.columns); },
        wants_x ? settings->options.sum_over_ranks : nullptr, products);
    for (size_t i = 0; i < count; ++i) {
      if (!passes[i].columns.defined()) continue;
      result[count + i] =
          passes[i].kernels.sum(passes[i].columns, /*by_sample=*/false).view(saved[2 * i + 1].sizes());
    }
    return result;
  }

 private:
  struct Pass {
    TokenKernels kernels;
    RmsCall call;
    at::Tensor columns = {};
  };
  using Work = void (*)(const Pass&, RmsHalves);

  // With sums over ranks in between, half by half.
  static void in_two_halves(const std::vector<Pass>& passes, Work work, const SumOverRanks& sum_over_ranks,
                            at::Tensor& sums) {
    const auto run = [&](RmsHalves halves) {
      for (const Pass& pass : passes) work(pass, halves);
    };
    if (!sum_over_ranks) return run(RmsHalves::kBoth);
    run(RmsHalves::kSum);
    sum_over_ranks(sums);
    run(RmsHalves::kFinish);
  }

  static RmsCall call_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rotations,
                         const at::Tensor& sums, const RmsNormOptions& options, at::ScalarType y_type) {
    return {.x_type = element_of(x.scalar_type()),
            .y_type = element_of(y_type),
            .rounds = options.stream == at::kBFloat16,
            .width = x.size(2),
            .tokens = x.size(1),
            .head_dim = rotations.defined() ? rotations.size(1) : 0,
            .x = x.const_data_ptr(),
            .weight = weight.const_data_ptr(),
            .rotations = rotations.defined() ? rotations.const_data_ptr() : nullptr,
            .sums = sums.mutable_data_ptr(),
            .full_width = static_cast<double>(options.full_width > 0 ? options.full_width : x.size(2)),
            .epsilon = options.epsilon};
  }
};

std::vector<at::Tensor> rms_norm_with(const std::vector<RmsInput>& inputs,
                                      const std::optional<at::Tensor>& rotations,
                                      const RmsNormOptions& options) {
  std::vector<at::Tensor> xs, weights;
  for (const RmsInput& input : inputs) {
    const auto& [x, weight] = input;
    ensure(!x._fw_grad(0).defined(), "norms of queries and keys carry tangents together");
    check_operands(x, {weight, rotations.value_or(at::Tensor())});
    const at::ScalarType wide = compute_type(x.scalar_type());
    ensure(weight.scalar_type() == wide && compute_type(options.type) == wide &&
               (options.stream == at::kBFloat16 ? wide == at::kFloat : options.stream == wide) &&
               wide == compute_type(inputs[0].x.scalar_type()),
           "the weight of a norm is wide");
    ensure(weight.dim() == 1 && weight.size(0) == x.size(2), "the weight of a norm fits its input");
    xs.push_back(x);
    weights.push_back(weight);
  }
  return RmsNorms::apply(at::TensorList(xs), at::TensorList(weights), rotations,
                         c10::make_intrusive<RmsSettings>(options));
}

bool any_tangent(const std::vector<RmsInput>& inputs) {
  return std::ranges::any_of(inputs,
                             [](const RmsInput& input) { return sharding::carries_tangent({input.x}); });
}

std::vector<at::Tensor> plain_rms_norms(const std::vector<RmsInput>& inputs, const RmsNormOptions& options) {
  ensure(!options.sum_over_ranks, "forward-mode differentiation is for ranks that have all channels");
  std::vector<at::Tensor> results;
  for (const RmsInput& input : inputs)
    results.push_back(
        plain::rms_norm(input.x, input.weight, options.epsilon, options.stream).to(options.type));
  return results;
}

}  // namespace

at::Tensor modulated_norm(const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                          double epsilon, at::ScalarType type) {
  if (sharding::carries_tangent({x, shift, scale}))
    return plain::modulated_norm(x, shift, scale, epsilon).to(type);
  return layer_norm(x, scale, shift, /*one=*/1, epsilon, type);
}

at::Tensor affine_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
                       at::ScalarType type) {
  if (sharding::carries_tangent({x})) return plain::affine_norm(x, weight, bias, epsilon).to(type);
  return layer_norm(x, weight, bias, /*one=*/0, epsilon, type);
}

std::vector<at::Tensor> rms_norm(const std::vector<RmsInput>& inputs, const RmsNormOptions& options) {
  if (any_tangent(inputs)) return plain_rms_norms(inputs, options);
  return rms_norm_with(inputs, std::nullopt, options);
}

std::vector<at::Tensor> rms_norm_rope(const std::vector<RmsInput>& inputs, const at::Tensor& rotations,
                                      const RmsNormOptions& options) {
  if (any_tangent(inputs)) {
    std::vector<at::Tensor> results = plain_rms_norms(inputs, options);
    for (at::Tensor& x : results) {
      const int64_t head_dim = 2 * rotations.size(1);
      const at::Tensor heads = x.view({x.size(0), x.size(1), x.size(2) / head_dim, head_dim});
      x = plain::apply_rope(heads, rotations).flatten(2).to(options.type);
    }
    return results;
  }
  const at::Tensor angles = at::view_as_real(rotations.contiguous()).flatten(1);  // cosine, sine, cosine, ...
  const int64_t head_dim = angles.size(1);
  for (const RmsInput& input : inputs) {
    const at::Tensor& x = input.x;
    ensure(angles.size(0) == x.size(1) && x.size(2) % head_dim == 0 && head_dim <= kMaxHeadDim,
           "rotations fit the tokens and the heads");
    ensure(angles.scalar_type() == compute_type(x.scalar_type()), "rotations are wide");
  }
  return rms_norm_with(inputs, angles, options);
}

}  // namespace tmd::model
