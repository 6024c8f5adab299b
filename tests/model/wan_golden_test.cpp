#include <filesystem>
#include <optional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"
#include "base/safetensors.h"
#include "model/wan_dit.h"
#include "model/wan_ops.h"
#include "model/wan_weights.h"
#include "model/weight_check.h"
#include "model/weights_file.h"

namespace tmd::model {
namespace {

// A random model in diffusers' layout and what diffusers makes of it (tests/parity/make_golden.py). The
// limits are those of docs/parity.md.
const std::filesystem::path kFolder = "tests/golden/wan-tiny";
constexpr double kFp32 = 1e-5, kFp32Largest = 3e-5, kGradient = 1e-4;
constexpr double kBf16WideStream = 8e-3, kBf16Diffusers = 2.5e-2, kBf16Cosine = 0.9995;

double relative(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor exact = expected.to(at::kDouble);
  return ((actual.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

double largest(const at::Tensor& actual, const at::Tensor& expected) {
  return (actual.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
}

double cosine(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble).flatten(), y = b.to(at::kDouble).flatten();
  return (x.dot(y) / (x.norm() * y.norm())).item<double>();
}

// Share of the elements that bfloat16 cannot hold.
double share_beyond_bfloat16(const at::Tensor& x) {
  return (x.to(at::kBFloat16).to(x.scalar_type()) != x).to(at::kDouble).mean().item<double>();
}

at::Tensor read(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  const at::Tensor tensor =
      at::empty(entry.shape, stored_type(entry.dtype, entry.name, file.path().string()));
  file.read(entry, 0, {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()});
  return tensor;
}

class WanGolden : public testing::Test {
 protected:
  // The stored weights in a network that computes in `type`.
  class Network {
   public:
    explicit Network(at::ScalarType type, bool trainable = false,
                     std::optional<at::ScalarType> stream = std::nullopt)
        : weights_(open_wan_weights(kFolder / "model")),
          network_("transformer", wan_units(weights_.config), one_.mesh, type, trainable, one_.buffers),
          dit_(weights_.config, network_, stream) {
      load_weights(network_, weights_.files,
                   [this](const std::string& name) { return weights_.spelling.of(name); });
    }
    const WanWeights& weights() const { return weights_; }
    sharding::ShardedNetwork& network() { return network_; }
    const WanDit& dit() const { return dit_; }

   private:
    test::SingleMesh one_;
    WanWeights weights_;
    sharding::ShardedNetwork network_;
    WanDit dit_;
  };

  at::Tensor stored(const std::string& name) const { return read(case_, case_.at(name)); }
  at::Tensor time() const { return stored("timestep").to(at::kDouble); }

  WanStream embed(const Network& net) const {
    return net.dit().embed(stored("latents"), time(), stored("text"), false);
  }
  at::Tensor output(const Network& net, const at::Tensor& time) const {
    return net.dit().forward(stored("latents"), time, stored("text"), {}).velocity;
  }
  at::Tensor output(const Network& net) const { return output(net, time()); }

  SafetensorsFile case_{kFolder / "case.safetensors"};
};

TEST_F(WanGolden, sharded_weights_and_their_config_are_understood) {
  const Network net(at::kFloat);

  EXPECT_EQ(net.weights().files.files().size(), 2u);
  EXPECT_EQ(net.weights().spelling.naming, WanNaming::kDiffusers);
  EXPECT_EQ(net.weights().config.heads, 2);
  EXPECT_EQ(net.weights().config.layers, 2);
  EXPECT_EQ(net.weights().dtypes(), (std::vector<std::string>{"BF16", "F32"}));
}

TEST_F(WanGolden, float32_equals_diffusers) {
  const Network net(at::kFloat);
  const TokenGrid grid = token_grid(stored("latents"));

  WanStream stream = embed(net);
  for (int64_t i = 0; i < net.dit().config().layers; ++i) {
    stream.tokens = net.dit().block(i, stream, grid, false);
    const std::string name = "block." + std::to_string(i);
    EXPECT_LT(relative(stream.tokens, stored(name)), kFp32) << name;
  }
  const at::Tensor out = net.dit().head(stream, grid, false);

  EXPECT_GT(out.square().mean().sqrt().item<double>(), 0.1) << "zero against zero proves nothing";
  EXPECT_LT(relative(out, stored("output")), kFp32);
  EXPECT_LT(largest(out, stored("output")), kFp32Largest);
  EXPECT_TRUE(out.equal(output(net)));
}

TEST_F(WanGolden, float32_gradients_equal_diffusers) {
  Network net(at::kFloat, /*trainable=*/true);
  const at::Tensor latents = stored("latents").requires_grad_(true);
  const at::Tensor text = stored("text").requires_grad_(true);
  const WanDit::Request request{.weight_gradients = true, .feature_blocks = {}};

  (net.dit().forward(latents, time(), text, request).velocity * stored("output_gradient")).sum().backward();

  int compared = 0;
  for (const SafetensorsEntry& entry : case_.entries()) {
    if (!entry.name.starts_with("grad.")) continue;
    const std::string name = entry.name.substr(5);
    const at::Tensor gradient = name == "latents" ? latents.grad()
                                : name == "text"  ? text.grad()
                                                  : net.network().full_gradient(name);
    EXPECT_LT(relative(gradient, stored(entry.name)), kGradient) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 15);
}

TEST_F(WanGolden, bfloat16_with_float32_stream_is_near_float32) {
  const at::Tensor out = output(Network(at::kBFloat16));

  const double error = relative(out, stored("output"));
  EXPECT_LT(error, kBf16WideStream);
  EXPECT_GT(error, 1e-4) << "nothing was rounded";
}

TEST_F(WanGolden, bfloat16_in_diffusers_manner_is_near_diffusers) {
  const at::Tensor out = output(Network(at::kBFloat16, false, at::kBFloat16));

  EXPECT_LT(relative(out, stored("output.bf16")), kBf16Diffusers);
  EXPECT_GT(cosine(out, stored("output.bf16")), kBf16Cosine);
  EXPECT_EQ(share_beyond_bfloat16(out), 0) << "diffusers' head rounds";
}

// Time embedding, modulation, residual stream and head are float32 in bfloat16 networks (Wan 9.1).
TEST_F(WanGolden, bfloat16_keeps_its_float32_islands) {
  const Network narrow(at::kBFloat16), exact(at::kFloat);
  const TokenGrid grid = token_grid(stored("latents"));
  WanStream stream = embed(narrow);
  const WanStream expected = embed(exact);

  EXPECT_LT(relative(stream.temb, expected.temb), 1e-6);
  EXPECT_LT(relative(stream.e6, expected.e6), 1e-6);
  EXPECT_EQ(stream.tokens.scalar_type(), at::kFloat);
  stream.tokens = narrow.dit().block(0, stream, grid, false);
  EXPECT_EQ(stream.tokens.scalar_type(), at::kFloat);
  EXPECT_GT(share_beyond_bfloat16(stream.tokens), 0.9);
  EXPECT_LT(relative(narrow.dit().head(stream, grid, false), exact.dit().head(stream, grid, false)), 1e-6);
}

// The file has these in float32, with digits that bfloat16 lacks.
TEST_F(WanGolden, bfloat16_keeps_the_weights_of_its_islands) {
  Network narrow(at::kBFloat16);
  const WanWeights& weights = narrow.weights();
  for (const std::string name : {"time_embedding.0.weight", "time_embedding.2.bias", "blocks.0.modulation",
                                 "blocks.1.norm3.weight", "blocks.1.norm3.bias", "head.modulation"}) {
    const SafetensorsSet::Tensor* tensor = weights.files.find(weights.spelling.of(name));
    ASSERT_NE(tensor, nullptr) << name;
    ASSERT_EQ(tensor->entry->dtype, "F32") << name;

    EXPECT_TRUE(narrow.network().full_parameter(name).equal(read(*tensor->file, *tensor->entry))) << name;
  }
  EXPECT_GT(share_beyond_bfloat16(narrow.network().full_parameter("blocks.0.modulation")), 0.9);
}

TEST_F(WanGolden, bfloat16_in_diffusers_manner_rounds_the_stream) {
  const Network net(at::kBFloat16, false, at::kBFloat16);
  WanStream stream = embed(net);

  EXPECT_EQ(stream.tokens.scalar_type(), at::kBFloat16);
  EXPECT_EQ(stream.temb.scalar_type(), at::kBFloat16);
  EXPECT_EQ(stream.e6.scalar_type(), at::kBFloat16);
  EXPECT_EQ(net.dit().block(0, stream, token_grid(stored("latents")), false).scalar_type(), at::kBFloat16);
}

// bfloat16 has neither 937 nor 833: a time that is rounded on its way is the largest error there is.
TEST_F(WanGolden, rounded_time_would_be_noticed) {
  const at::Tensor rounded = time().to(at::kBFloat16).to(at::kDouble);
  ASSERT_EQ(rounded[0].item<double>(), 936);
  ASSERT_EQ(rounded[1].item<double>(), 832);

  EXPECT_GT(relative(output(Network(at::kFloat), rounded), stored("output")), 5 * kBf16WideStream);
  EXPECT_GT(relative(output(Network(at::kBFloat16), rounded), stored("output")), kBf16WideStream);
  EXPECT_GT(relative(output(Network(at::kBFloat16, false, at::kBFloat16), rounded), stored("output.bf16")),
            kBf16Diffusers);
}

}  // namespace
}  // namespace tmd::model
