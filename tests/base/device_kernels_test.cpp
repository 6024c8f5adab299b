// The emulated grid, what kernels are made of, and the kernels of base/, as C++
// (tests/support/emulated_device).

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/device_launch.cuh"
#include "base/device_pack.h"
#include "base/device_sum.h"
#include "base/error.h"
#include "base/philox.h"
#include "base/philox_device.h"
#include "emulated_runs.h"

namespace tmd::device {
namespace {

constexpr int kThreads = 64;

// Each thread passes its number to its neighbour, with or without a barrier between.
template <bool waits>
struct PassOn {
  struct Shared {
    int number[kThreads];
  };
  using State = None;
  static constexpr int kPhases = waits ? 2 : 1;
  int* out;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& shared) const {
    if constexpr (phase == 0) shared.number[at.thread] = at.thread;
    if constexpr (phase == kPhases - 1)
      out[at.block * at.threads + at.thread] = shared.number[(at.thread + 1) % at.threads];
  }
};

// Each block adds to what the one before has written.
struct AddToNeighbour {
  using Shared = None;
  using State = None;
  static constexpr int kPhases = 1;
  int* out;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared&) const {
    if (at.thread == 0 && at.block > 0) out[at.block] += out[at.block - 1];
  }
};

// A thread keeps a number over a phase; what it has not set is NaN.
struct Keep {
  struct State {
    float kept, never_set;
  };
  using Shared = State;
  static constexpr int kPhases = 2;
  float* out;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State& state, Shared& shared) const {
    if constexpr (phase == 0) {
      state.kept = static_cast<float>(at.thread);
      if (at.thread == 5) shared.kept = 5;
    } else {
      out[3 * at.thread] = state.kept;
      out[3 * at.thread + 1] = state.never_set;
      out[3 * at.thread + 2] = shared.never_set + shared.kept;
    }
  }
};

template <class Kernel>
std::vector<int> run_in_order(EmulatedOrder order, int64_t blocks) {
  std::vector<int> out(static_cast<size_t>(blocks) * kThreads, 1);
  emulated_order = order;
  launch("test", Kernel{out.data()}, blocks, kThreads, nullptr);
  emulated_order = {};
  return out;
}

const EmulatedOrder kForward{EmulatedOrder::Kind::kForward}, kReversed{EmulatedOrder::Kind::kReversed},
    kShuffled{EmulatedOrder::Kind::kShuffled, 3};

template <int K>
struct SumBlock {
  using Shared = BlockSums<double, K>;
  using State = None;
  static constexpr int kPhases = 3;
  double* out;  // [threads, K]

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& sums) const {
    if constexpr (phase == 0) {
      for (int k = 0; k < K; ++k) sums.part[k][at.thread] = (at.thread + 1) * (k == 0 ? 1 : -3);
    } else if constexpr (phase == 1) {
      fold(at, sums);
    } else {
      for (int k = 0; k < K; ++k) out[at.thread * K + k] = total(sums, k);
    }
  }
};

float float_of(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

Bfloat16 element(int64_t i, Bfloat16) { return to_bfloat16(static_cast<float>(i + 1)); }
template <class X>
X element(int64_t i, X) {
  return static_cast<X>(i + 1);
}

// Packs of N at every offset from an aligned address, whole and in part.
template <int N, class X>
void expect_packs_travel() {
  for (int64_t offset = 0; offset < 16; ++offset) {
    std::vector<X> values;
    for (int64_t i = 0; i < N; ++i) values.push_back(element(i, X{}));
    const Guarded<X> from(values, offset);
    for (int count = 0; count <= N + 1; ++count) {
      Guarded<X> to(std::min(count, N), offset);
      const auto pack = load<N>(from.data(), count);
      for (int j = 0; j < N; ++j) EXPECT_EQ(pack.at[j], j < count ? static_cast<double>(j + 1) : 0.0);
      store(to.data(), pack, count);
      EXPECT_TRUE(to.guards_are_intact());
      EXPECT_TRUE(same_bits(to.values(), {values.begin(), values.begin() + to.size()}));
    }
  }
}

template <int N, class X>
void expect_cut_covers_once(int64_t n, int64_t offset) {
  Guarded<X> range(n, offset);
  const FlatCut cut = cut_flat<N>(range.data(), n);
  int64_t next = 0;
  for (int64_t number = 0; number < cut.packs; ++number) {
    const FlatPack<N> pack(cut, number);
    ASSERT_EQ(pack.begin, next);
    ASSERT_GT(pack.count, 0);
    ASSERT_LE(pack.count, N);
    if (number > 0) {
      ASSERT_EQ(reinterpret_cast<uintptr_t>(range.data() + pack.begin) % (N * sizeof(X)), 0u);
    }
    next = pack.begin + pack.count;
  }
  EXPECT_EQ(next, n);
  for (int64_t behind = cut.packs; behind < cut.packs + 3; ++behind)
    EXPECT_EQ((FlatPack<N>(cut, behind).count), 0);
}

template <class T>
void expect_host_numbers(const PhiloxStream& stream, int64_t n, int64_t offset) {
  SCOPED_TRACE(testing::Message() << n << " numbers, offset " << offset);
  std::vector<T> expected(static_cast<size_t>(n));
  stream.fill_normal(std::span<T>(expected));
  Guarded<T> actual(n, offset);
  fill_normal(stream.philox_key(), actual.data(), n, nullptr);
  EXPECT_TRUE(actual.guards_are_intact());
  EXPECT_TRUE(same_bits(actual.values(), expected));
}

}  // namespace

