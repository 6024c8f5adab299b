// The kernels between a block's matrix products, as C++ on an emulated grid (tests/support/emulated_device)
// and on a device, held against chains of ATen in float64 and against the host's kernels.

#include "model/fused_device_kernels.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "aten_ops.h"
#include "base/error.h"
#include "emulated_runs.h"
#include "model/fused_rows.h"
#include "placed_tokens.h"

namespace tmd::model::device {
namespace {

using namespace tmd::test;
using tmd::device::Bits;

// ---------------------------------------------------------------------------------------------------------
// LayerNorm. `affine`: one scale and shift for all samples.

struct NormData {
  NormData(const Shape& s, const Types& t, int64_t offset, bool affine)
      : shape(s),
        types(t),
        wide(compute_type(t.x)),
        is_affine(affine),
        x(random({s.batch, s.tokens, s.width}, t.x), offset),
        scale(random({affine ? 1 : s.batch, 1, s.width}, wide), offset),
        shift(random({affine ? 1 : s.batch, 1, s.width}, wide), 2 * offset),
        dy(random({s.batch, s.tokens, s.width}, t.y), offset),
        mean({s.rows()}, wide, offset),
        deviation({s.rows()}, wide, offset),
        y({s.batch, s.tokens, s.width}, t.y, offset),
        dx({s.batch, s.tokens, s.width}, t.x, 3 * offset),
        columns({pieces(), 2 * s.width}, wide, offset) {}

  int64_t pieces() const { return pieces_of(shape.batch, shape.tokens); }
  NormCall call() const {
    return {.x_type = element_of(types.x),
            .y_type = element_of(types.y),
            .width = shape.width,
            .tokens = shape.tokens,
            .x = x.data(),
            .scale = scale.data(),
            .sample_stride = is_affine ? 0 : shape.width,
            .one = is_affine ? 0.0 : 1.0,
            .mean = mean.data(),
            .deviation = deviation.data(),
            .epsilon = kEpsilon,
            .shift = shift.data(),
            .y = y.data(),
            .y_gradient = dy.data(),
            .x_gradient = dx.data()};
  }
  Exact expected() const {
    return evaluate(
        [this](const Tensors& in) {
          if (is_affine)
            return at::layer_norm(in[0], {shape.width}, in[1].flatten(), in[2].flatten(), kEpsilon);
          return test::modulated_norm(in[0], in[2], in[1], kEpsilon);
        },
        {x.tensor(), scale.tensor(), shift.tensor()}, dy.tensor());
  }

  Shape shape;
  Types types;
  at::ScalarType wide;
  bool is_affine;
  Placed x, scale, shift, dy, mean, deviation, y, dx, columns;
};

void expect_norm(const Shape& shape, const Types& types, int64_t offset, bool affine) {
  const NormData data(shape, types, offset, affine);
  norm_forward(data.call(), shape.rows(), nullptr);
  norm_backward(data.call(), shape.rows(), data.columns.data(), nullptr);
  const Placed sums = total_of(data.columns, affine ? 1 : shape.batch);

  EXPECT_TRUE(data.mean.guards_are_intact() && data.deviation.guards_are_intact());
  // one channel alone has no deviation: x - mean is rounding, times 1000
  const Exact expected = data.expected();
  const double wide = limit(data.wide, data.wide);
  expect_close(data.y, expected.value, limit(data.wide, types.y), "y");
  if (shape.width > 2) expect_close(data.dx, expected.gradients[0], 2 * limit(data.wide, types.x), "dx");
  const at::Tensor both = at::cat({expected.gradients[1].flatten(1), expected.gradients[2].flatten(1)}, 1);
  expect_close(sums, both, 4 * wide, "scale and shift");
}

// ---------------------------------------------------------------------------------------------------------
// RMSNorm.

struct RmsData {
  RmsData(const Shape& s, const Types& t, int64_t offset, bool turns)
      : shape(s),
        types(t),
        wide(compute_type(t.x)),
        x(random({s.batch, s.tokens, s.width}, t.x), offset),
        weight(random({s.width}, wide), offset),
        rotations(turns ? angles() : at::empty({0}, wide), offset),
        dy(random({s.batch, s.tokens, s.width}, t.y), offset),
        sums({s.rows()}, wide, offset),
        products({s.rows()}, wide, offset),
        y({s.batch, s.tokens, s.width}, t.y, 2 * offset),
        dx({s.batch, s.tokens, s.width}, t.x, offset),
        columns({pieces(), s.width}, wide, offset) {}

