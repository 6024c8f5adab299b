#pragma once

#include <cstddef>
#include <utility>

namespace tmd {

/// Memory straight from the system, for large blocks that come and go: what is given back is free at once,
/// where a heap would keep holes. Thread: one at a time.
class AnonymousMemory {
 public:
  AnonymousMemory() = default;
  /// `bytes` >= 0 whose content is undefined. Throws std::bad_alloc.
  explicit AnonymousMemory(size_t bytes);
  ~AnonymousMemory();
  AnonymousMemory(AnonymousMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        discarded_(std::exchange(other.discarded_, 0)) {}
  AnonymousMemory& operator=(AnonymousMemory&& other) noexcept;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

  /// The first `bytes` are not needed any more: whole pages of them go back to the system.
  void discard_front(size_t bytes);

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0, discarded_ = 0;
};

}  // namespace tmd
