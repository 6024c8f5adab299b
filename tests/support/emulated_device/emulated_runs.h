#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "base/bfloat16.h"
#include "emulated_order.h"
#include "test_memory.h"

// What tests of device kernels have in common, on the emulated grid and on a device.

namespace tmd::device {

/// Counts that are less than a pack, a warp, a block, and more; most of them fill none.
inline const std::vector<int64_t> kOddSizes = {0, 1, 2, 3, 7, 31, 33, 255, 257, 1025, 100003};
constexpr int64_t kLargeSize = 1000003;

/// n elements that begin `offset` elements behind a multiple of 64 bytes, with guards on both sides. Guards
/// and elements have all bits set at first: NaN, should a kernel use one.
template <class X>
class Guarded {
 public:
  explicit Guarded(int64_t n, int64_t offset = 0)
      : n_(n),
        offset_(offset),
        begin_(kGuard + static_cast<size_t>(offset) * sizeof(X)),
        end_(begin_ + static_cast<size_t>(n) * sizeof(X)),
        bytes_(test_memory(end_ + kGuard)) {
    std::memset(bytes_.get(), 0xff, end_ + kGuard);
  }
  Guarded(const std::vector<X>& values, int64_t offset)
      : Guarded(static_cast<int64_t>(values.size()), offset) {
    if (n_ > 0) std::memcpy(data(), values.data(), values.size() * sizeof(X));
  }
  Guarded(const Guarded& other) : Guarded(other.values(), other.offset_) {}
  Guarded& operator=(const Guarded&) = delete;

  X* data() { return reinterpret_cast<X*>(bytes_.get() + begin_); }
  const X* data() const { return reinterpret_cast<const X*>(bytes_.get() + begin_); }
  int64_t size() const { return n_; }
  std::vector<X> values() const { return {data(), data() + n_}; }
  bool guards_are_intact() const {
    for (size_t i = 0; i < end_ + kGuard; ++i) {
      if ((i < begin_ || i >= end_) && bytes_.get()[i] != 0xff) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 64;
  int64_t n_, offset_;
  size_t begin_, end_;
  std::shared_ptr<unsigned char> bytes_;
};

template <class X>
bool same_bits(const std::vector<X>& a, const std::vector<X>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(X)) == 0);
}

/// Bits of results, one behind the other.
using Bits = std::vector<unsigned char>;
template <class X>
void append(Bits& bits, const Guarded<X>& values) {
  EXPECT_TRUE(values.guards_are_intact());
  const auto* first = reinterpret_cast<const unsigned char*>(values.data());
  bits.insert(bits.end(), first, first + static_cast<size_t>(values.size()) * sizeof(X));
}

/// Expects the same bits from `run` for several orders of threads and blocks; a device orders them as it
/// likes.
inline void expect_same_in_all_orders(const std::function<Bits()>& run) {
  const EmulatedOrder before = emulated_order;
  using Kind = EmulatedOrder::Kind;
  emulated_order = {Kind::kForward};
  const Bits forward = run();
  for (const EmulatedOrder order :
       {EmulatedOrder{Kind::kReversed}, {Kind::kShuffled, 1}, {Kind::kShuffled, 2}}) {
    emulated_order = order;
    EXPECT_EQ(run(), forward) << "order " << static_cast<int>(order.kind) << ", seed " << order.seed;
  }
  emulated_order = before;
}

}  // namespace tmd::device
