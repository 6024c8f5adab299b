#include "checkpoint/manifest.h"

#include <fstream>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

Manifest example() {
  Manifest manifest;
  manifest.description = {
      .step = 2000,
      .mesh = {.replicate = 1, .shard = 2, .sequence = 1, .tensor = 1},
      .experiment_hash = 0xfedcba9876543210u,
      .code_version = "0.1.0",
      .state = {{"stage", "stage2"}, {"cursor", 16000}, {"lr", 0.1}, {"quarantine", {3, 7}}}};
  sharding::Slice whole{.name = "head.bias", .full_shape = {6}, .flat_begin = 0, .flat_end = 6};
  sharding::Slice rows{.name = "blocks.0.q.weight",
                       .full_shape = {4, 8},
                       .split_dim = 0,
                       .split_begin = 2,
                       .split_count = 2,
                       .flat_begin = 3,
                       .flat_end = 16};
  manifest.parts.push_back({.key = "student.master",
                            .dtype = "F32",
                            .rank = 1,
                            .file = "rank_00001.student.safetensors",
                            .tensor = "student.master",
                            .size_bytes = 96,
                            .slices = {{whole, 0}, {rows, 32}},
                            .block_hashes = {0x0123456789abcdefu}});
  return manifest;
}

Error refused(const std::string& text) {
  try {
    parse_manifest(text, "runs/x/manifest.json");
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("runs/x/manifest.json"), std::string::npos) << error.what();
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(ErrorKind::kInternal, "");
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Manifest, round_trip_keeps_everything) {
  Manifest manifest = example();

  Manifest again = parse_manifest(to_json(manifest), "m");

  EXPECT_EQ(again.parts, manifest.parts);
  EXPECT_EQ(again.description.step, 2000);
  EXPECT_EQ(again.description.mesh, manifest.description.mesh);
  EXPECT_EQ(again.description.experiment_hash, manifest.description.experiment_hash);
  EXPECT_EQ(again.description.code_version, "0.1.0");
  EXPECT_EQ(again.description.state, manifest.description.state);
  EXPECT_NE(again.find(1, "student.master"), nullptr);
  EXPECT_EQ(again.find(0, "student.master"), nullptr);
}

TEST(Manifest, layout_of_the_text_does_not_matter) {
  nlohmann::json json = nlohmann::json::parse(to_json(example()));
  EXPECT_EQ(parse_manifest(json.dump(), "m").parts, example().parts);
  EXPECT_EQ(parse_manifest(json.dump(7), "m").parts, example().parts);
}

TEST(Manifest, any_changed_value_is_damage) {
  std::string text = to_json(example());
  EXPECT_EQ(refused(replaced(text, "16000", "16001")).kind(), ErrorKind::kIo);
  EXPECT_EQ(refused(replaced(text, "\"step\": 2000", "\"step\": 2001")).kind(), ErrorKind::kIo);
  EXPECT_EQ(refused(replaced(text, "0123456789abcdef", "0123456789abcdee")).kind(), ErrorKind::kIo);
  EXPECT_EQ(refused(replaced(text, "\"offset\": 32", "\"offset\": 36")).kind(), ErrorKind::kIo);
}

TEST(Manifest, broken_text_is_damage) {
  std::string text = to_json(example());
  EXPECT_EQ(refused("").kind(), ErrorKind::kIo);
  EXPECT_EQ(refused(text.substr(0, text.size() / 2)).kind(), ErrorKind::kIo);
  EXPECT_EQ(refused("[]").kind(), ErrorKind::kIo);
  EXPECT_EQ(refused("{}").kind(), ErrorKind::kIo);
}

TEST(Manifest, other_format_and_newer_version_are_not_damage) {
  std::string text = to_json(example());
  EXPECT_EQ(refused(replaced(text, "tmd-checkpoint", "other-thing")).kind(), ErrorKind::kData);
  Error newer = refused(replaced(text, "\"version\": 1", "\"version\": 2"));
  EXPECT_EQ(newer.kind(), ErrorKind::kData);
  EXPECT_NE(std::string(newer.what()).find("version 2"), std::string::npos) << newer.what();
}

TEST(Manifest, missing_file_is_an_io_error) {
  try {
    read_manifest("/nonexistent");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
  }
}

TEST(Manifest, impossible_parts_are_refused_in_spite_of_a_right_checksum) {
  Manifest outside = example();
  outside.parts[0].file = "../rank_00001.student.safetensors";
  EXPECT_EQ(refused(to_json(outside)).kind(), ErrorKind::kIo);
  Manifest hashes = example();
  hashes.parts[0].block_hashes.push_back(1);
  EXPECT_EQ(refused(to_json(hashes)).kind(), ErrorKind::kIo);
  Manifest overlap = example();
  overlap.parts[0].slices[1].byte_offset = 20;
  EXPECT_EQ(refused(to_json(overlap)).kind(), ErrorKind::kIo);
}

struct SliceFault {
  const char* situation;
  PlacedSlice placed;
};

TEST(FaultOfSlices, slices_must_fit_tensor_and_part) {
  auto slice = [](std::vector<int64_t> shape, int dim, int64_t begin, int64_t count, int64_t from,
                  int64_t to) { return sharding::Slice{"w", shape, dim, begin, count, from, to}; };
  EXPECT_EQ(fault_of_slices({{slice({2, 3}, -1, 0, 0, 0, 6), 0}}, "F32", 24), "");
  EXPECT_EQ(fault_of_slices({{slice({}, -1, 0, 0, 0, 1), 4}}, "F32", 8), "");
  EXPECT_EQ(fault_of_slices({{slice({2, 3}, 1, 1, 2, 4, 4), 24}}, "F32", 24), "");
  std::vector<SliceFault> faults = {{"more elements than the tensor", {slice({2, 3}, -1, 0, 0, 0, 7), 0}},
                                    {"more elements than its block", {slice({2, 3}, 1, 0, 2, 0, 5), 0}},
                                    {"negative begin", {slice({2, 3}, -1, 0, 0, -1, 3), 0}},
                                    {"reversed range", {slice({2, 3}, -1, 0, 0, 3, 2), 0}},
                                    {"no such dimension", {slice({2, 3}, 2, 0, 1, 0, 1), 0}},
                                    {"block beyond the extent", {slice({2, 3}, 1, 2, 2, 0, 1), 0}},
                                    {"negative extent", {slice({-2, 3}, -1, 0, 0, 0, 0), 0}},
                                    {"overflowing shape", {slice({INT64_MAX, 3}, -1, 0, 0, 0, 1), 0}},
                                    {"beyond the part", {slice({2, 3}, -1, 0, 0, 0, 6), 4}},
                                    {"between two elements", {slice({2, 3}, -1, 0, 0, 0, 2), 2}}};
  for (const SliceFault& fault : faults) {
    EXPECT_NE(fault_of_slices({fault.placed}, "F32", 24), "") << fault.situation;
  }
  EXPECT_NE(fault_of_slices({}, "F32", 23), "");
  EXPECT_NE(fault_of_slices({}, "F4", 24), "");
}

}  // namespace
}  // namespace tmd::checkpoint
