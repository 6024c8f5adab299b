#include "sharding/mesh.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::sharding {
namespace {

void expect_refused(const MeshShape& wanted, int64_t ranks, int64_t heads, const std::string& text) {
  try {
    resolve_mesh(wanted, ranks, heads);
    ADD_FAILURE() << "accepted " << wanted.to_string();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kConfig);
    EXPECT_NE((std::string(e.what()) + e.hint()).find(text), std::string::npos)
        << e.what() << " | " << e.hint();
  }
}

}  // namespace

TEST(ResolveMesh, zero_fills_what_is_left) {
  EXPECT_EQ(resolve_mesh({1, 0, 1, 1}, 6, 8), (MeshShape{1, 6, 1, 1}));
  EXPECT_EQ(resolve_mesh({2, 0, 1, 1}, 6, 8), (MeshShape{2, 3, 1, 1}));
  EXPECT_EQ(resolve_mesh({0, 3, 1, 1}, 6, 8), (MeshShape{2, 3, 1, 1}));
}

TEST(ResolveMesh, impossible_shapes_name_the_legal_values) {
  expect_refused({4, 0, 1, 1}, 6, 8, "1, 2, 3, 6");
  expect_refused({2, 2, 1, 1}, 6, 8, "do not fill the mesh");
  expect_refused({0, 0, 1, 1}, 6, 8, "only one");
  expect_refused({-1, 0, 1, 1}, 6, 8, "negative");
}

TEST(ResolveMesh, heads_that_the_mesh_does_not_divide_name_the_legal_degrees) {
  expect_refused({1, 0, 8, 1}, 8, 12, "1, 2, 3, 4, 6, 12");
  expect_refused({1, 0, 2, 4}, 8, 12, "12 attention heads");
}

TEST(ResolveMesh, axes_that_this_version_does_not_run_are_refused) {
  expect_refused({1, 0, 2, 1}, 4, 8, "replicate and shard only");
}

}  // namespace tmd::sharding