  at::Tensor angles() const {
    const at::Tensor angle = at::randn({shape.tokens, shape.head_dim / 2}, at::kDouble);
    return at::stack({at::cos(angle), at::sin(angle)}, -1).flatten(1).to(wide);
  }
  bool turns() const { return rotations.tensor().dim() == 2; }
  int64_t pieces() const { return pieces_of(shape.batch, shape.tokens); }
  RmsCall call(bool rounds = false) const {
    return {.x_type = element_of(types.x),
            .y_type = element_of(types.y),
            .rounds = rounds,
            .width = shape.width,
            .tokens = shape.tokens,
            .head_dim = turns() ? shape.head_dim : 0,
            .x = x.data(),
            .weight = weight.data(),
            .rotations = turns() ? rotations.data() : nullptr,
            .sums = sums.data(),
            .full_width = static_cast<double>(shape.width),
            .epsilon = kEpsilon,
            .y = y.data(),
            .y_gradient = dy.data(),
            .products = products.data(),
            .x_gradient = dx.data()};
  }
  Exact expected() const {
    return evaluate(
        [this](const Tensors& in) {
          const at::Tensor normed = test::rms_norm(in[0], in[1], kEpsilon, at::kDouble);
          if (!turns()) return normed;
          const at::Tensor heads =
              normed.view({shape.batch, shape.tokens, shape.width / shape.head_dim, shape.head_dim});
          const at::Tensor pairs =
              exact(rotations.tensor()).clone().view({shape.tokens, shape.head_dim / 2, 2});
          return test::apply_rope(heads, at::view_as_complex(pairs)).view(normed.sizes());
        },
        {x.tensor(), weight.tensor()}, dy.tensor());
  }
  Bits results() const {
    Bits bits;
    for (const Placed* placed : {&sums, &products, &y, &dx, &columns}) append(bits, *placed);
    return bits;
  }

