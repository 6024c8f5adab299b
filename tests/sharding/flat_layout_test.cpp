#include "sharding/flat_layout.h"

#include <map>

#include <gtest/gtest.h>

#include "base/error.h"

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

// "a" is cut by rows, "c" by columns.
UnitSpec split_unit(int64_t multiple) {
  UnitSpec unit = mixed_unit();
  unit.params[0].shape = {3 * multiple, 5};
  unit.params[0].split_dim = 0;
  unit.params[2].shape = {7, 11 * multiple};
  unit.params[2].split_dim = 1;
  return unit;
}

void expect_covered_once(const UnitSpec& unit, ShardExtents extents, bool separate_wide) {
  const FlatLayout layout(unit, extents, separate_wide);
  const int ranks = extents.ranks();
  std::map<std::string, std::vector<int>> seen;
  for (const ParamSpec& param : unit.params)
    seen[param.name].assign(static_cast<size_t>(param.elements()), 0);
  EXPECT_EQ(layout.piece_elements() * extents.pieces, layout.shard_elements());
  for (int rank = 0; rank < ranks; ++rank) {
    for (int piece = 0; piece < extents.pieces; ++piece) {
      int64_t end = 0;
      for (const ShardSegment& segment : layout.piece_segments(unit, rank, piece)) {
        EXPECT_GE(segment.shard_offset, end) << "segments overlap or are not in order";
        end = segment.shard_offset + segment.slice.elements();
        EXPECT_LE(end, layout.piece_elements());
        for (int64_t i = segment.slice.flat_begin; i < segment.slice.flat_end; ++i)
          ++seen[segment.slice.name][static_cast<size_t>(segment.slice.place_in_tensor(i))];
      }
    }
  }
  for (const auto& [name, counts] : seen) {
    for (int count : counts) EXPECT_EQ(count, 1) << name << " on " << ranks << " ranks";
  }
}

}  // namespace

TEST(FlatLayout, slices_of_all_ranks_cover_every_element_once) {
  for (int ranks : {1, 2, 3, 4, 7, 40}) {
    expect_covered_once(odd_unit(), {.shards = ranks}, false);
    expect_covered_once(mixed_unit(), {.shards = ranks}, true);
  }
}

TEST(FlatLayout, pieces_of_shards_cover_every_element_once) {
  for (int pieces : {2, 3, 8}) {
    for (int shards : {1, 2, 5}) {
      expect_covered_once(odd_unit(), {.shards = shards, .pieces = pieces}, false);
      expect_covered_once(split_unit(3), {.shards = shards, .tensor = 3, .pieces = pieces}, true);
    }
  }
}

// Piece p of a shard is the p-th range of each of its parts.
TEST(FlatLayout, pieces_lie_in_their_shard) {
  const UnitSpec unit = mixed_unit();
  const FlatLayout layout(unit, {.shards = 2, .pieces = 2}, /*separate_wide=*/true);
  int found = 0;
  for (const int rank : {0, 1}) {
    for (const int piece : {0, 1}) {
      for (const ShardSegment& in_piece : layout.piece_segments(unit, rank, piece)) {
        const FlatPart& part = layout.parts()[in_piece.part];
        const int64_t at = part.shard_begin + piece * part.piece_elements + in_piece.shard_offset -
                           part.piece_begin;  // in the shard
        for (const ShardSegment& in_shard : layout.segments(unit, rank)) {
          if (in_shard.param != in_piece.param) continue;
          ++found;
          EXPECT_EQ(at - in_shard.shard_offset, in_piece.slice.flat_begin - in_shard.slice.flat_begin);
        }
      }
    }
  }
  EXPECT_GT(found, 4);
}

TEST(FlatLayout, slices_of_tensor_ranks_cover_every_element_once) {
  for (int tensor : {2, 3, 4}) {
    for (int shards : {1, 2, 3, 7}) {
      expect_covered_once(split_unit(tensor), {.shards = shards, .tensor = tensor}, false);
      expect_covered_once(split_unit(tensor), {.shards = shards, .tensor = tensor}, true);
    }
  }
}

TEST(FlatLayout, what_tensor_ranks_share_is_cut_over_them_too) {
  const UnitSpec unit = split_unit(2);
  const FlatLayout layout(unit, {.shards = 3, .tensor = 2});
  ASSERT_EQ(layout.parts().size(), 2u);
  EXPECT_FALSE(layout.parts()[0].split);
  EXPECT_EQ(layout.parts()[0].shards, 6);
  EXPECT_TRUE(layout.parts()[1].split);
  EXPECT_EQ(layout.parts()[1].shards, 3);
  EXPECT_EQ(layout.part(1), 0);
  EXPECT_EQ(layout.part(0), 1);
  EXPECT_EQ(layout.part(2), 1);
}

TEST(FlatLayout, extents_that_do_not_divide_are_an_internal_error) {
  const UnitSpec unit = split_unit(2);
  EXPECT_THROW((FlatLayout(unit, {.shards = 1, .tensor = 5}).segments(unit, 0)), Error);
}

TEST(Slice, runs_of_a_block_stand_in_a_row_in_the_tensor) {
  Slice slice{.name = "w", .full_shape = {3, 8}, .split_dim = 1, .split_begin = 4, .split_count = 2};
  EXPECT_EQ(slice.run_elements(), 2);
  EXPECT_EQ(slice.place_in_tensor(0), 4);
  EXPECT_EQ(slice.place_in_tensor(1), 5);
  EXPECT_EQ(slice.place_in_tensor(2), 12);
  slice = {.name = "w", .full_shape = {6, 4}, .split_dim = 0, .split_begin = 3, .split_count = 3};
  EXPECT_EQ(slice.run_elements(), 12);
  EXPECT_EQ(slice.place_in_tensor(5), 17);
  slice = {.name = "w", .full_shape = {6, 4}};
  EXPECT_EQ(slice.place_in_tensor(5), 5);
}

TEST(FlatLayout, wide_parameters_form_a_part_in_front) {
  const UnitSpec unit = mixed_unit();
  for (int ranks : {1, 3}) {
    const FlatLayout layout(unit, {.shards = ranks}, /*separate_wide=*/true);
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
  EXPECT_EQ(FlatLayout(mixed_unit(), {.shards = 3}).parts().size(), 1u);
}

TEST(FlatLayout, parameters_are_aligned_and_shards_equal) {
  const FlatLayout layout(odd_unit(), {.shards = 3});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(layout.offset(i) % FlatLayout::kAlignment, 0);
  EXPECT_EQ(layout.elements() % 3, 0);
  EXPECT_EQ(layout.shard_elements() * 3, layout.elements());
}

TEST(FlatLayout, more_ranks_than_content_leaves_some_without_slices) {
  const FlatLayout layout(odd_unit(), {.shards = 40});
  EXPECT_TRUE(layout.segments(odd_unit(), 39).empty());
}

}  // namespace tmd::sharding
