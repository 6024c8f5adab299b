#include "method/draws.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "base/philox_device.h"

namespace tmd::method {
namespace {

PhiloxStream stream(const DrawKey& key, int64_t row, Purpose purpose) {
  return PhiloxStream(key.seed, key.iteration, static_cast<uint64_t>(key.slots[static_cast<size_t>(row)]),
                      purpose);
}

// On which ATen puts this thread's work with the device.
device::Stream stream_of(at::Device device) {
  const c10::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  return static_cast<device::Stream>(stream.native_handle());
}

at::Tensor normal_like(const DrawKey& key, Purpose purpose, const at::Tensor& x) {
  return draw_normal(key, purpose, x.sizes().slice(1), x.options());
}

at::Tensor keep_mask_like(const DrawKey& key, Purpose purpose, int head, const DropoutShape& dropout,
                          const at::Tensor& x) {
  return draw_keep_mask(key, purpose, head, dropout.hidden, dropout.dropout, x.scalar_type()).to(x.device());
}

}  // namespace

at::Tensor draw_normal(const DrawKey& key, Purpose purpose, at::IntArrayRef shape,
                       const at::TensorOptions& options) {
  std::vector<int64_t> full = {key.rows()};
  full.insert(full.end(), shape.begin(), shape.end());
  at::Tensor out = at::empty(full, options);
  if (out.numel() == 0 || out.is_meta()) return out;
  const int64_t row_elements = out.numel() / key.rows();
  AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "draw_normal", [&] {
    scalar_t* data = out.data_ptr<scalar_t>();
    for (int64_t row = 0; row < key.rows(); ++row) {
      const PhiloxStream numbers = stream(key, row, purpose);
      scalar_t* begin = data + row * row_elements;
      if (out.is_cpu()) {
        numbers.fill_normal(std::span<scalar_t>(begin, static_cast<size_t>(row_elements)));
      } else {
        device::fill_normal(numbers.philox_key(), begin, row_elements, stream_of(out.device()));
      }
    }
  });
  return out;
}

at::Tensor draw_uniform(const DrawKey& key, Purpose purpose, double low, double high) {
  at::Tensor out = at::empty({key.rows()}, at::kDouble);
  for (int64_t row = 0; row < key.rows(); ++row) {
    out.data_ptr<double>()[row] = low + (high - low) * stream(key, row, purpose).uniform(0);
  }
  return out;
}

at::Tensor draw_bernoulli(const DrawKey& key, Purpose purpose, double p) {
  return draw_uniform(key, purpose, 0, 1) < p;
}

at::Tensor draw_index(const DrawKey& key, Purpose purpose, int64_t n) {
  at::Tensor out = at::empty({key.rows()}, at::kLong);
  for (int64_t row = 0; row < key.rows(); ++row) {
    out.data_ptr<int64_t>()[row] =
        1 + static_cast<int64_t>(stream(key, row, purpose).below(0, static_cast<uint64_t>(n)));
  }
  return out;
}

at::Tensor draw_keep_mask(const DrawKey& key, Purpose purpose, int head, int64_t width, double dropout,
                          at::ScalarType type) {
  at::Tensor out = at::empty({key.rows(), width}, at::kDouble);
  for (int64_t row = 0; row < key.rows(); ++row) {
    const PhiloxStream numbers = stream(key, row, purpose);
    for (int64_t i = 0; i < width; ++i) {
      const double u = numbers.uniform(static_cast<uint64_t>(head * width + i));
      out.data_ptr<double>()[row * width + i] = u < dropout ? 0 : 1;
    }
  }
  return out.to(type);
}

TeacherDraws draw_teacher(const DrawKey& key, const at::Tensor& x, const TeacherOptions& options,
                          double condition_drop) {
  return {.noise = normal_like(key, Purpose::kOuterNoise, x),
          .t_uniform = draw_uniform(key, Purpose::kOuterTime, options.t_low, options.t_high),
          .drop_condition = draw_bernoulli(key, Purpose::kConditionDrop, condition_drop)};
}