  Shape shape;
  Types types;
  at::ScalarType wide;
  Placed x, weight, rotations, dy, sums, products, y, dx, columns;
};

void run_rms(const RmsData& data, RmsHalves halves, bool rounds = false) {
  rms_forward(data.call(rounds), data.shape.rows(), halves, nullptr);
  rms_backward(data.call(rounds), data.shape.rows(), halves, nullptr);
  if (halves != RmsHalves::kSum)
    rms_weight_gradient(data.call(rounds), data.shape.rows(), data.columns.data(), nullptr);
}

void expect_rms(const Shape& shape, const Types& types, int64_t offset, bool turns) {
  const RmsData data(shape, types, offset, turns);
  run_rms(data, RmsHalves::kBoth);
  const Placed weight_gradient = total_of(data.columns, 1);

  const Exact expected = data.expected();
  expect_close(data.y, expected.value, limit(data.wide, types.y), "y");
  // of one channel alone nothing is left but rounding
  if (shape.width > 1) expect_close(data.dx, expected.gradients[0], 2 * limit(data.wide, types.x), "dx");
  expect_close(weight_gradient, expected.gradients[1].unsqueeze(0), 4 * limit(data.wide, data.wide),
               "weight");
}

// The elements and the sums over tokens, from the device's sums over channels.
void expect_host_rms(const Shape& shape, const Types& types, int64_t offset, bool turns, bool rounds) {
  const RmsData data(shape, types, offset, turns);
  run_rms(data, RmsHalves::kBoth, rounds);
  const Placed y(data.y.tensor().sizes(), types.y, 0), dx(data.dx.tensor().sizes(), types.x, 0),
      columns(data.columns.tensor().sizes(), data.wide, 0);
  RmsCall call = data.call(rounds);
  call.y = y.data();
  plain::kFusedKernels.rms_forward(call, 0, shape.rows());
  call.x_gradient = dx.data();
  for_pieces(shape, [&](int64_t piece, int64_t begin, int64_t end) {
    plain::kFusedKernels.rms_backward(call, begin, end, row_pointer(columns, piece));
  });
  expect_same(data.y, y, "y");
  expect_same(data.dx, dx, "dx");
  expect_same(data.columns, columns, "columns");
}

// ---------------------------------------------------------------------------------------------------------
// Gated residual.

struct GateData {
  GateData(const Shape& s, const Types& t, int64_t offset, bool gated)
      : shape(s),
        types(t),
        wide(compute_type(t.x)),
        is_gated(gated),
        x(random({s.batch, s.tokens, s.width}, t.x), offset),
        branch(random({s.batch, s.tokens, s.width}, t.y), offset),
        gate(random({s.batch, 1, s.width}, wide), offset),
        dy(random({s.batch, s.tokens, s.width}, t.x), 2 * offset),
        y({s.batch, s.tokens, s.width}, t.x, offset),
        branch_gradient({s.batch, s.tokens, s.width}, t.y, offset),
        columns({pieces(), s.width}, wide, offset) {}
  int64_t pieces() const { return pieces_of(shape.batch, shape.tokens); }
  GateCall call() const {
    return {.x_type = element_of(types.x),
            .branch_type = element_of(types.y),
            .width = shape.width,
            .tokens = shape.tokens,
            .gate = is_gated ? gate.data() : nullptr,
            .sample_stride = shape.width,
            .branch = branch.data(),
            .x = x.data(),
            .y = y.data(),
            .y_gradient = dy.data(),
            .branch_gradient = branch_gradient.data()};
  }

