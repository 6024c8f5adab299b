#include "model/wan_dit.h"

#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"
#include "base/error.h"
#include "integer_hash.h"
#include "model/wan_ops.h"
#include "sharding/initialise.h"

namespace tmd::model {
namespace {

using sharding::ShardedNetwork;
using test::hashed_tensor;

// The self-contained reference of a tiny Wan transformer: every weight from the integer hash, values in
// float64 from an independent implementation that agrees with diffusers.
WanConfig tiny() {
  WanConfig config;
  config.heads = 2;
  config.head_dim = 32;
  config.ffn = 128;
  config.layers = 2;
  config.channels = 4;
  config.text_dim = 32;
  config.text_length = 8;
  return config;
}

at::Tensor reference_weight(uint64_t k, const sharding::ParamSpec& param) {
  const at::Tensor u = hashed_tensor(k, param.shape);
  const auto ends = [&param](const std::string& suffix) {
    return param.name.size() >= suffix.size() &&
           param.name.compare(param.name.size() - suffix.size(), suffix.size(), suffix) == 0;
  };
  if (param.name.find("norm_") != std::string::npos || ends("norm3.weight")) return 1 + 0.2 * u;
  if (ends("modulation")) return 0.3 * u;
  if (ends(".bias")) return 0.1 * u;
  return u * std::sqrt(3.0 / (static_cast<double>(param.elements()) / static_cast<double>(param.shape[0])));
}

void fill_reference(ShardedNetwork& network) {
  std::map<std::string, sharding::ParamSpec> params;
  for (int unit = 0; unit < network.units(); ++unit) {
    for (const auto& param : network.spec(unit).params) params.emplace(param.name, param);
  }
  std::map<std::string, at::Tensor> values;
  uint64_t k = 0;
  for (const auto& [name, param] : params) values[name] = reference_weight(k++, param);
  sharding::fill_slices(network, [&](const sharding::Slice& slice, at::Tensor out) {
    out.copy_(values.at(slice.name).flatten().narrow(0, slice.flat_begin, slice.elements()));
  });
}

struct Expected {
  std::vector<double> first;
  double last, sum_of_squares;
};

void expect_near(const std::string& name, const at::Tensor& actual, const Expected& expected,
                 double tolerance) {
  const at::Tensor flat = actual.to(at::kDouble).flatten().contiguous();
  for (size_t i = 0; i < expected.first.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected.first[i], tolerance)
        << name << " element " << i;
  }
  EXPECT_NEAR(flat[-1].item<double>(), expected.last, tolerance) << name << " last element";
  const double squares = flat.square().sum().item<double>();
  EXPECT_NEAR(squares / expected.sum_of_squares, 1, tolerance) << name << " sum of squares";
}

class TinyWan : public testing::Test {
 protected:
  explicit TinyWan(at::ScalarType type = at::kDouble)
      : network_("tiny", wan_units(tiny()), one_.mesh, type, /*trainable=*/true, one_.buffers),
        dit_(tiny(), network_) {
    fill_reference(network_);
    x_ = (1.5 * hashed_tensor(1000, {1, 4, 2, 4, 6})).to(type);
    text_ = at::zeros({1, 8, 32}, at::kDouble);
    text_[0].narrow(0, 0, 5).copy_(hashed_tensor(1001, {5, 32}));
    text_ = text_.to(type);
  }

  at::Tensor time() const { return at::full({1}, 937.0, at::kDouble); }

