#include "base/device_launch.cuh"
#include "base/device_pack.h"
#include "base/philox_device.h"

namespace tmd::device {
namespace {

constexpr int kThreads = 256;
constexpr int kWords = 4;  // of one Philox block

// A thread turns one Philox block of words into numbers.
template <class T>
struct FillNormal {
  using Shared = None;
  using State = None;
  static constexpr int kPhases = 1;

  portable::PhiloxKey key;
  T* out;
  int64_t n;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared&) const {
    const int64_t block = at.block * at.threads + at.thread, begin = block * kWords;
    if (begin >= n) return;
    const auto words = portable::philox_block(key, static_cast<uint32_t>(block));
    Pack<T, kWords> numbers;
    for (int j = 0; j < kWords; ++j) numbers.at[j] = static_cast<T>(portable::normal_of_word(words.v[j]));
    store(out + begin, numbers, n - begin < kWords ? static_cast<int>(n - begin) : kWords);
  }
};

template <class T>
void fill(const portable::PhiloxKey& key, T* out, int64_t n, Stream stream) {
  ensure(n >= 0 && n < int64_t{1} << 34, "a Philox stream has 2^34 words");
  launch("fill_normal", FillNormal<T>{key, out, n}, blocks_for(n, kThreads * kWords), kThreads, stream);
}

}  // namespace

void fill_normal(const portable::PhiloxKey& key, float* out, int64_t n, Stream stream) {
  fill(key, out, n, stream);
}

void fill_normal(const portable::PhiloxKey& key, double* out, int64_t n, Stream stream) {
  fill(key, out, n, stream);
}

}  // namespace tmd::device
