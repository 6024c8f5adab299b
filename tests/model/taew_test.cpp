#include "model/taew.h"

#include <cmath>
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "expect_digits.h"
#include "integer_hash.h"
#include "safetensors_example.h"
#include "tests/data/expect_error.h"

namespace tmd::model {
namespace {

using data::expect_error;
using test::hashed_tensor;
using test::largest_difference;
using test::SafetensorsExample;
using Tensors = std::map<std::string, at::Tensor>;

sharding::UnitSpec unit() {
  return declare<TaewWeights>("taew", [](auto& v, auto& w) { visit(v, w); });
}

// The self-contained reference at full size: every weight from the integer hash, values in float64 from
// independent implementations (Wan 10.3). k follows the sorted names.
const Tensors& reference_weights() {
  static const Tensors weights = [] {
    std::map<std::string, sharding::ParamSpec> params;
    for (const auto& param : unit().params) params.emplace(param.name, param);
    Tensors tensors;
    uint64_t k = 0;
    for (const auto& [name, param] : params) {
      const at::Tensor u = hashed_tensor(k++, param.shape);
      const double fan_in = static_cast<double>(param.elements()) / static_cast<double>(param.shape[0]);
      tensors[name] = name.ends_with(".bias") ? 0.1 * u : u * std::sqrt(3 / fan_in);
    }
    return tensors;
  }();
  return weights;
}

TaewDecoder load(const Tensors& tensors, at::ScalarType type) {
  return TaewDecoder::load(SafetensorsExample(tensors).open(), type);
}

const TaewDecoder& reference() {
  static const TaewDecoder decoder = load(reference_weights(), at::kDouble);
  return decoder;
}

// The reference lists frames before channels.
at::Tensor latent() { return (1.5 * hashed_tensor(3000, {1, 3, 16, 2, 3})).transpose(1, 2); }

TEST(Taew, decoder_has_the_published_number_of_parameters) { EXPECT_EQ(unit().elements(), 9844611); }

TEST(Taew, output_equals_the_reference_in_float64) {
  const at::Tensor raw = reference().decode_raw(latent());

  ASSERT_EQ(raw.sizes(), at::IntArrayRef({1, 3, 12, 16, 24}));
  test::expect_digits(
      raw.transpose(1, 2),
      {{-0.089836138, -0.009442827, -0.010938617, 0.013876471}, 0.013650681, -198.079069196, 388.115675817});
}

TEST(Taew, video_equals_the_reference_after_the_change_of_range) {
  const at::Tensor video = reference().decode(latent());

  ASSERT_EQ(video.sizes(), at::IntArrayRef({1, 3, 9, 16, 24}));
  const at::Tensor zero_to_one = (video + 1) / 2;
  EXPECT_NEAR(zero_to_one.sum().item<double>(), 631.850928028, 1e-9);
  EXPECT_NEAR(zero_to_one.square().sum().item<double>(), 135.090242736, 1e-9);
  EXPECT_EQ(video.min().item<double>(), -1);
}

TEST(Taew, float32_is_near_float64) {
  const TaewDecoder fp32 = load(reference_weights(), at::kFloat);
  EXPECT_EQ(fp32.decode(latent()).scalar_type(), at::kFloat);
  // Up to 2.4e-6 was seen, by the order in which the convolutions of a machine add.
  EXPECT_LT(largest_difference(fp32.decode(latent()), reference().decode(latent())), 1e-5);
}

TEST(Taew, later_latents_do_not_change_earlier_frames) {
  EXPECT_EQ(reference().decode(latent().narrow(2, 0, 1)).sizes(), at::IntArrayRef({1, 3, 1, 16, 24}));
  EXPECT_LT(largest_difference(reference().decode(latent().narrow(2, 0, 2)),
                               reference().decode(latent()).narrow(2, 0, 5)),
            1e-12);
}

TEST(Taew, clips_of_a_batch_do_not_mix) {
  const at::Tensor two = hashed_tensor(2, {2, 16, 2, 2, 1});
  const at::Tensor decoded = reference().decode(two);
  ASSERT_EQ(decoded.sizes(), at::IntArrayRef({2, 3, 5, 16, 8}));
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_LT(largest_difference(reference().decode(two.narrow(0, i, 1)), decoded.narrow(0, i, 1)), 1e-12);
  }
}

TEST(Taew, encoder_of_the_file_is_not_looked_at) {
  Tensors tensors = reference_weights();
  tensors["encoder.0.weight"] = at::arange(3);
  EXPECT_TRUE(load(tensors, at::kDouble).decode(latent()).equal(reference().decode(latent())));
}

TEST(Taew, tensors_that_do_not_fit_are_named_at_once) {
  Tensors tensors = reference_weights();
  tensors.erase("decoder.13.conv.weight");
  tensors["decoder.22.weight"] = at::zeros({12, 64, 3, 3});  // as in the file for Wan2.2
  tensors["decoder.23.weight"] = at::zeros({1});
  for (const std::string part : {"decoder.13.conv.weight is missing", "decoder.23.weight is not in the model",
                                 "decoder.22.weight is [12, 64, 3, 3], not [3, 64, 3, 3]"}) {
    expect_error(ErrorKind::kData, part, [&] { load(tensors, at::kFloat); });
  }
  expect_error(ErrorKind::kData, "decoder.1.weight is missing", [] {
    load({{"blocks.0.self_attn.q.weight", at::zeros({4, 4})}}, at::kFloat);
  });
}

TEST(Taew, latents_of_other_shapes_are_refused) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{1, 48, 1, 2, 2}, {16, 1, 2, 2}, {1, 16, 0, 2, 2}}) {
    expect_error(ErrorKind::kData, "TAEW2.1 decodes latents [B, 16, T, h, w], not",
                 [&] { reference().decode(at::zeros(shape)); });
  }
}

}  // namespace
}  // namespace tmd::model