TEST(EmulatedDevice, a_race_between_threads_shows) {
  EXPECT_NE(run_in_order<PassOn<false>>(kForward, 2), run_in_order<PassOn<false>>(kReversed, 2));
  EXPECT_NE(run_in_order<PassOn<false>>(kForward, 2), run_in_order<PassOn<false>>(kShuffled, 2));
  const std::vector<int> out = run_in_order<PassOn<true>>(kForward, 2);
  EXPECT_EQ(out[0], 1);
  EXPECT_EQ(out[2 * kThreads - 1], 0);
  EXPECT_EQ(run_in_order<PassOn<true>>(kReversed, 2), out);
  EXPECT_EQ(run_in_order<PassOn<true>>(kShuffled, 2), out);
}

TEST(EmulatedDevice, a_race_between_blocks_shows) {
  EXPECT_NE(run_in_order<AddToNeighbour>(kForward, 9), run_in_order<AddToNeighbour>(kReversed, 9));
  EXPECT_NE(run_in_order<AddToNeighbour>(kForward, 9), run_in_order<AddToNeighbour>(kShuffled, 9));
}

TEST(EmulatedDevice, threads_keep_their_state_and_nothing_begins_as_zero) {
  std::vector<float> out(3 * kThreads);
  launch("keep", Keep{out.data()}, 1, kThreads, nullptr);
  for (int i = 0; i < kThreads; ++i) {
    EXPECT_EQ(out[3 * i], static_cast<float>(i));
    EXPECT_TRUE(std::isnan(out[3 * i + 1]) && std::isnan(out[3 * i + 2]));
  }
}

TEST(EmulatedDevice, launches_that_no_device_takes_are_refused) {
  std::vector<int> out(1024, 1);
  const PassOn<true> kernel{out.data()};
  for (const int threads : {0, -32, 33, 288, 512})
    EXPECT_THROW(launch("test", kernel, 1, threads, nullptr), Error) << threads;
  EXPECT_THROW(launch("test", kernel, -1, kThreads, nullptr), Error);
  EXPECT_THROW(launch("test", kernel, int64_t{1} << 31, kThreads, nullptr), Error);
  const int64_t launches = emulated_counts.launches;
  launch("test", kernel, 0, kThreads, nullptr);
  EXPECT_EQ(emulated_counts.launches, launches) << "no block, no launch";
}

TEST(DeviceLaunch, errors_say_what_was_started) {
  try {
    refuse_launch("gate_forward", 12, 64, "out of resources");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_STREQ(error.what(),
                 "the device does not start gate_forward with 12 blocks of 64 threads: out of resources");
    EXPECT_NE(error.hint(), "");
  }
}

TEST(BlockSums, every_thread_has_the_sum_of_all) {
  for (const int threads : {32, 64, 96, 128, 256}) {
    const double expected = threads * (threads + 1) / 2.0;
    expect_same_in_all_orders([&] {
      Guarded<double> one(threads), two(2 * threads);
      launch("one", SumBlock<1>{one.data()}, 1, threads, nullptr);
      launch("two", SumBlock<2>{two.data()}, 1, threads, nullptr);
      for (int i = 0; i < threads; ++i) {
        EXPECT_EQ(one.data()[i], expected);
        EXPECT_EQ(two.data()[2 * i], expected);
        EXPECT_EQ(two.data()[2 * i + 1], -3 * expected);
      }
      Bits bits;
      append(bits, one);
      append(bits, two);
      return bits;
    });
  }
}

TEST(Bfloat16, every_value_survives_and_every_nan_stays_nan) {
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    const float value = widened(Bfloat16{static_cast<uint16_t>(bits)});
    EXPECT_EQ(to_bfloat16(value).bits, std::isnan(value) ? 0x7fc0u : bits);
  }
  EXPECT_EQ(to_bfloat16(float_of(0x7f800001)).bits, 0x7fc0)
      << "a NaN whose bits lie where rounding drops them";
}

