#include "tests/support/mpi_main.h"

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include "base/log.h"
#include "comm/agree.h"
#include "tests/support/test_world.h"

namespace tmd::test {
namespace {

comm::MpiRuntime* the_runtime = nullptr;
TestWorld* the_world = nullptr;

// Sanitizers make a program ten times slower.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::chrono::seconds kTimeLimit{300};
#else
constexpr std::chrono::seconds kTimeLimit{180};
#endif

/// Ends the program when a case takes too long, saying what each rank communicated last.
class TimeLimit {
 public:
  TimeLimit() : thread_([this] { watch(); }) {}
  ~TimeLimit() {
    set(Clock::time_point::max(), "", true);
    thread_.join();
  }

  void begin(const std::string& name) { set(Clock::now() + kTimeLimit, name, false); }
  void end() { set(Clock::time_point::max(), "", false); }

 private:
  using Clock = std::chrono::steady_clock;

  void set(Clock::time_point deadline, const std::string& name, bool must_stop) {
    const std::lock_guard lock(mutex_);
    deadline_ = deadline;
    case_ = name;
    must_stop_ = must_stop;
    changed_.notify_one();
  }

  void watch() {
    std::unique_lock lock(mutex_);
    while (!must_stop_) {
      const Clock::time_point deadline = deadline_;
      if (deadline == Clock::time_point::max()) {
        changed_.wait(lock);
      } else if (Clock::now() >= deadline) {
        std::fputs(fmt::format("[ rank {} ] {} took too long; the last operations of\n{}",
                               the_runtime->rank(), case_, comm::to_text(the_runtime->journal().content(), 5))
                       .c_str(),
                   stderr);
        std::this_thread::sleep_for(std::chrono::seconds(2));  // for the other ranks to say the same
        the_runtime->abort(1);
      } else {
        changed_.wait_until(lock, deadline);
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Clock::time_point deadline_ = Clock::time_point::max();
  std::string case_;
  bool must_stop_ = false;
  std::thread thread_;
};

/// Makes all ranks fail a case that some failed.
class VerdictOfAllRanks : public testing::EmptyTestEventListener {
 public:
  /// `verdicts` is used by nobody else, so that a rank that left a case early can wait there.
  explicit VerdictOfAllRanks(comm::Communicator& verdicts) : verdicts_(verdicts) {}

  void OnTestStart(const testing::TestInfo& test) override { limit_.begin(name(test)); }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed() || is_agreeing_) return;
    std::fputs(fmt::format("[ rank {} ] {}:{}: {}\n", verdicts_.rank(),
                           result.file_name() ? result.file_name() : "unknown file", result.line_number(),
                           result.message())
                   .c_str(),
               stderr);
  }

  void OnTestEnd(const testing::TestInfo& test) override {
    const bool has_failed = !test.result()->Passed();  // a skip is not a pass
    const bool any_failed = comm::agree_any(verdicts_, has_failed);
    limit_.end();
    is_agreeing_ = true;
    if (any_failed && !has_failed) ADD_FAILURE() << name(test) << " failed on another rank";
    is_agreeing_ = false;
  }

 private:
  static std::string name(const testing::TestInfo& test) {
    return fmt::format("{}.{}", test.test_suite_name(), test.name());
  }

  comm::Communicator& verdicts_;
  TimeLimit limit_;
  bool is_agreeing_ = false;
};

/// Whether anything was wrong with it on any rank.
bool close_world(comm::Communicator& verdicts) {
  const std::vector<std::string> faults = the_world->close();
  for (const std::string& fault : faults)
    std::fputs(fmt::format("[ rank {} ] {}\n", verdicts.rank(), fault).c_str(), stderr);
  return comm::agree_any(verdicts, !faults.empty());
}

/// Whether anything failed on any rank.
bool run_tests() {
  comm::Communicator& all = the_runtime->world();
  const std::unique_ptr<comm::Communicator> verdicts = all.split(0, all.rank(), "verdicts");
  const std::unique_ptr<TestWorld> test_world = make_world(*the_runtime);
  the_world = test_world.get();
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (all.rank() != 0) delete listeners.Release(listeners.default_result_printer());
  auto* verdict = new VerdictOfAllRanks(*verdicts);
  listeners.Append(verdict);
  const bool has_failed = RUN_ALL_TESTS() != 0;
  const bool any_failed = comm::agree_any(*verdicts, has_failed);
  delete listeners.Release(verdict);
  const bool world_has_failed = !any_failed && close_world(*verdicts);
  verdicts->close();
  return any_failed || world_has_failed || testing::UnitTest::GetInstance()->test_to_run_count() == 0;
}

}  // namespace

comm::MpiRuntime& runtime() { return *the_runtime; }
comm::Communicator& world() { return the_world->ranks(); }

}  // namespace tmd::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  tmd::comm::MpiRuntime runtime;
  tmd::test::the_runtime = &runtime;
  tmd::configure_log(runtime.rank(), tmd::LogLevel::kWarning);
  try {
    const bool has_failed = tmd::test::run_tests();
    runtime.finalize();
    return has_failed ? 1 : 0;
  } catch (const std::exception& e) {
    std::fputs(fmt::format("[ rank {} ] {}\n", runtime.rank(), e.what()).c_str(), stderr);
    runtime.abort(1);
  }
}