Stage1Draws draw_stage1(const DrawKey& key, const at::Tensor& x, const Stage1Options& options,
                        const DrawShares& shares) {
  const bool is_continuous = options.interval == Interval::kContinuous;
  return {
      .x_1 = normal_like(key, Purpose::kOuterNoise, x),
      .y_1 = normal_like(key, Purpose::kInnerNoise, x),
      .outer_index = draw_index(key, Purpose::kOuterTime, static_cast<int64_t>(options.grid_t.size()) - 1),
      .s_uniform = draw_uniform(key, Purpose::kInnerTime, options.s_low, options.s_high),
      .flow_matching = draw_bernoulli(key, Purpose::kFlowMatching, shares.flow_matching),
      .drop_condition = draw_bernoulli(key, Purpose::kConditionDrop, shares.condition_drop),
      .r_uniform = is_continuous ? draw_uniform(key, Purpose::kInnerEnd, options.s_low, options.s_high)
                                 : at::Tensor()};
}

namespace {

// The noise of `steps` outer steps of a simulation, behind each other in one stream.
std::vector<at::Tensor> normal_of_steps(const DrawKey& key, Purpose purpose, int64_t steps,
                                        const at::Tensor& x) {
  std::vector<int64_t> shape = x.sizes().slice(1).vec();
  shape.insert(shape.begin(), steps);
  const at::Tensor all = draw_normal(key, purpose, shape, x.options());
  std::vector<at::Tensor> of_steps;
  for (int64_t k = 0; k < steps; ++k) of_steps.push_back(all.select(1, k).contiguous());
  return of_steps;
}

}  // namespace

Stage2Draws draw_stage2(const DrawKey& key, const at::Tensor& x, const Stage2Options& options,
                        const DropoutShape& dropout) {
  Stage2Draws draws{
      .x_1 = normal_like(key, Purpose::kOuterNoise, x),
      .y_1 = normal_like(key, Purpose::kInnerNoise, x),
      .epsilon = normal_like(key, Purpose::kDiffusionNoise, x),
      .outer_index = draw_index(key, Purpose::kOuterTime, static_cast<int64_t>(options.grid_t.size()) - 1),
      .td_uniform = draw_uniform(key, Purpose::kDiffusionTime, options.td_low, options.td_high),
      .keep_fake = {},
      .keep_real = {},
      .r1_noise = {},
      .inner_index = {},
      .td_real = {},
      .epsilon_real = {},
      .y_1_before = {},
      .epsilon_before = {}};
  for (int head = 0; head < dropout.heads; ++head) {
    draws.keep_fake.push_back(keep_mask_like(key, Purpose::kDropoutFake, head, dropout, x));
    draws.keep_real.push_back(keep_mask_like(key, Purpose::kDropoutReal, head, dropout, x));
  }
  const int64_t simulated = static_cast<int64_t>(options.grid_t.size()) - 2;
  if (options.input == OuterInput::kSimulation && simulated > 0) {
    draws.y_1_before = normal_of_steps(key, Purpose::kSimulationInner, simulated, x);
    if (options.outer_step == OuterStep::kRenoise)
      draws.epsilon_before = normal_of_steps(key, Purpose::kSimulationRenewal, simulated, x);
  }
  if (!options.rollout) {
    const auto inner_steps = static_cast<int64_t>(options.grid_s.size()) - 1;
    draws.inner_index = draw_index(key, Purpose::kInnerIndex, inner_steps);
  }
  if (options.real_noise == RealNoise::kIndependent) {
    draws.td_real = draw_uniform(key, Purpose::kRealTime, options.td_low, options.td_high);
    draws.epsilon_real = normal_like(key, Purpose::kRealNoise, x);
  }
  if (options.r1_weight > 0) draws.r1_noise = normal_like(key, Purpose::kR1Noise, x);
  return draws;
}

}  // namespace tmd::method