  Shape shape;
  Types types;
  at::ScalarType wide;
  bool is_gated;
  Placed x, branch, gate, dy, y, branch_gradient, columns;
};

}  // namespace

TEST(NormOnDevice, modulated_equals_aten) {
  for_shapes_and_types(
      [](const Shape& s, const Types& t, int64_t offset) { expect_norm(s, t, offset, false); });
}

TEST(NormOnDevice, affine_equals_aten) {
  for_shapes_and_types(
      [](const Shape& s, const Types& t, int64_t offset) { expect_norm(s, t, offset, true); });
}

TEST(NormOnDevice, sums_over_tokens_are_the_host_s_to_the_bit) {
  for_shapes_and_types([](const Shape& s, const Types& t, int64_t offset) {
    const NormData data(s, t, offset, false);
    norm_forward(data.call(), s.rows(), nullptr);
    norm_backward(data.call(), s.rows(), data.columns.data(), nullptr);
    const Placed columns(data.columns.tensor().sizes(), data.wide, 0);
    NormCall call = data.call();
    call.x_gradient = nullptr;
    for_pieces(s, [&](int64_t piece, int64_t begin, int64_t end) {
      plain::kFusedKernels.norm_backward(call, begin, end, row_pointer(columns, piece));
    });
    expect_same(data.columns, columns, "columns");
  });
}

// Sums over channels are added in another order than on the host: to rounding.
TEST(NormOnDevice, is_near_the_host_s) {
  for_shapes_and_types([](const Shape& s, const Types& t, int64_t offset) {
    const NormData data(s, t, offset, false), host(s, t, 0, false);
    norm_forward(data.call(), s.rows(), nullptr);
    NormCall call = data.call();
    call.mean = host.mean.data();
    call.deviation = host.deviation.data();
    call.y = host.y.data();
    plain::kFusedKernels.norm_forward(call, 0, s.rows());
    const double wide = limit(data.wide, data.wide);
    expect_close(data.mean, exact(host.mean.tensor()), wide, "mean");
    if (s.width > 2) expect_close(data.deviation, exact(host.deviation.tensor()), wide, "deviation");
    expect_close(data.y, exact(host.y.tensor()), 2 * limit(data.wide, t.y), "y");
  });
}

TEST(NormOnDevice, a_row_that_is_not_finite_stays_alone) {
  const Shape shape{1, 4, 257, 0};
  const NormData data(shape, {at::kFloat, at::kFloat}, 1, false);
  data.x.tensor()[0][2][256].fill_(INFINITY);
  norm_forward(data.call(), 4, nullptr);
  const at::Tensor finite = data.y.tensor()[0].isfinite().all(1);
  EXPECT_TRUE(finite[0].item<bool>() && finite[1].item<bool>() && finite[3].item<bool>());
  EXPECT_FALSE(finite[2].item<bool>());
}

TEST(NormOnDevice, only_what_is_wanted_is_written) {
  const Shape shape{2, 5, 33, 0};
  const NormData data(shape, {at::kFloat, at::kFloat}, 0, false);
  norm_forward(data.call(), shape.rows(), nullptr);
  norm_backward(data.call(), shape.rows(), nullptr, nullptr);
  EXPECT_TRUE(data.columns.tensor().isnan().all().item<bool>());
  EXPECT_TRUE(data.dx.tensor().isfinite().all().item<bool>());
  NormCall call = data.call();
  call.x_gradient = nullptr;
  data.dx.tensor().fill_(7);
  norm_backward(call, shape.rows(), data.columns.data(), nullptr);
  EXPECT_TRUE(data.columns.tensor().isfinite().all().item<bool>());
  EXPECT_TRUE(data.dx.tensor().eq(7).all().item<bool>());
}

TEST(NormOnDevice, order_changes_no_bit) {
  for (const Types& types : kTypes) {
    const NormData data({2, 70, 257, 0}, types, 1, false);
    tmd::device::expect_same_in_all_orders([&] {
      norm_forward(data.call(), data.shape.rows(), nullptr);
      norm_backward(data.call(), data.shape.rows(), data.columns.data(), nullptr);
      Bits bits;
      for (const Placed* placed : {&data.mean, &data.deviation, &data.y, &data.dx, &data.columns})
        append(bits, *placed);
      append(bits, total_of(data.columns, 2));
      return bits;
    });
  }
}

TEST(NormOnDevice, alignment_changes_no_bit) {
  const Shape shape{1, 3, 1536, 0};
  const NormData data(shape, {at::kFloat, at::kBFloat16}, 0, false);
  norm_forward(data.call(), 3, nullptr);
  const Placed x(data.x.tensor(), 1), y(data.y.tensor().sizes(), at::kBFloat16, 3);
  NormCall call = data.call();
  call.x = x.data();
  call.y = y.data();
  norm_forward(call, 3, nullptr);
  expect_same(y, data.y, "y");
}

TEST(RmsOnDevice, equals_aten) {
  for_shapes_and_types(
      [](const Shape& s, const Types& t, int64_t offset) { expect_rms(s, t, offset, false); });
}

TEST(RmsOnDevice, with_rotation_equals_aten) {
  for_shapes_and_types([](const Shape& s, const Types& t, int64_t offset) {
    if (s.head_dim > 0) expect_rms(s, t, offset, true);
  });
}

TEST(RmsOnDevice, elements_and_sums_over_tokens_are_the_host_s_to_the_bit) {
  for_shapes_and_types([](const Shape& s, const Types& t, int64_t offset) {
    for (const bool rounds : {false, true}) {
      expect_host_rms(s, t, offset, false, rounds);
      if (s.head_dim > 0) expect_host_rms(s, t, offset, true, rounds);
    }
  });
}

TEST(RmsOnDevice, two_halves_are_one_pass) {
  for_shapes_and_types([](const Shape& s, const Types& t, int64_t offset) {
    const RmsData data(s, t, offset, s.head_dim > 0);
    run_rms(data, RmsHalves::kBoth);
    const Bits both = data.results();
    for (const Placed* placed : {&data.sums, &data.products, &data.y, &data.dx, &data.columns})
      placed->tensor().fill_(7);
    rms_forward(data.call(), s.rows(), RmsHalves::kSum, nullptr);
    EXPECT_TRUE(data.y.tensor().eq(7).all().item<bool>());
    rms_forward(data.call(), s.rows(), RmsHalves::kFinish, nullptr);
    rms_backward(data.call(), s.rows(), RmsHalves::kSum, nullptr);
    EXPECT_TRUE(data.dx.tensor().eq(7).all().item<bool>());
    rms_backward(data.call(), s.rows(), RmsHalves::kFinish, nullptr);
    rms_weight_gradient(data.call(), s.rows(), data.columns.data(), nullptr);
    EXPECT_EQ(data.results(), both);
  });
}

// Two ranks with half of the channels each, whose sums are added between the halves.
TEST(RmsOnDevice, split_channels_are_the_whole) {
  const Shape half{2, 33, 64, 16};
  const RmsData left(half, {at::kDouble, at::kDouble}, 1, true), right(half, left.types, 0, true);
  right.rotations.tensor().copy_(left.rotations.tensor());
  const RmsData whole({2, 33, 128, 16}, left.types, 0, true);
  whole.rotations.tensor().copy_(left.rotations.tensor());
  whole.x.tensor().copy_(at::cat({left.x.tensor(), right.x.tensor()}, 2));
  whole.dy.tensor().copy_(at::cat({left.dy.tensor(), right.dy.tensor()}, 2));
  whole.weight.tensor().copy_(at::cat({left.weight.tensor(), right.weight.tensor()}));
  const auto run = [&](auto function, const at::Tensor& of_left, const at::Tensor& of_right) {
    for (const RmsHalves halves : {RmsHalves::kSum, RmsHalves::kFinish}) {
      for (const RmsData* data : {&left, &right}) {
        RmsCall call = data->call();
        call.full_width = 128;
        function(call, half.rows(), halves, nullptr);
      }
      if (halves == RmsHalves::kSum) of_left.copy_(of_right.copy_(of_left + of_right));
    }
  };
  run(rms_forward, left.sums.tensor(), right.sums.tensor());
  run(rms_backward, left.products.tensor(), right.products.tensor());

  const Exact expected = whole.expected();
  expect_close(left.y, expected.value.narrow(2, 0, 64), 1e-13, "y");
  expect_close(right.y, expected.value.narrow(2, 64, 64), 1e-13, "y");
  expect_close(left.dx, expected.gradients[0].narrow(2, 0, 64), 1e-13, "dx");
  expect_close(right.dx, expected.gradients[0].narrow(2, 64, 64), 1e-13, "dx");
}

TEST(RmsOnDevice, order_changes_no_bit) {
  for (const Types& types : kTypes) {
    const RmsData data({3, 65, 36, 12}, types, 1, true);
    tmd::device::expect_same_in_all_orders([&] {
      run_rms(data, RmsHalves::kBoth, types.x == at::kBFloat16);
      return data.results();
    });
  }
}

TEST(GateOnDevice, is_the_host_s_to_the_bit) {
  for_shapes_and_types([](const Shape& s, const Types& t, int64_t offset) {
    for (const bool gated : {false, true}) {
      const GateData data(s, t, offset, gated);
      gate_forward(data.call(), s.rows(), nullptr);
      const Placed y(data.y.tensor().sizes(), t.x, 0), branch_gradient(data.branch.tensor().sizes(), t.y, 0),
          columns(data.columns.tensor().sizes(), data.wide, 0);
      GateCall call = data.call();
      call.y = y.data();
      plain::kFusedKernels.gate_forward(call, 0, s.rows());
      expect_same(data.y, y, "y");
      if (!gated) continue;
      gate_backward(data.call(), s.rows(), data.columns.data(), nullptr);
      call.branch_gradient = branch_gradient.data();
      for_pieces(s, [&](int64_t piece, int64_t begin, int64_t end) {
        plain::kFusedKernels.gate_backward(call, begin, end, row_pointer(columns, piece));
      });
      expect_same(data.branch_gradient, branch_gradient, "branch");
      expect_same(data.columns, columns, "columns");
    }
  });
}

TEST(GateOnDevice, equals_aten) {
  for_shapes_and_types([](const Shape& s, const Types& t, int64_t offset) {
    const GateData data(s, t, offset, true);
    gate_forward(data.call(), s.rows(), nullptr);
    gate_backward(data.call(), s.rows(), data.columns.data(), nullptr);
    const Placed gate_gradient = total_of(data.columns, s.batch);
    const Exact expected =
        evaluate([](const Tensors& in) { return test::add_gated(in[0], in[1], in[2]); },
                 {data.x.tensor(), data.branch.tensor(), data.gate.tensor()}, data.dy.tensor());
    expect_close(data.y, expected.value, limit(data.wide, t.x), "y");
    expect_close(data.branch_gradient, expected.gradients[1], limit(data.wide, t.y), "branch");
    expect_close(gate_gradient, expected.gradients[2].flatten(1), 4 * limit(data.wide, data.wide), "gate");
  });
}

TEST(GateOnDevice, order_changes_no_bit) {
  const GateData data({2, 70, 257, 0}, {at::kFloat, at::kBFloat16}, 1, true);
  tmd::device::expect_same_in_all_orders([&] {
    gate_forward(data.call(), data.shape.rows(), nullptr);
    gate_backward(data.call(), data.shape.rows(), data.columns.data(), nullptr);
    Bits bits;
    for (const Placed* placed : {&data.y, &data.branch_gradient, &data.columns}) append(bits, *placed);
    return bits;
  });
}

TEST(GeluOnDevice, is_the_host_s_to_the_bit_and_near_aten) {
  at::manual_seed(1);
  std::vector<int64_t> sizes = tmd::device::kOddSizes;
  sizes.push_back(tmd::device::kLargeSize);
  for (const int64_t n : sizes) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      for (const int64_t offset : {0, 1}) {
        SCOPED_TRACE(testing::Message() << n << " of " << type << ", offset " << offset);
        const Placed x(3 * random({n}, type), offset), dy(random({n}, type), 3 * offset);
        const Placed y({n}, type, 2 * offset), dx({n}, type, offset), host_y({n}, type, 0),
            host_dx({n}, type, 0);
        gelu_forward(element_of(type), x.data(), y.data(), n, nullptr);
        gelu_backward(element_of(type), x.data(), dy.data(), dx.data(), n, nullptr);
        plain::kFusedKernels.gelu_forward(element_of(type), x.data(), host_y.data(), 0, n);
        plain::kFusedKernels.gelu_backward(element_of(type), x.data(), dy.data(), host_dx.data(), 0, n);
        expect_same(y, host_y, "y");
        expect_same(dx, host_dx, "dx");
        const Exact expected =
            evaluate([](const Tensors& in) { return at::gelu(in[0], "tanh"); }, {x.tensor()}, dy.tensor());
        expect_close(y, expected.value, limit(at::kFloat, type), "y");
        expect_close(dx, expected.gradients[0], limit(at::kFloat, type), "dx");
      }
    }
  }
}

