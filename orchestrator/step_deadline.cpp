#include "orchestrator/step_deadline.h"

#include <pthread.h>

namespace tmd::orchestrator {

StepDeadline::StepDeadline(double seconds, Act act) : seconds_(seconds), act_(std::move(act)) {
  begin("the start");
  thread_ = std::thread([this] { watch(); });
  pthread_setname_np(thread_.native_handle(), "tmd-deadline");
}

StepDeadline::~StepDeadline() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StepDeadline::begin(const std::string& step, double more_s) {
  const std::lock_guard lock(mutex_);
  step_ = step;
  limit_s_ = seconds_ + more_s;
  due_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limit_s_));
  changed_.notify_all();
}

void StepDeadline::watch() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    const Clock::time_point due = due_;
    changed_.wait_until(lock, due);
    if (ends_ || due != due_ || Clock::now() < due) continue;
    const std::string step = step_;
    const double limit_s = limit_s_;
    lock.unlock();
    act_(step, limit_s);
    return;
  }
}

}  // namespace tmd::orchestrator
