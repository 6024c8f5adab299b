#include "model/weights_file.h"

#include <limits>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "../data/temporary_folder.h"
#include "../support/error_of.h"
#include "../support/test_mesh.h"
#include "base/file.h"
#include "safetensors_example.h"
#include "sharding/initialise.h"
#include "wan_folder.h"
#include "weights_example.h"

namespace tmd::model {
namespace {

namespace fs = std::filesystem;
using sharding::ShardedNetwork;
using test::error_of;

std::string prefixed(const std::string& name) { return "net." + name; }

class WeightsFile : public testing::Test {
 protected:
  WeightsFile() : network_(make(at::kFloat, false)) { sharding::initialise(network_, 4); }

  ShardedNetwork make(at::ScalarType type, bool trainable, int64_t rows = 33) {
    return {"teacher", test::odd_units(rows), one_.mesh, type, trainable, one_.buffers};
  }
  fs::path save(const SaveOptions& options) {
    save_weights(network_, folder_.path(), "m", options);
    return folder_ / "m.safetensors";
  }
  nlohmann::json read_index() const {
    const File file = File::open_to_read(folder_ / "m.safetensors.index.json");
    std::string text(file.size_bytes(), ' ');
    file.read_at(0, std::as_writable_bytes(std::span(text)));
    return nlohmann::json::parse(text);
  }