  test::SingleMesh one_;
  ShardedNetwork network_;
  WanDit dit_;
  at::Tensor x_, text_;
};

class TinyWanFp32 : public TinyWan {
 protected:
  TinyWanFp32() : TinyWan(at::kFloat) {}
};

at::Tensor gradient_loss(WanDit& dit, const at::Tensor& x, const at::Tensor& text) {
  const at::Tensor weights = hashed_tensor(1002, {1, 4, 2, 4, 6}).to(x.scalar_type());
  const WanDit::Request request{.weight_gradients = true, .feature_blocks = {}};
  return (dit.forward(x, at::full({1}, 937.0, at::kDouble), text, request).velocity * weights).sum();
}

// The float64 network as something to compare with.
class TinyWanFp64 : public TinyWan {
 public:
  void TestBody() override {}
  at::Tensor output() const { return dit_.forward(x_, time(), text_, {}).velocity; }
  ShardedNetwork& with_gradients() {
    gradient_loss(dit_, x_, text_).backward();
    return network_;
  }
};

double relative_distance(const at::Tensor& a, const at::Tensor& exact) {
  return ((a.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

const Expected kOutput{{0.361889332, -1.657293952, -1.087155606, -0.008794665, -1.158858547, 1.473709502,
                        0.68105258, 1.156766195},
                       1.227528083,
                       271.127967913};

TEST(IntegerHash, has_the_stated_values) {
  EXPECT_EQ(test::hashed(0, 0), 0.7666215896606445);
  EXPECT_EQ(test::hashed(0, 3), 0.9417638778686523);
  EXPECT_EQ(test::hashed(7, 1), -0.6806812286376953);
}

TEST_F(TinyWan, embeddings_equal_the_reference) {
  const WanStream stream = dit_.embed(x_, time(), text_, false);

  // the reference lists patches as [1, D, f, h, w]
  expect_near("patches", stream.tokens.transpose(1, 2),
              {{-0.050638821, -0.902977268, -0.67992805, 0.854945005}, 0.504709476, 648.100514625}, 1e-8);
  expect_near("context", stream.context,
              {{0.109128957, 0.199996988, -0.038984123, -0.004197474}, 0.132902546, 46.707035072}, 1e-8);
  expect_near("temb", stream.temb,
              {{0.203160205, -0.580781493, -0.011801161, 0.781027656}, -0.591912422, 11.493711676}, 1e-8);
  expect_near("e6", stream.e6,
              {{0.060727662, 0.209265619, 0.01453987, 0.223951077}, -0.1087238, 22.490719285}, 1e-8);
}

TEST_F(TinyWan, block_and_its_parts_equal_the_reference) {
  const TokenGrid grid = token_grid(x_);
  WanStream stream = dit_.embed(x_, time(), text_, false);
  BlockTrace trace;
  {
    const auto gathered = network_.gather(network_.unit("blocks.0"));
    const auto block =
        model::bind<BlockWeights>(gathered.params, [](auto& v, auto& w) { visit(v, w, tiny(), "blocks.0"); });
    block_forward(block, tiny(), stream.tokens, stream.e6, stream.context,
                  rope_rotations(grid, 32, at::kDouble), {}, &trace);
  }
  expect_near("self-attention", trace.self_attention,
              {{-0.072717593, -0.927276395, -0.141716561, -0.247374874}, -0.544452096, 213.257316047}, 1e-8);
  expect_near("cross-attention", trace.cross_attention,
              {{-0.189573622, -0.099463371, 0.223689305, 0.128089066}, -0.028766161, 22.16865974}, 1e-8);
  expect_near("feed-forward", trace.feed_forward,
              {{0.599631558, -1.075500821, 0.206357222, 0.042931291}, -0.230498694, 380.266634293}, 1e-8);

  stream.tokens = dit_.block(0, stream, grid, false);
  expect_near("block 0", stream.tokens,
              {{-0.182320751, 1.011029068, -0.020159233, -0.691428093}, 0.495261687, 696.222797987}, 1e-8);
  stream.tokens = dit_.block(1, stream, grid, false);
  expect_near("block 1", stream.tokens,
              {{-0.113142434, 0.602636874, -0.475129747, -0.554238219}, 0.541969647, 743.520982388}, 1e-8);
}

TEST_F(TinyWan, output_equals_the_reference_in_float64) {
  expect_near("output", dit_.forward(x_, time(), text_, {}).velocity, kOutput, 1e-8);
}

// Every element against the float64 network, which the tests above hold against the reference.
TEST_F(TinyWanFp32, output_equals_the_reference_in_float32) {
  TinyWanFp64 exact;
  const at::Tensor output = dit_.forward(x_, time(), text_, {}).velocity;
  expect_near("output", output, kOutput, 5e-6);
  EXPECT_LT((output.to(at::kDouble) - exact.output()).abs().max().item<double>(), 5e-6);
}

void expect_gradients(WanDit& dit, ShardedNetwork& network, at::Tensor x, at::Tensor text, double tolerance) {
  x.requires_grad_(true);
  text.requires_grad_(true);
  const at::Tensor loss = gradient_loss(dit, x, text);
  loss.backward();

  EXPECT_NEAR(loss.item<double>() / -10.496050232698819, 1, tolerance);
  expect_near("x", x.grad(),
              {{-0.977060862, -0.01034066, 0.438480601, -0.001263057}, 0.592319951, 108.106469339},
              tolerance);
  const std::map<std::string, Expected> expected = {
      {"patch_embedding.weight",
       {{-2.131807493, -0.064943692, -3.922271773, 0.97913628}, 0.281442473, 1264.094983378}},
      {"time_embedding.0.weight",
       {{-1.268785589, -0.28098203, -1.170110039, -0.843877445}, 0.020057264, 3747.937678038}},
      {"time_projection.1.weight",
       {{0.040538039, -0.075506313, -0.002125689, 0.194134806}, -0.083593882, 435.951750577}},
      {"blocks.0.modulation",
       {{0.000702963, 0.048596424, -0.188137208, 0.090633393}, 0.572904325, 66.107546842}},
      {"blocks.0.self_attn.norm_q.weight",
       {{0.316335617, -0.021742667, 0.003072593, 0.155467344}, -0.114855702, 0.812051735}},
      {"blocks.0.self_attn.q.weight",
       {{0.018749147, -0.206681851, 0.273602777, -0.098173896}, 0.010411203, 76.3078089}},
      {"blocks.0.norm3.weight",
       {{0.223514947, -0.013208875, -0.051261244, 0.002709705}, -0.211355419, 0.794251567}},
      {"blocks.1.cross_attn.k.weight",
       {{0.084710956, 0.17933092, -0.054335352, -0.047755377}, -0.107030267, 59.279973514}},
      {"blocks.1.ffn.2.bias",
       {{0.831070492, 0.002327228, -0.399312335, 0.108526668}, 0.003172796, 3.676467627}},
      {"head.modulation",
       {{1.375263769, -0.111402343, -0.56202653, -0.203971288}, 0.166503429, 74.844603747}}};
  for (const auto& [name, values] : expected)
    expect_near(name, network.full_gradient(name), values, tolerance);
  // Rows 5 to 7 of the text are zero padding; the reference lists the gradient of the five real rows.
  expect_near("text", text.grad()[0].narrow(0, 0, 5),
              {{-0.082832401, -0.198917797, -0.129513051, 0.129393276},
               text.grad()[0][4][31].item<double>(),
               text.grad()[0].narrow(0, 0, 5).square().sum().item<double>()},
              tolerance);
  EXPECT_NEAR(text.grad().flatten()[-1].item<double>(), -0.035738353, tolerance);
  EXPECT_NEAR(text.grad().square().sum().item<double>() / 12.063422361, 1, tolerance);
}

TEST_F(TinyWan, gradients_equal_the_reference_in_float64) {
  expect_gradients(dit_, network_, x_, text_, 1e-8);
}

TEST_F(TinyWanFp32, gradients_equal_the_reference_in_float32) {
  TinyWanFp64 exact;
  ShardedNetwork& reference = exact.with_gradients();
  gradient_loss(dit_, x_, text_).backward();
  for (int unit = 0; unit < network_.units(); ++unit) {
    for (const sharding::ParamSpec& param : network_.spec(unit).params) {
      EXPECT_LT(relative_distance(network_.full_gradient(param.name), reference.full_gradient(param.name)),
                5e-6)
          << param.name;
    }
  }
}

TEST_F(TinyWan, feature_maps_are_unpatchified_tokens_and_may_end_the_pass) {
  const auto output = dit_.forward(x_, time(), text_,
                                   {.weight_gradients = false, .feature_blocks = {0}, .features_only = true});

  EXPECT_FALSE(output.velocity.defined());
  ASSERT_EQ(output.features.size(), 1u);
  EXPECT_EQ(output.features[0].sizes(), (std::vector<int64_t>{1, 16, 2, 4, 6}));
  // token (0,0,0), patch value (ph 0, pw 0, channel 0) is map element (channel 0, 0, 0, 0)
  EXPECT_NEAR(output.features[0].flatten()[0].item<double>(), -0.182320751, 1e-8);
}

// Skip-layer guidance: the network that has only the other blocks, put together by hand.
TEST_F(TinyWan, a_block_that_is_left_out_is_passed_by) {
  const TokenGrid grid = token_grid(x_);
  const at::Tensor whole = dit_.forward(x_, time(), text_, {}).velocity;
  for (const int64_t skipped : {0, 1}) {
    WanStream stream = dit_.embed(x_, time(), text_, false);
    stream.tokens = dit_.block(1 - skipped, stream, grid, false);
    const at::Tensor expected = dit_.head(stream, grid, false);

    const at::Tensor output =
        dit_.forward(x_, time(), text_,
                     {.weight_gradients = false, .feature_blocks = {}, .skip_block = skipped})
            .velocity;

    EXPECT_TRUE(at::equal(output, expected)) << "without block " << skipped;
    EXPECT_GT((output - whole).norm().item<double>() / whole.norm().item<double>(), 0.05);
  }
  for (const int64_t absent : {-1, 2}) {
    EXPECT_THROW(dit_.forward(x_, time(), text_,
                              {.weight_gradients = false, .feature_blocks = {}, .skip_block = absent}),
                 Error);
  }
}

TEST_F(TinyWan, padded_text_rows_are_keys_like_others) {
  const at::Tensor short_text = text_.narrow(1, 0, 5);

  const at::Tensor with_padding = dit_.forward(x_, time(), text_, {}).velocity;
  const at::Tensor without = dit_.forward(x_, time(), short_text, {}).velocity;

  EXPECT_GT((with_padding - without).norm().item<double>() / with_padding.norm().item<double>(), 0.05);
}

TEST_F(TinyWan, wrong_channels_and_text_are_named) {
  try {
    dit_.forward(at::zeros({1, 3, 2, 4, 6}, at::kDouble), time(), text_, {});
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(e.what()).find("3 channels"), std::string::npos) << e.what();
  }
  EXPECT_THROW(dit_.forward(x_, time(), at::zeros({1, 8, 31}, at::kDouble), {}), Error);
  EXPECT_THROW(dit_.forward(at::zeros({1, 4, 2, 5, 6}, at::kDouble), time(), text_, {}), Error);
}

}  // namespace
}  // namespace tmd::model