TEST(GeluOnDevice, order_changes_no_bit) {
  const int64_t n = 5003;
  const Placed x(3 * random({n}, at::kBFloat16), 1), dy(random({n}, at::kBFloat16), 2);
  const Placed y({n}, at::kBFloat16, 0), dx({n}, at::kBFloat16, 3);
  tmd::device::expect_same_in_all_orders([&] {
    gelu_forward(Element::kBfloat16, x.data(), y.data(), n, nullptr);
    gelu_backward(Element::kBfloat16, x.data(), dy.data(), dx.data(), n, nullptr);
    Bits bits;
    append(bits, y);
    append(bits, dx);
    return bits;
  });
}

TEST(GeluOnDevice, tails_and_what_is_not_finite) {
  const float infinity = INFINITY;
  const Placed x(
      at::tensor({-infinity, -1e30F, -200.0F, -9.0F, -1e-40F, 0.0F, 1e-40F, 9.0F, 1e30F, infinity, NAN}), 1);
  const int64_t n = x.tensor().numel();
  const Placed y({n}, at::kFloat, 0), host({n}, at::kFloat, 0);
  gelu_forward(Element::kFloat, x.data(), y.data(), n, nullptr);
  plain::kFusedKernels.gelu_forward(Element::kFloat, x.data(), host.data(), 0, n);
  for (int64_t i = 0; i < n; ++i) {
    const float actual = y.tensor()[i].item<float>(), expected = host.tensor()[i].item<float>();
    EXPECT_TRUE(std::isnan(expected) ? std::isnan(actual) : actual == expected) << i << ": " << actual;
  }
  EXPECT_TRUE(std::isnan(y.tensor()[n - 1].item<float>()));
}