  test::SingleMesh one_;
  data::TemporaryFolder folder_;
  ShardedNetwork network_;
};

TEST_F(WeightsFile, float32_round_trip_is_exact_and_keeps_shapes_and_metadata) {
  const SafetensorsSet set(save({.metadata = {{"what", "test"}}}));
  ShardedNetwork other = make(at::kFloat, true);

  load_weights(other, set);

  EXPECT_FALSE(test::same_shards(network_, make(at::kFloat, false))) << "a new network is another one";
  for (const char* name : {"front.weight", "front.norm", "back.patch", "back.weight", "back.bias"})
    EXPECT_TRUE(test::same_bits(other.full_parameter(name), network_.full_parameter(name))) << name;
  EXPECT_EQ(set.metadata().at("what"), "test");
  EXPECT_EQ(set.find("back.patch")->entry->shape, (std::vector<int64_t>{5, 3, 1, 2, 2}));
}

TEST_F(WeightsFile, every_element_type_rounds_once_on_the_way) {
  for (const auto& [dtype, type] :
       {std::pair{"BF16", at::kBFloat16}, {"F16", at::kHalf}, {"F32", at::kFloat}, {"F64", at::kDouble}}) {
    const SafetensorsSet set(save({.dtype = dtype}));
    for (const auto& [name, tensor] : set.tensors()) EXPECT_EQ(tensor.entry->dtype, dtype) << name;
    for (const at::ScalarType compute : {at::kFloat, at::kDouble}) {
      ShardedNetwork other = make(compute, false);

      load_weights(other, set);

      const at::Tensor expected = network_.full_parameter("back.weight").to(type).to(compute);
      EXPECT_TRUE(test::same_bits(other.full_parameter("back.weight"), expected)) << dtype << compute;
    }
  }
}

TEST_F(WeightsFile, float64_network_comes_back_exactly) {
  ShardedNetwork wide = make(at::kDouble, false), other = make(at::kDouble, false);
  sharding::initialise(wide, 5);
  save_weights(wide, folder_.path(), "wide", {.dtype = "F64"});
  load_weights(other, SafetensorsSet(folder_ / "wide.safetensors"));
  EXPECT_TRUE(test::same_shards(wide, other));
}

// Not a number with a payload: converting through float32 would make it quiet.
TEST_F(WeightsFile, frozen_network_in_bfloat16_takes_the_bits_of_a_bfloat16_file) {
  const SafetensorsSet set(save({.dtype = "BF16"}));
  const SafetensorsSet::Tensor& stored = *set.find("front.weight");
  {
    File file = File::open_to_write(folder_ / "m.safetensors");
    const uint16_t signalling = 0x7f81;
    file.write_at(file.size_bytes() - set.data_bytes() + stored.entry->begin,
                  std::as_bytes(std::span(&signalling, 1)));
  }
  ShardedNetwork frozen = make(at::kBFloat16, false);

  load_weights(frozen, set);

  const sharding::UnitShard& shard = frozen.shard(0);
  EXPECT_FALSE(shard.master.defined());
  for (const sharding::ShardSegment& segment : shard.segments) {
    const at::Tensor place = shard.place(segment, frozen.layout(0));
    const bool is_wide = segment.slice.name == "front.norm";
    EXPECT_EQ(place.scalar_type(), is_wide ? at::kFloat : at::kBFloat16);
    if (is_wide) continue;
    const std::vector<std::byte> bytes = stored.file->read(*stored.entry);
    ASSERT_EQ(bytes.size(), place.nbytes());
    EXPECT_EQ(std::memcmp(bytes.data(), place.data_ptr(), bytes.size()), 0);
    EXPECT_EQ(static_cast<const uint16_t*>(place.data_ptr())[0], 0x7f81);
  }
}

TEST_F(WeightsFile, wide_parameters_keep_float32_where_the_others_round) {
  const SafetensorsSet set(save({}));
  ShardedNetwork frozen = make(at::kBFloat16, false), trained = make(at::kBFloat16, true);

  load_weights(frozen, set);
  load_weights(trained, set);

  const at::Tensor weight = network_.full_parameter("front.weight");
  EXPECT_TRUE(test::same_bits(frozen.full_parameter("front.norm"), network_.full_parameter("front.norm")));
  EXPECT_TRUE(
      frozen.full_parameter("front.weight").to(at::kFloat).equal(weight.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_TRUE(test::same_bits(trained.full_parameter("front.weight"), weight)) << "masters are float32";
  save_weights(frozen, folder_.path(), "again", {});
  const SafetensorsSet again(folder_ / "again.safetensors");
  EXPECT_EQ(again.find("front.norm")->file->read(*again.find("front.norm")->entry),
            set.find("front.norm")->file->read(*set.find("front.norm")->entry));
}

TEST_F(WeightsFile, tensors_larger_than_the_buffer_are_converted_piece_by_piece) {
  const int64_t rows = (int64_t{1} << 20) / 8 + 3;  // two pieces and a rest
  ShardedNetwork large = make(at::kFloat, false, rows), other = make(at::kFloat, false, rows);
  sharding::initialise(large, 6);
  save_weights(large, folder_.path(), "m", {.dtype = "F16"});

  load_weights(other, SafetensorsSet(folder_ / "m.safetensors"));

  const at::Tensor expected = large.full_parameter("front.weight").to(at::kHalf).to(at::kFloat);
  EXPECT_TRUE(test::same_bits(other.full_parameter("front.weight"), expected));
}

TEST_F(WeightsFile, names_in_the_file_are_those_of_the_spelling) {
  const SafetensorsSet set(save({.name_in_file = prefixed}));
  EXPECT_NE(set.find("net.front.weight"), nullptr);
  EXPECT_EQ(set.find("front.weight"), nullptr);
  ShardedNetwork other = make(at::kFloat, false);

  load_weights(other, set, prefixed);

  EXPECT_TRUE(test::same_shards(network_, other));
  test::expect_bad_data(error_of([&] { load_weights(other, set); }),
                        {"front.weight is missing", "net.front.weight is not in the model"});
}

TEST_F(WeightsFile, all_that_does_not_fit_is_named_at_once_and_nothing_is_loaded) {
  const SafetensorsSet set(save({}));
  auto units = test::odd_units(34);
  units[0].params.push_back({"front.more", {3}, {}});
  units[1].params.pop_back();
  ShardedNetwork other("student", units, one_.mesh, at::kFloat, false, one_.buffers);
  sharding::initialise(other, 1);
  const at::Tensor before = other.full_parameter("front.norm");

  test::expect_bad_data(error_of([&] { load_weights(other, set); }),
                        {(folder_ / "m.safetensors").string() + " does not fit the student",
                         "front.weight is [33, 17], not [34, 17]", "front.more is missing",
                         "back.weight is [33, 16], not [34, 16]", "back.bias is not in the model"});
  EXPECT_TRUE(other.full_parameter("front.norm").equal(before));
}

TEST_F(WeightsFile, trailing_dimensions_may_be_cut_otherwise) {
  const auto load = [&](const std::vector<int64_t>& stored, const std::vector<int64_t>& wanted) {
    const test::SafetensorsExample example(
        {{"w", at::arange(c10::multiply_integers(stored), at::kFloat).view(stored)}});
    ShardedNetwork network("teacher", {{"u", {{"w", wanted, {}}}}}, one_.mesh, at::kFloat, false,
                           one_.buffers);
    load_weights(network, SafetensorsSet(example.path()));
    return network.full_parameter("w");
  };
  EXPECT_TRUE(load({5, 12}, {5, 3, 1, 2, 2}).equal(at::arange(60, at::kFloat).view({5, 3, 1, 2, 2})));
  for (const auto& [stored, wanted] :
       std::vector<std::pair<std::vector<int64_t>, std::vector<int64_t>>>{{{12, 5}, {5, 3, 1, 2, 2}},
                                                                          {{5, 3, 1, 2, 2}, {5, 12}},
                                                                          {{5, 3, 4}, {5, 3, 2, 2}},
                                                                          {{60}, {5, 12}},
                                                                          {{6, 10}, {5, 12}},
                                                                          {{6, 12}, {5, 3, 1, 2, 2}},
                                                                          {{5, 12}, {60}}})
    test::expect_bad_data(error_of([&, s = stored, w = wanted] { load(s, w); }), {"w is ["});
}

TEST_F(WeightsFile, other_element_types_are_refused_with_file_and_tensor) {
  const test::SafetensorsExample example({{"w", at::arange(6)}});
  ShardedNetwork network("teacher", {{"u", {{"w", {6}, {}}}}}, one_.mesh, at::kFloat, false, one_.buffers);
  test::expect_bad_data(error_of([&] { load_weights(network, SafetensorsSet(example.path())); }),
                        {example.path().string(), "tensor w has element type I64"});
  for (const char* dtype : {"I64", "F8_E4M3", "float32", ""})
    EXPECT_EQ(error_of([&] { save({.dtype = dtype}); }).kind(), ErrorKind::kData) << dtype;
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(WeightsFile, numbers_beyond_the_range_of_the_type_are_refused_with_their_tensor) {
  ShardedNetwork large("teacher", {{"u", {{"v", {6}, {}}, {"w", {6}, {}}}}}, one_.mesh, at::kFloat, false,
                       one_.buffers);
  const auto write = [&](float value, const std::string& dtype) {
    sharding::fill_slices(large, [&](const sharding::Slice& slice, at::Tensor out) {
      out.fill_(slice.name == "w" ? value : 1.0F);
    });
    save_weights(large, folder_.path(), "m", {.dtype = dtype, .name_in_file = prefixed});
  };
  const Error error = error_of([&] { write(70'000, "F16"); });
  test::expect_bad_data(error, {"tensor net.w holds 70000"});
  EXPECT_FALSE(fs::exists(folder_ / "m.safetensors"));
  EXPECT_EQ(error_of([&] { write(3.4e38F, "BF16"); }).kind(), ErrorKind::kData);
  write(70'000, "BF16");
  write(65'504, "F16");
  write(std::numeric_limits<float>::infinity(), "F16");  // as it is: nothing gets lost
}

TEST_F(WeightsFile, files_are_checked_without_a_network) {
  const auto check = [](const std::string& dtype, const std::vector<int64_t>& shape) {
    const data::TemporaryFolder folder;
    test::write_zeros(folder / "m.safetensors", {{"w", shape}}, dtype);
    const std::vector<sharding::UnitSpec> units = {{"u", {{"w", {5, 3, 1, 2, 2}, {}}}}};
    check_weights(SafetensorsSet(folder / "m.safetensors"), "model", units);
  };
  EXPECT_NO_THROW(check("F16", {5, 3, 1, 2, 2}));
  EXPECT_NO_THROW(check("BF16", {5, 12}));
  test::expect_bad_data(error_of([&] { check("F32", {12, 5}); }), {"w is [12, 5]"});
  test::expect_bad_data(error_of([&] { check("F8_E4M3", {5, 12}); }), {"tensor w has element type F8_E4M3"});
}

TEST_F(WeightsFile, large_models_are_cut_into_files_with_an_index) {
  const uint64_t limit = 33 * 17 * 2 + 29 * 2;  // the unit "front" in BF16
  save({.dtype = "BF16", .name_in_file = prefixed, .metadata = {{"format", "pt"}}, .largest_file = limit});

  EXPECT_FALSE(fs::exists(folder_ / "m.safetensors"));
  const SafetensorsSet set(folder_ / "m.safetensors.index.json");
  ASSERT_EQ(set.files().size(), 3u);
  std::set<std::string> names;
  for (const SafetensorsFile& file : set.files()) {
    names.insert(file.path().filename().string());
    EXPECT_LE(file.entries().back().end, limit);
    EXPECT_EQ(file.metadata().at("format"), "pt");
  }
  EXPECT_EQ(names, (std::set<std::string>{"m-00001-of-00003.safetensors", "m-00002-of-00003.safetensors",
                                          "m-00003-of-00003.safetensors"}));
  const nlohmann::json index = read_index();
  EXPECT_EQ(index.at("metadata").at("total_size"), set.data_bytes());
  EXPECT_EQ(index.at("weight_map").at("net.front.norm"), "m-00001-of-00003.safetensors");
  ShardedNetwork other = make(at::kFloat, false);
  load_weights(other, set, prefixed);
  const at::Tensor expected = network_.full_parameter("back.weight").to(at::kBFloat16).to(at::kFloat);
  EXPECT_TRUE(test::same_bits(other.full_parameter("back.weight"), expected));
}

TEST_F(WeightsFile, tensor_beyond_the_limit_has_a_file_of_its_own) {
  save({.largest_file = 1});
  const SafetensorsSet set(folder_ / "m.safetensors.index.json");
  EXPECT_EQ(set.files().size(), 5u);
  ShardedNetwork other = make(at::kFloat, false);
  load_weights(other, set);
  EXPECT_TRUE(test::same_shards(network_, other));
}

TEST_F(WeightsFile, model_that_fits_the_limit_is_one_file) {
  const SafetensorsSet set(save({.largest_file = 1 << 20}));
  EXPECT_EQ(set.files().size(), 1u);
  EXPECT_FALSE(fs::exists(folder_ / "m.safetensors.index.json"));
}

TEST_F(WeightsFile, folder_that_is_not_there_is_an_io_error) {
  EXPECT_EQ(error_of([&] { save_weights(network_, folder_ / "none", "m", {}); }).kind(), ErrorKind::kIo);
}

}  // namespace
}  // namespace tmd::model
