// A checkpoint of version 1 that was written once and is stored with the tests must stay readable.

#include <array>

#include <gtest/gtest.h>

#include "checkpoint/reader.h"
#include "checkpoint/store.h"
#include "comm/single_communicator.h"

namespace tmd::checkpoint {
namespace {

constexpr const char* kStored = "tests/checkpoint/format_v1";

TEST(Format, stored_checkpoint_of_version_1_loads) {
  comm::SingleCommunicator comm("format");
  sharding::Slice bias{.name = "head.bias", .full_shape = {3}, .flat_begin = 0, .flat_end = 3};
  sharding::Slice rows{.name = "blocks.0.q.weight",
                       .full_shape = {2, 4},
                       .split_dim = 1,
                       .split_begin = 2,
                       .split_count = 2,
                       .flat_begin = 1,
                       .flat_end = 4};
  std::array<float, 8> master{};
  std::array<float, 3> moment{};
  std::vector<PartToLoad> parts = {
      {"student.master", "F32", {{bias, 0}, {rows, 16}}, std::as_writable_bytes(std::span(master))},
      {"student.moment", "F32", {{bias, 0}}, std::as_writable_bytes(std::span(moment))}};

  Description description =
      load(comm, comm, Store(kStored).folder(20), [&](const Description&) { return parts; });

  EXPECT_EQ(master, (std::array<float, 8>{0.5f, 1.5f, 2.5f, 0.0f, 10.0f, 11.0f, 12.0f, 0.0f}));
  EXPECT_EQ(moment, (std::array<float, 3>{-1.0f, -2.0f, -3.0f}));
  EXPECT_EQ(description.step, 20);
  EXPECT_EQ(description.experiment_hash, 0x0123456789abcdefu);
  EXPECT_EQ(description.code_version, "0.1.0");
  EXPECT_EQ(description.state.at("cursor"), 160);
}

}  // namespace
}  // namespace tmd::checkpoint
