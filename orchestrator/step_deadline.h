#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace tmd::orchestrator {

/// Acts when a step takes too long: a collective that never ends blocks the thread that called it, so another
/// one has to speak. Thread: `begin` is called by one.
class StepDeadline {
 public:
  /// Called with the name of the step and the seconds that it had.
  using Act = std::function<void(const std::string& step, double seconds)>;
  /// `act`: called once, on a thread of this object. It may end the program.
  StepDeadline(double seconds, Act act);
  /// Ends the thread.
  ~StepDeadline();
  StepDeadline(const StepDeadline&) = delete;
  StepDeadline& operator=(const StepDeadline&) = delete;

  /// The step before is over; this one may take as long again, and `more_s` longer.
  void begin(const std::string& step, double more_s = 0);

 private:
  using Clock = std::chrono::steady_clock;
  void watch();

  const double seconds_;
  const Act act_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string step_;       // GUARDED_BY(mutex_)
  double limit_s_ = 0;     // GUARDED_BY(mutex_)
  Clock::time_point due_;  // GUARDED_BY(mutex_)
  bool ends_ = false;      // GUARDED_BY(mutex_)
  std::thread thread_;
};

}  // namespace tmd::orchestrator
