#pragma once

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/device_launch.h"
#include "emulated_order.h"

// launch() on the host, for tests. One thread plays all of them, phase by phase, in the order that
// emulated_order says: a value that one thread of a phase takes from another one then depends on the order.
// What is shared and what threads keep begins with all bits set, which is NaN.

namespace tmd::device {

/// 0 .. count - 1 in the order of `emulated_order`; `salt` tells the shuffles of one launch apart.
inline std::vector<int64_t> emulated_sequence(int64_t count, uint64_t salt) {
  std::vector<int64_t> sequence(static_cast<size_t>(count));
  std::iota(sequence.begin(), sequence.end(), 0);
  if (emulated_order.kind == EmulatedOrder::Kind::kReversed) std::reverse(sequence.begin(), sequence.end());
  if (emulated_order.kind == EmulatedOrder::Kind::kShuffled) {
    std::mt19937_64 random(emulated_order.seed * 0x9e3779b97f4a7c15ULL + salt);
    std::shuffle(sequence.begin(), sequence.end(), random);
  }
  return sequence;
}

/// Objects whose bytes are all 0xff.
template <class T>
class Unset {
 public:
  explicit Unset(size_t count) : bytes_(count * sizeof(T) + alignof(T)) {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_default_constructible_v<T>);
    const auto address = reinterpret_cast<uintptr_t>(bytes_.data());
    first_ = reinterpret_cast<T*>(bytes_.data() + (alignof(T) - address % alignof(T)) % alignof(T));
    for (size_t i = 0; i < count; ++i) new (first_ + i) T;
    std::memset(static_cast<void*>(first_), 0xff, count * sizeof(T));
  }
  T& operator[](size_t i) { return first_[i]; }

 private:
  std::vector<unsigned char> bytes_;
  T* first_;
};

template <class Kernel, int... phase>
void emulate_block(const Kernel& kernel, int64_t block, int threads, std::integer_sequence<int, phase...>) {
  Unset<typename Kernel::Shared> shared(1);
  Unset<typename Kernel::State> states(static_cast<size_t>(threads));
  const auto run_phase = [&](auto number) {
    for (const int64_t i : emulated_sequence(threads, static_cast<uint64_t>(block) * 64 + number())) {
      const Place at{block, static_cast<int>(i), threads};
      kernel.template run<static_cast<int>(number())>(at, states[static_cast<size_t>(i)], shared[0]);
    }
  };
  (run_phase(std::integral_constant<unsigned, phase>{}), ...);
}

template <class Kernel>
void launch(const char* name, const Kernel& kernel, int64_t blocks, int threads, Stream) {
  static_assert(sizeof(Kernel) <= kMaxKernelBytes);
  static_assert(std::is_trivially_copyable_v<Kernel>);
  if (blocks == 0) return;
  ensure(blocks > 0 && blocks <= INT32_MAX && threads > 0 && threads <= kMaxThreads && threads % 32 == 0,
         "a launch fits the device");
  if (!name || !*name) refuse_launch("a kernel", blocks, threads, "it has no name");
  Kernel passed = kernel;
  ++emulated_counts.launches;
  emulated_counts.blocks += blocks;
  for (const int64_t block : emulated_sequence(blocks, ~uint64_t{0}))
    emulate_block(passed, block, threads, std::make_integer_sequence<int, Kernel::kPhases>{});
}

}  // namespace tmd::device
