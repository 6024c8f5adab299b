// main() of multi-rank tests. The verdict of every case is agreed over the ranks, so that they stay in step and a failure
// on any of them fails the test; each rank prints its own failures.

#include "mpi_main.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <memory>

#include <ATen/Parallel.h>

#include "base/log.h"
#include "comm/agree.h"
#include "comm/mpi_runtime.h"

namespace tmd::test {
namespace {

std::unique_ptr<comm::MpiRuntime> runtime;

class RankListener : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", world().rank(), result.file_name() ? result.file_name() : "?",
                 result.line_number(), result.summary());
  }
  void OnTestEnd(const testing::TestInfo& info) override {
    const bool failed = comm::agree_any(world(), info.result()->Failed());
    if (failed) any_failed = true;
    if (world().rank() == 0) {
      std::printf("[%s] %s.%s\n", failed ? "  FAILED  " : "       OK ", info.test_suite_name(), info.name());
      std::fflush(stdout);
    }
  }
  bool any_failed = false;
};

}  // namespace

comm::Communicator& world() { return runtime->world(); }

}  // namespace tmd::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  tmd::test::runtime = std::make_unique<tmd::comm::MpiRuntime>();
  tmd::configure_log(tmd::test::world().rank(), tmd::LogLevel::kWarning);
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  auto* listener = new tmd::test::RankListener;  // gtest owns it
  listeners.Append(listener);
  (void)RUN_ALL_TESTS();
  const bool failed = listener->any_failed || testing::UnitTest::GetInstance()->test_to_run_count() == 0;
  tmd::test::runtime->finalize();
  tmd::test::runtime.reset();
  return failed ? 1 : 0;
}
