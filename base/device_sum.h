#pragma once

#include "base/device_launch.h"
#include "base/host_device.h"

// Sums over the threads of a block in a fixed order, in three phases of a kernel: each thread puts its own
// part into `part`; fold() brings these to kFolds numbers; total() adds them up, for every thread that asks.

namespace tmd::device {

/// Numbers that K sums over a block meet in. They may be used again in the phase behind fold().
template <class T, int K = 1>
struct BlockSums {
  static constexpr int kFolds = 16;
  T part[K][kMaxThreads];
  T folded[K][kFolds];
};

/// Thread t of the first K * kFolds adds the parts t, t + kFolds, ... of one sum. A block has at least 32
/// threads.
template <class T, int K>
TMD_HOST_DEVICE inline void fold(const Place& at, BlockSums<T, K>& sums) {
  static_assert(K <= 2);
  constexpr int kFolds = BlockSums<T, K>::kFolds;
  if (at.thread >= K * kFolds) return;
  const int which = at.thread / kFolds, first = at.thread % kFolds;
  T sum = 0;
  for (int i = first; i < at.threads; i += kFolds) sum += sums.part[which][i];
  sums.folded[which][first] = sum;
}

template <class T, int K>
TMD_HOST_DEVICE inline T total(const BlockSums<T, K>& sums, int which = 0) {
  T sum = 0;
  for (int i = 0; i < BlockSums<T, K>::kFolds; ++i) sum += sums.folded[which][i];
  return sum;
}

}  // namespace tmd::device
