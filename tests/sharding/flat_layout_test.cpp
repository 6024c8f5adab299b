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

// "b" stays wide.
UnitSpec mixed_unit() {
  UnitSpec unit = odd_unit();
  unit.params[1].wide = true;
  return unit;
}

void expect_covered_once(const UnitSpec& unit, int ranks, bool separate_wide) {
  const FlatLayout layout(unit, ranks, separate_wide);
  std::map<std::string, std::vector<int>> seen;
  for (const ParamSpec& param : unit.params)
    seen[param.name].assign(static_cast<size_t>(param.elements()), 0);
  for (int rank = 0; rank < ranks; ++rank) {
    int64_t end = 0;
    for (const ShardSegment& segment : layout.segments(unit, rank)) {
      EXPECT_GE(segment.shard_offset, end) << "segments overlap or are not in order";
      end = segment.shard_offset + segment.slice.elements();
      EXPECT_LE(end, layout.shard_elements());
      for (int64_t i = segment.slice.flat_begin; i < segment.slice.flat_end; ++i)
        ++seen[segment.slice.name][static_cast<size_t>(i)];
    }
  }
  for (const auto& [name, counts] : seen) {
    for (int count : counts) EXPECT_EQ(count, 1) << name << " on " << ranks << " ranks";
  }
}

}  // namespace

TEST(FlatLayout, slices_of_all_ranks_cover_every_element_once) {
  for (int ranks : {1, 2, 3, 4, 7, 40}) {
    expect_covered_once(odd_unit(), ranks, false);
    expect_covered_once(mixed_unit(), ranks, true);
  }
}

TEST(FlatLayout, wide_parameters_form_a_part_in_front) {
  const UnitSpec unit = mixed_unit();
  for (int ranks : {1, 3}) {
    const FlatLayout layout(unit, ranks, /*separate_wide=*/true);
    ASSERT_EQ(layout.parts().size(), 2u);
    EXPECT_TRUE(layout.parts()[0].wide);
    EXPECT_EQ(layout.offset(1), 0);
    EXPECT_EQ(layout.part(1), 0);
    EXPECT_EQ(layout.part(0), 1);
    EXPECT_EQ(layout.parts()[1].begin, layout.parts()[0].elements);
    EXPECT_EQ(layout.parts()[1].shard_begin, layout.parts()[0].shard_elements);
    for (const FlatPart& part : layout.parts()) EXPECT_EQ(part.shard_elements * ranks, part.elements);
    for (const ShardSegment& segment : layout.segments(unit, ranks - 1)) {
      const FlatPart& part = layout.parts()[segment.part];
      EXPECT_EQ(part.wide, unit.params[segment.param].wide);
      EXPECT_GE(segment.shard_offset, part.shard_begin);
      EXPECT_LE(segment.shard_offset + segment.slice.elements(), part.shard_begin + part.shard_elements);
    }
  }
}

TEST(FlatLayout, without_separation_there_is_one_part) {
  EXPECT_EQ(FlatLayout(mixed_unit(), 3).parts().size(), 1u);
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