TEST(SumRowsOnDevice, adds_all_parts_of_each_total) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const int64_t totals : {1, 3}) {
      for (const int64_t count : {0, 1, 7, 8, 9, 513}) {
        for (const int64_t width : {1, 31, 33, 257}) {
          SCOPED_TRACE(testing::Message() << totals << " totals of " << count << " x " << width);
          const Placed part(random({totals * count, width}, type), 1);
          const Placed total = total_of(part, totals);
          expect_close(total, exact(part.tensor()).view({totals, count, width}).sum(1), 8 * limit(type, type),
                       "sum");
        }
      }
    }
  }
}

TEST(SumRowsOnDevice, order_changes_no_bit) {
  const Placed part(random({2 * 77, 45}, at::kFloat), 0);
  tmd::device::expect_same_in_all_orders([&] {
    Bits bits;
    append(bits, total_of(part, 2));
    return bits;
  });
}

TEST(FusedDeviceKernels, what_does_not_fit_is_refused) {
  const NormData norm({2, 5, 33, 0}, {at::kFloat, at::kFloat}, 0, false);
  NormCall mixed = norm.call();
  mixed.y_type = Element::kDouble;
  EXPECT_THROW(norm_forward(mixed, 10, nullptr), Error);
  EXPECT_THROW(norm_forward(norm.call(), 9, nullptr), Error) << "not whole samples";
  const RmsData rms({1, 2, 24, 12}, {at::kFloat, at::kFloat}, 0, true);
  for (const int64_t head_dim : {0, 7, 10, 48}) {
    RmsCall call = rms.call();
    call.head_dim = head_dim;
    EXPECT_THROW(rms_forward(call, 2, RmsHalves::kBoth, nullptr), Error) << head_dim;
    EXPECT_THROW(rms_weight_gradient(call, 2, rms.columns.data(), nullptr), Error) << head_dim;
  }
  const GateData gate({1, 2, 8, 0}, {at::kFloat, at::kFloat}, 0, false);
  EXPECT_THROW(gate_backward(gate.call(), 2, gate.columns.data(), nullptr), Error) << "there is no gate";
  float x = 0;
  EXPECT_THROW(gelu_forward(Element::kDouble, &x, &x, 1, nullptr), Error);
  EXPECT_THROW(gelu_backward(Element::kFloat, &x, nullptr, &x, 1, nullptr), Error);
  EXPECT_THROW(sum_rows(Element::kBfloat16, &x, 1, 1, 1, &x, nullptr), Error);
}

}  // namespace tmd::model::device
