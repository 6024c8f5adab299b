#include <bit>

#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include "comm/agree.h"
#include "tests/support/mpi_main.h"

namespace tmd::comm {
namespace {

Communicator& world() { return test::world(); }
int last() { return world().size() - 1; }

std::optional<Error> error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e;
  }
  return std::nullopt;
}

std::string in_front(int rank) { return world().size() == 1 ? "" : fmt::format("rank {}: ", rank); }

TEST(Agree, extremes_and_flags_are_those_of_all_ranks) {
  EXPECT_EQ(agree_max(world(), world().rank() - 7), last() - 7);
  EXPECT_NEAR(agree_slowest(world(), 0.25 * world().rank()), 0.25 * last(), 1e-9);
  EXPECT_EQ(agree_min(world(), int64_t{1} << 40 | world().rank()), int64_t{1} << 40);
  EXPECT_TRUE(agree_any(world(), world().rank() == last()));
  EXPECT_FALSE(agree_any(world(), false));
  EXPECT_TRUE(agree_all(world(), true));
  EXPECT_FALSE(agree_all(world(), world().rank() != last()));
}

TEST(Agree, sums_have_the_same_bits_on_all_ranks) {
  std::vector<double> values{0.1 * (world().rank() + 1), 1.0 / (world().rank() + 3), 1.0};
  double expected = 0.1;
  for (int rank = 1; rank < world().size(); ++rank) expected += 0.1 * (rank + 1);
  sum(world(), values);
  EXPECT_EQ(values[0], expected);  // summed in rank order
  EXPECT_EQ(values[2], world().size());
  const auto bits = std::bit_cast<int64_t>(values[1]);
  EXPECT_EQ(agree_min(world(), bits), agree_max(world(), bits));
}

TEST(Agree, equal_values_pass) {
  EXPECT_FALSE(error_of([] { agree_equal(world(), "same", "the configuration"); }));
}

TEST(Agree, different_values_name_the_ranks_on_all_ranks) {
  const bool is_other = world().rank() == last() && last() > 0;
  const std::string common(500, '=');
  const std::optional<Error> error =
      error_of([&] { agree_equal(world(), common + (is_other ? "other" : "usual"), "the configuration"); });
  if (last() == 0) {
    EXPECT_FALSE(error);
    return;
  }
  EXPECT_TRUE(error);
  EXPECT_EQ(error->kind(), ErrorKind::kConfig);
  const std::string what = error->what();
  EXPECT_NE(what.find("the configuration differs between ranks: rank " + std::to_string(last())),
            std::string::npos)
      << what;
  EXPECT_NE(what.find("=other'"), std::string::npos) << what;
}

TEST(Agree, no_failure_is_no_error) {
  int runs = 0;
  EXPECT_FALSE(error_of([&] { run_agreed(world(), [&] { ++runs; }); }));
  EXPECT_EQ(runs, 1);
}

TEST(Agree, failure_of_one_rank_is_thrown_on_all) {
  const std::optional<Error> error = error_of([] {
    run_agreed(world(),
               [] { check(world().rank() != last(), ErrorKind::kIo, "disk full", "delete something"); });
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind(), ErrorKind::kIo);
  EXPECT_EQ(error->what(), in_front(last()) + "disk full");
  EXPECT_EQ(error->hint(), "delete something");
}

TEST(Agree, failures_of_several_ranks_become_that_of_the_lowest) {
  const std::optional<Error> error = error_of([] {
    run_agreed(world(), [] { throw Error(ErrorKind::kData, fmt::format("bad on {}", world().rank())); });
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->what(), in_front(0) + "bad on 0");
}

TEST(Agree, other_exceptions_become_internal_errors) {
  const std::optional<Error> error = error_of([] {
    run_agreed(world(), [] {
      if (world().rank() == last()) throw std::out_of_range("index 3");
    });
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind(), ErrorKind::kInternal);
  EXPECT_EQ(error->what(), in_front(last()) + "index 3");
}

TEST(Agree, strings_of_different_lengths_travel) {
  const auto text_of = [](int rank) {
    return std::string(static_cast<size_t>(rank) * 1000, 'a') + (rank ? "z" : "");
  };
  const std::vector<std::string> gathered = gather_strings(world(), text_of(world().rank()));
  const std::vector<std::string> on_last = gather_strings_to(world(), last(), text_of(world().rank()));
  EXPECT_EQ(gathered.size(), static_cast<size_t>(world().size()));
  EXPECT_EQ(on_last.size(), world().rank() == last() ? gathered.size() : 0u);
  for (size_t rank = 0; rank < gathered.size(); ++rank) {
    EXPECT_EQ(gathered[rank], text_of(static_cast<int>(rank)));
    if (!on_last.empty()) {
      EXPECT_EQ(on_last[rank], gathered[rank]);
    }
  }
  EXPECT_EQ(broadcast_string(world(), world().rank() == last() ? "from the last" : "else", last()),
            "from the last");
  EXPECT_EQ(broadcast_string(world(), "", 0), "");
}

}  // namespace
}  // namespace tmd::comm
