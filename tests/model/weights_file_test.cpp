#include "model/weights_file.h"

#include <filesystem>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"
#include "base/error.h"
#include "model/mlp.h"
#include "sharding/initialise.h"

namespace tmd::model {
namespace {

class WeightsFile : public testing::Test {
 protected:
  WeightsFile() : network_("mlp", mlp_units({}), one_.mesh, at::kFloat, false, one_.buffers) {
    sharding::initialise(network_, 4);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  test::SingleMesh one_;
  sharding::ShardedNetwork network_;
  std::filesystem::path path_ = std::filesystem::temp_directory_path() / "tmd_weights_file_test.safetensors";
};

TEST_F(WeightsFile, float32_round_trip_is_exact) {
  save_weights(network_, path_, "F32", {{"what", "test"}});
  sharding::ShardedNetwork other("mlp", mlp_units({}), one_.mesh, at::kFloat, false, one_.buffers);

  load_weights(other, SafetensorsFile(path_));

  EXPECT_TRUE(other.shard(0).master.equal(network_.shard(0).master));
  EXPECT_EQ(SafetensorsFile(path_).metadata().at("what"), "test");
}

TEST_F(WeightsFile, half_types_round_as_the_type_does) {
  for (const auto& [dtype, type] : {std::pair{"BF16", at::kBFloat16}, std::pair{"F16", at::kHalf}}) {
    save_weights(network_, path_, dtype, {});
    sharding::ShardedNetwork other("mlp", mlp_units({}), one_.mesh, at::kFloat, false, one_.buffers);

    load_weights(other, SafetensorsFile(path_));

    const at::Tensor expected = network_.full_parameter("mlp.out.weight").to(type).to(at::kFloat);
    EXPECT_TRUE(other.full_parameter("mlp.out.weight").equal(expected)) << dtype;
  }
}

TEST_F(WeightsFile, all_that_does_not_fit_is_named_at_once) {
  save_weights(network_, path_, "F32", {});
  MlpConfig wider;
  wider.width = 65;
  wider.hidden_layers = 4;
  sharding::ShardedNetwork other("mlp", mlp_units(wider), one_.mesh, at::kFloat, false, one_.buffers);
  try {
    load_weights(other, SafetensorsFile(path_));
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kData);
    const std::string text = e.what();
    EXPECT_NE(text.find("mlp.hidden.3.weight is missing"), std::string::npos) << text;
    EXPECT_NE(text.find("mlp.out.weight is [2, 64], not [2, 65]"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace tmd::model