TEST(Bfloat16, rounds_to_the_nearest_and_ties_to_even) {
  EXPECT_EQ(to_bfloat16(float_of(0x3f808000)).bits, 0x3f80) << "a tie above an even number";
  EXPECT_EQ(to_bfloat16(float_of(0x3f818000)).bits, 0x3f82) << "a tie above an odd number";
  EXPECT_EQ(to_bfloat16(float_of(0x3f808001)).bits, 0x3f81);
  EXPECT_EQ(to_bfloat16(float_of(0x7f7fffff)).bits, 0x7f80) << "the largest number becomes infinite";
  EXPECT_EQ(to_bfloat16(float_of(0x00008000)).bits, 0x0000) << "a denormal tie";
  EXPECT_EQ(to_bfloat16(float_of(0x80018000)).bits, 0x8002);
  EXPECT_EQ(to_bfloat16(-0.0F).bits, 0x8000);
  EXPECT_EQ(to_bfloat16(-std::numeric_limits<float>::infinity()).bits, 0xff80);
}

TEST(Bfloat16, rounds_as_aten_does) {
  std::mt19937 random(1);
  std::vector<uint32_t> bits(1 << 18);
  for (uint32_t& word : bits) word = static_cast<uint32_t>(random());
  const at::Tensor wide = at::from_blob(bits.data(), {1 << 18}, at::kFloat);
  const at::Tensor narrow = wide.to(at::kBFloat16);
  const auto* expected = static_cast<const uint16_t*>(narrow.const_data_ptr());
  int64_t numbers = 0;
  for (size_t i = 0; i < bits.size(); ++i) {
    const float value = float_of(bits[i]);
    if (std::isnan(value)) continue;
    ASSERT_EQ(to_bfloat16(value).bits, expected[i]) << value;
    ++numbers;
  }
  EXPECT_GT(numbers, 1 << 17);
}

TEST(Pack, travels_whole_and_in_part_from_any_address) {
  expect_packs_travel<4, float>();
  expect_packs_travel<8, float>();
  expect_packs_travel<2, double>();
  expect_packs_travel<4, double>();
  expect_packs_travel<8, Bfloat16>();
  expect_packs_travel<4, Bfloat16>();
}

TEST(Pack, moves_16_bytes_at_once_where_an_address_allows_it) {
  static_assert(sizeof(Chunk<float, 8>) == 16 && alignof(Chunk<float, 8>) == 16 &&
                Chunk<float, 8>::kElements == 4);
  static_assert(sizeof(Chunk<Bfloat16, 8>) == 16 && alignof(Chunk<Bfloat16, 8>) == 16);
  static_assert(sizeof(Chunk<Bfloat16, 4>) == 8 && alignof(Chunk<Bfloat16, 4>) == 8);
  static_assert(kPack<float> == 4 && kPack<float, Bfloat16> == 8 && kPack<double> == 2);
  Guarded<float> floats(8, 0);
  EXPECT_TRUE((Chunk<float, 4>::fits(floats.data()) && Chunk<float, 4>::fits(floats.data() + 4)));
  EXPECT_FALSE((Chunk<float, 4>::fits(floats.data() + 1)));
}

TEST(FlatCut, covers_each_element_once) {
  for (const int64_t offset : {0, 1, 2, 3, 5, 7}) {
    for (const int64_t n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 257}) {
      expect_cut_covers_once<4, float>(n, offset);
      expect_cut_covers_once<8, Bfloat16>(n, offset);
      expect_cut_covers_once<2, double>(n, offset);
    }
  }
}

TEST(PhiloxDevice, draws_the_numbers_of_the_host) {
  const PhiloxStream stream(0x123456789abcdefULL, 7, 11, Purpose::kOuterNoise);
  for (const int64_t offset : {0, 1, 3}) {
    for (const int64_t n : kOddSizes) {
      expect_host_numbers<float>(stream, n, offset);
      expect_host_numbers<double>(stream, n, offset);
    }
  }
  expect_host_numbers<float>(stream, kLargeSize, 0);
}

TEST(PhiloxDevice, draws_the_numbers_of_the_host_for_any_key) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 500; ++i) {
    const PhiloxStream stream(random(), random() >> 24, random() >> 16,
                              static_cast<Purpose>(random() % 25 + 1));
    expect_host_numbers<float>(stream, 13, i % 4);
  }
  expect_host_numbers<float>(PhiloxStream(0, 0, 0, Purpose::kInit), 257, 0);
  expect_host_numbers<float>(
      PhiloxStream(~uint64_t{0}, (uint64_t{1} << 40) - 1, (uint64_t{1} << 48) - 1, Purpose::kPairNoise), 257,
      0);
}

TEST(PhiloxDevice, order_changes_no_bit) {
  const PhiloxStream stream(3, 1, 4, Purpose::kInnerNoise);
  expect_same_in_all_orders([&] {
    Guarded<float> out(5003, 1);
    fill_normal(stream.philox_key(), out.data(), out.size(), nullptr);
    Bits bits;
    append(bits, out);
    return bits;
  });
}

TEST(PhiloxDevice, more_numbers_than_a_stream_has_are_refused) {
  float none = 0;
  const portable::PhiloxKey key = PhiloxStream(1, 0, 0, Purpose::kInit).philox_key();
  EXPECT_THROW(fill_normal(key, &none, int64_t{1} << 34, nullptr), Error);
  EXPECT_THROW(fill_normal(key, &none, -1, nullptr), Error);
}

}  // namespace tmd::device
