#include <unistd.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/host_memory.h"
#include "comm/agree.h"
#include "model/weights_file.h"
#include "mpi_main.h"
#include "sharding/initialise.h"
#include "weights_example.h"

namespace tmd::model {
namespace {

namespace fs = std::filesystem;
using sharding::ShardedNetwork;

constexpr int64_t kRows = 40'001;  // 1.3 million elements: headers do not count

/// A network over all ranks and a folder that they share.
class WeightsFileOverRanks : public testing::Test {
 protected:
  WeightsFileOverRanks()
      : mesh_({.replicate = 1, .shard = test::world().size(), .sequence = 1, .tensor = 1}, test::world()),
        network_(make(at::kFloat, false)),
        folder_(fs::temp_directory_path() / ("tmd-weights-" + std::to_string(id_of_rank_0()))) {
    sharding::initialise(network_, 3);
    fs::create_directories(folder_);
  }
  ~WeightsFileOverRanks() override {
    comm::run_agreed(test::world(), [] {});  // all have read
    if (test::world().rank() == 0) fs::remove_all(folder_);
    mesh_.close();
  }

  static int64_t id_of_rank_0() {
    return comm::agree_max(test::world(), test::world().rank() == 0 ? static_cast<int64_t>(getpid()) : 0);
  }
  ShardedNetwork make(at::ScalarType type, bool trainable) {
    return {"teacher", test::odd_units(kRows), mesh_, type, trainable, buffers_};
  }
  SafetensorsSet save(const SaveOptions& options) {
    comm::run_agreed(test::world(), [&] { save_weights(network_, folder_, "m", options); });
    return SafetensorsSet(folder_ /
                          (options.largest_file > 0 ? "m.safetensors.index.json" : "m.safetensors"));
  }
  /// Loads on every rank and returns the bytes that all of them have read.
  static double load(ShardedNetwork& network, const fs::path& path) {
    const uint64_t before = bytes_read_by_process();
    load_weights(network, SafetensorsSet(path));
    double sums[] = {static_cast<double>(bytes_read_by_process() - before)};
    comm::sum(test::world(), sums);
    return sums[0];
  }

  sharding::Mesh mesh_;
  sharding::GatherBuffers buffers_;
  ShardedNetwork network_;
  fs::path folder_;
};

TEST_F(WeightsFileOverRanks, float32_shards_come_back_bit_for_bit_from_one_file_and_from_several) {
  for (const uint64_t largest : {uint64_t{0}, uint64_t{2'800'000}}) {
    const SafetensorsSet set = save({.largest_file = largest});
    EXPECT_EQ(set.files().size(), largest > 0 ? 2u : 1u);
    ShardedNetwork other = make(at::kFloat, true);
    sharding::initialise(other, 4);

    load(other, set.path());

    for (int unit = 0; unit < network_.units(); ++unit)
      EXPECT_TRUE(test::same_bits(network_.shard(unit).master, other.shard(unit).master));
  }
}

TEST_F(WeightsFileOverRanks, half_types_round_once) {
  for (const auto& [dtype, type] : {std::pair{"BF16", at::kBFloat16}, {"F16", at::kHalf}}) {
    const SafetensorsSet set = save({.dtype = dtype});
    ShardedNetwork other = make(at::kFloat, false);
    load(other, set.path());
    for (int unit = 0; unit < network_.units(); ++unit) {
      const at::Tensor expected = network_.shard(unit).master.to(type).to(at::kFloat);
      EXPECT_TRUE(test::same_bits(other.shard(unit).master, expected)) << dtype;
    }
  }
}

// Over the ranks every byte is read once, whatever the types, and headers weigh next to nothing.
TEST_F(WeightsFileOverRanks, ranks_together_read_the_file_once) {
  for (const char* dtype : {"F32", "BF16"}) {
    const SafetensorsSet set = save({.dtype = dtype, .largest_file = 1 << 20});
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      ShardedNetwork other = make(type, false);

      const double bytes = load(other, set.path());

      EXPECT_GE(bytes, static_cast<double>(set.data_bytes()));
      EXPECT_LE(bytes, 1.02 * static_cast<double>(set.data_bytes())) << dtype << type;
    }
  }
}

TEST_F(WeightsFileOverRanks, frozen_network_in_bfloat16_reads_bfloat16_and_keeps_wide_parameters) {
  const SafetensorsSet half = save({.dtype = "BF16"});
  ShardedNetwork straight = make(at::kBFloat16, false), rounded = make(at::kBFloat16, false);
  load(straight, half.path());
  const SafetensorsSet full = save({});
  load(rounded, full.path());

  const auto is_equal = [](const at::Tensor& a, const at::Tensor& b) { return test::same_bits(a, b); };
  EXPECT_TRUE(is_equal(straight.full_parameter("front.weight"), rounded.full_parameter("front.weight")));
  EXPECT_TRUE(is_equal(rounded.full_parameter("front.norm"), network_.full_parameter("front.norm")));
  EXPECT_FALSE(is_equal(straight.full_parameter("front.norm"), network_.full_parameter("front.norm")));
}

// Rank 0 alone writes; that it cannot is known to all.
TEST_F(WeightsFileOverRanks, failure_of_the_writing_rank_reaches_every_rank) {
  std::optional<ErrorKind> kind;
  try {
    comm::run_agreed(test::world(), [&] { save_weights(network_, folder_ / "none", "m", {}); });
  } catch (const Error& error) {
    kind = error.kind();
  }
  EXPECT_EQ(kind, ErrorKind::kIo);
}

// Whatever it throws, the others wait in a gather for it.
TEST_F(WeightsFileOverRanks, any_exception_of_the_writing_rank_reaches_every_rank) {
  int calls = 0;
  const NameInFile fails_when_written = [&calls](const std::string& name) {
    if (++calls > 5) throw std::runtime_error("no name");  // files are planned with the five names first
    return name;
  };
  std::optional<ErrorKind> kind;
  try {
    comm::run_agreed(test::world(),
                     [&] { save_weights(network_, folder_, "m", {.name_in_file = fails_when_written}); });
  } catch (const Error& error) {
    kind = error.kind();
  }
  EXPECT_EQ(kind, ErrorKind::kInternal);
}

}  // namespace
}  // namespace tmd::model
