#include "comm/mpi_runtime.h"

#include <cstdlib>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/log.h"

namespace tmd::comm {
namespace {

// MPI can be initialised once in a process, so each case is a process of its own, which is one rank.
class MpiRuntimeDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(MpiRuntimeDeathTest, finalized_program_ends_with_its_own_code) {
  const auto program = [] {
    MpiRuntime mpi;
    mpi.world().all_reduce(at::ones({3}), ReduceOp::kSum).wait();
    if (mpi.journal().content().entries.size() != 1) std::exit(1);
    mpi.finalize();
    std::exit(7);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(7), "");
}

TEST_F(MpiRuntimeDeathTest, program_that_is_not_finalized_says_so_and_ends) {
  const auto program = [] {
    configure_log(0, LogLevel::kInfo);  // to stderr
    { MpiRuntime mpi; }
    std::exit(7);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(7), "MPI was not finalized");
}

TEST_F(MpiRuntimeDeathTest, abort_ends_the_process_with_the_code) {
  const auto program = [] {
    MpiRuntime mpi;
    mpi.abort(76);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(76), "");
}

TEST_F(MpiRuntimeDeathTest, second_runtime_is_refused) {
  const auto program = [] {
    MpiRuntime mpi;
    try {
      MpiRuntime second;
    } catch (const Error& e) {
      mpi.finalize();
      std::exit(e.kind() == ErrorKind::kInternal ? 7 : 1);
    }
    std::exit(1);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(7), "");
}

TEST(LaunchedRanks, environment_of_the_launcher_is_read) {
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
  ::unsetenv("SLURM_STEP_NUM_TASKS");
  ::unsetenv("SLURM_NTASKS");
  EXPECT_EQ(launched_ranks().ranks, 0);
  ::setenv("SLURM_NTASKS", "4", 1);
  EXPECT_EQ(launched_ranks().ranks, 4);
  EXPECT_EQ(launched_ranks().source, "SLURM_NTASKS");
  ::unsetenv("SLURM_NTASKS");
}

}  // namespace
}  // namespace tmd::comm
