#pragma once

#include <utility>

namespace tmd {

/// Owns one C handle. A moved-from, released or reset object holds `Null` and does nothing.
/// `Release` must be noexcept and must never communicate (docs/architecture.md, rule on teardown).
template <class Handle, Handle Null, auto Release>
class UniqueHandle {
 public:
  explicit UniqueHandle(Handle handle = Null) noexcept : handle_(handle) {}
  UniqueHandle(UniqueHandle&& other) noexcept : handle_(other.release()) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = other.release();
    }
    return *this;
  }
  ~UniqueHandle() { reset(); }

  Handle get() const noexcept { return handle_; }
  bool is_valid() const noexcept { return handle_ != Null; }
  [[nodiscard]] Handle release() noexcept { return std::exchange(handle_, Null); }
  void reset() noexcept {
    if (handle_ != Null) Release(release());
  }

 private:
  Handle handle_;
};

}  // namespace tmd
