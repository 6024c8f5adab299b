#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace tmd::comm {

/// Elements 0 .. n in one consecutive part for each rank; sizes differ by one at most, the larger ones first.
struct Parts {
  int64_t elements;
  int ranks;

  int64_t begin(int rank) const {
    const int64_t size = elements / ranks;
    return rank * size + std::min<int64_t>(rank, elements % ranks);
  }
  int64_t count(int rank) const { return begin(rank + 1) - begin(rank); }
  int64_t largest() const { return count(0); }
};

/// The ranks other than `rank`, each rank beginning with its successor so that not all use the same one
/// first.
inline std::vector<int> ranks_after(int rank, int size) {
  std::vector<int> ranks;
  for (int step = 1; step < size; ++step) ranks.push_back((rank + step) % size);
  return ranks;
}

}  // namespace tmd::comm
