#pragma once

#include <coroutine>
#include <exception>
#include <utility>

namespace tmd::comm {

/// What one operation does on the progress thread, written as a coroutine: it posts messages, awaits them,
/// computes, and may await another flow as a part of itself. A flow runs nothing until it is awaited, so it
/// can be made on one thread and run on another; its arguments live in its frame until it is destroyed. It is
/// awaited once, and not destroyed while it is under way.
/// Thread: one at a time.
class [[nodiscard]] Flow {
 public:
  struct promise_type;

  Flow(Flow&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
  Flow& operator=(Flow&&) = delete;
  ~Flow() {
    if (frame_) frame_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  inline std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept;
  /// Throws what left the flow.
  inline void await_resume() const;

 private:
  using Frame = std::coroutine_handle<promise_type>;
  explicit Flow(Frame frame) : frame_(frame) {}

  Frame frame_;
};

struct Flow::promise_type {
  struct ResumeCaller {
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(Frame ended) const noexcept { return ended.promise().caller; }
    void await_resume() const noexcept {}
  };

  Flow get_return_object() { return Flow(Frame::from_promise(*this)); }
  std::suspend_always initial_suspend() const noexcept { return {}; }
  ResumeCaller final_suspend() const noexcept { return {}; }
  void return_void() const noexcept {}
  void unhandled_exception() noexcept { failure = std::current_exception(); }

  std::coroutine_handle<> caller = std::noop_coroutine();
  std::exception_ptr failure;
};

std::coroutine_handle<> Flow::await_suspend(std::coroutine_handle<> caller) noexcept {
  frame_.promise().caller = caller;
  return frame_;
}

void Flow::await_resume() const {
  if (frame_.promise().failure) std::rethrow_exception(frame_.promise().failure);
}

}  // namespace tmd::comm
