#include "orchestrator/loaded_wan.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "model/wan_dit.h"
#include "sharding/param_spec.h"

namespace tmd::orchestrator {
namespace {

// Parameters start at multiples of 16 elements: a hundredth is more than that.
void expect_about(int64_t bytes, int64_t expected, int64_t whole) {
  EXPECT_LE(std::abs(bytes - expected), whole / 100);
}

TEST(HostBytes, one_rank_takes_its_parameters_and_nothing_more) {
  const auto units = model::wan_units(model::WanConfig::wan_1_3b());
  const int64_t elements = sharding::count_elements(units);
  const auto need = [&](Precision precision) { return host_bytes(units, {}, precision, false, 1, true); };
  expect_about(need(Precision::kF32), 4 * elements, 4 * elements);
  expect_about(need(Precision::kF64), 8 * elements, 8 * elements);
  expect_about(need(Precision::kBf16), 2 * elements, 4 * elements);  // wide parameters keep four bytes
  EXPECT_EQ(need(Precision::kBf16), need(Precision::kBf16Diffusers));
}

TEST(HostBytes, several_ranks_have_buffers_each) {
  const auto units = model::wan_units(model::WanConfig::wan_1_3b());
  const int64_t alone = host_bytes(units, {}, Precision::kF32, false, 1, true);
  const int64_t both = host_bytes(units, {.shards = 2}, Precision::kF32, false, 2, true);
  int64_t largest = 0;
  for (const auto& unit : units) largest = std::max(largest, 4 * unit.elements());
  expect_about(both - alone, 4 * largest, alone);  // one unit in use and one on its way, on each rank
  EXPECT_GT(both, alone);
}

TEST(HostBytes, gradients_are_kept_and_gathered_on_rank_0) {
  const auto units = model::wan_units(model::WanConfig::wan_1_3b());
  const int64_t all = 4 * sharding::count_elements(units);
  const auto need = [&](bool has_rank_0) {
    return host_bytes(units, {.shards = 2}, Precision::kBf16, true, 1, has_rank_0);
  };
  EXPECT_EQ(need(true) - need(false), all);
  EXPECT_GT(need(false), all);  // half of masters and gradients, and buffers in float32
}

}  // namespace
}  // namespace tmd::orchestrator
