#include "sharding/flat_layout.h"

#include <map>

#include <gtest/gtest.h>

namespace tmd::sharding {
namespace {

UnitSpec odd_unit() {
  return {"unit",
          {{"a", {3, 5}, Initialiser::constant(0)},
           {"b", {1}, Initialiser::constant(0)},
           {"c", {7, 11}, Initialiser::constant(0)}}};
}

}  // namespace

TEST(FlatLayout, slices_of_all_ranks_cover_every_element_once) {
  const UnitSpec unit = odd_unit();
  for (int ranks : {1, 2, 3, 4, 7, 40}) {
    const FlatLayout layout(unit, ranks);
    std::map<std::string, std::vector<int>> seen;
    for (const ParamSpec& param : unit.params)
      seen[param.name].assign(static_cast<size_t>(param.elements()), 0);
    for (int rank = 0; rank < ranks; ++rank) {
      for (const ShardSegment& segment : layout.segments(unit, rank)) {
        EXPECT_GE(segment.shard_offset, 0);
        EXPECT_LE(segment.shard_offset + segment.slice.elements(), layout.shard_elements());
        for (int64_t i = segment.slice.flat_begin; i < segment.slice.flat_end; ++i)
          ++seen[segment.slice.name][static_cast<size_t>(i)];
      }
    }
    for (const auto& [name, counts] : seen) {
      for (int count : counts) EXPECT_EQ(count, 1) << name << " on " << ranks << " ranks";
    }
  }
}

TEST(FlatLayout, parameters_are_aligned_and_shards_equal) {
  const FlatLayout layout(odd_unit(), 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(layout.offset(i) % FlatLayout::kAlignment, 0);
  EXPECT_EQ(layout.elements() % 3, 0);
  EXPECT_EQ(layout.shard_elements() * 3, layout.elements());
}

TEST(FlatLayout, more_ranks_than_content_leaves_some_without_slices) {
  const FlatLayout layout(odd_unit(), 40);
  EXPECT_TRUE(layout.segments(odd_unit(), 39).empty());
}

}  // namespace tmd::sharding
