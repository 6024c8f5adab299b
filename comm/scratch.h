#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace tmd::comm {

/// Buffers that are used again and again: after the first operations of a kind no more memory is taken.
/// Thread: one.
class ScratchPool {
  struct Buffer {
    std::unique_ptr<std::byte[]> bytes;
    size_t capacity = 0;
  };

 public:
  /// A buffer on loan; goes back when destroyed. The pool must outlive it.
  class Loan {
   public:
    Loan(ScratchPool& pool, Buffer buffer) : pool_(pool), buffer_(std::move(buffer)) {}
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan() { pool_.free_.push_back(std::move(buffer_)); }

    std::byte* data() const { return buffer_.bytes.get(); }

   private:
    ScratchPool& pool_;
    Buffer buffer_;
  };

  /// At least `bytes` bytes of any content, aligned for every element type: the smallest free buffer that is
  /// large enough, else a new one.
  Loan borrow(size_t bytes) {
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->capacity >= bytes && (best == free_.end() || it->capacity < best->capacity)) best = it;
    }
    if (best == free_.end())
      return Loan(*this, Buffer{std::make_unique_for_overwrite<std::byte[]>(bytes), bytes});
    Buffer buffer = std::move(*best);
    free_.erase(best);
    return Loan(*this, std::move(buffer));
  }

 private:
  std::vector<Buffer> free_;
};

}  // namespace tmd::comm
