#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/philox.h"
#include "tests/support/wrapped_communicator.h"

namespace tmd::test {

/// A communicator whose collectives happen at the two ends of what its contract allows, by a draw that is the
/// same on all ranks: at once, within the call, or not before somebody waits. Code that touches a buffer too
/// early or uses it again too soon gets other bits. Wraps another one, and the groups that are split off.
class CanaryCommunicator final : public WrappedCommunicator {
 public:
  /// Owns `inner` if it is given as a unique_ptr.
  template <class Inner>
  CanaryCommunicator(Inner&& inner, uint64_t seed)
      : WrappedCommunicator(std::forward<Inner>(inner)), seed_(seed) {}

  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    return std::make_unique<CanaryCommunicator>(inner().split(color, key, name), seed_ + 1);
  }

 private:
  class Late final : public comm::Operation {
   public:
    explicit Late(Start start) : start_(std::move(start)) {}
    void wait() override {
      if (start_) start_().wait();
      start_ = nullptr;
    }
    bool is_done() override { return !start_; }

   private:
    Start start_;
  };

  comm::Work collective(Start start) override {
    const bool is_late = PhiloxStream(seed_, 0, 0, Purpose::kInit).uniform(operations_++) < 0.5;
    if (is_late) return comm::Work(std::make_shared<Late>(std::move(start)));
    start().wait();
    return comm::Work();
  }

  uint64_t seed_;
  uint64_t operations_ = 0;
};

}  // namespace tmd::test
