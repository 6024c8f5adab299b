#include "sharding/mesh.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::sharding {
namespace {

void expect_refused(const MeshShape& wanted, int64_t ranks, int64_t heads, const std::string& text) {
  try {
    resolve_mesh(wanted, ranks, {.heads = heads, .ffn = 64});
    ADD_FAILURE() << "accepted " << wanted.to_string();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kConfig);
    EXPECT_NE((std::string(e.what()) + e.hint()).find(text), std::string::npos)
        << e.what() << " | " << e.hint();
  }
}

}  // namespace

TEST(ResolveMesh, zero_fills_what_is_left) {
  EXPECT_EQ(resolve_mesh({1, 0, 1, 1}, 6, {.heads = 8, .ffn = 32}), (MeshShape{1, 6, 1, 1}));
  EXPECT_EQ(resolve_mesh({2, 0, 1, 1}, 6, {.heads = 8, .ffn = 32}), (MeshShape{2, 3, 1, 1}));
  EXPECT_EQ(resolve_mesh({0, 3, 1, 1}, 6, {.heads = 8, .ffn = 32}), (MeshShape{2, 3, 1, 1}));
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

TEST(ResolveMesh, zero_fills_the_inner_axes_too_and_the_network_limits_what_fills) {
  EXPECT_EQ(resolve_mesh({1, 1, 0, 2}, 8, {.heads = 8, .ffn = 32}), (MeshShape{1, 1, 4, 2}));
  EXPECT_EQ(resolve_mesh({1, 2, 1, 0}, 8, {.heads = 8, .ffn = 32}), (MeshShape{1, 2, 1, 4}));
  expect_refused({1, 1, 0, 1}, 5, 8, "1, 2, 4, 8");
}

TEST(ResolveMesh, features_that_the_tensor_axis_does_not_divide_name_the_legal_degrees) {
  try {
    resolve_mesh({1, 0, 1, 4}, 4, {.heads = 8, .ffn = 34});
    ADD_FAILURE() << "accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("34 features"), std::string::npos) << e.what();
    EXPECT_NE(e.hint().find("1, 2"), std::string::npos) << e.hint();
  }
}

TEST(ResolveMesh, a_network_without_heads_is_not_cut) {
  EXPECT_THROW(resolve_mesh({1, 0, 2, 1}, 4, {}), Error);
  EXPECT_THROW(resolve_mesh({1, 0, 1, 2}, 4, {}), Error);
}

}  // namespace tmd::sharding
