// The kernels over flat shards, as C++ on an emulated grid (tests/support/emulated_device) and on a device.

#include "sharding/device_kernels.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/device_pack.h"
#include "base/error.h"
#include "emulated_runs.h"

namespace tmd::sharding::device {
namespace {

using namespace tmd::device;

const std::vector<int64_t> kOffsets = {0, 1, 2, 5};

template <class X>
std::vector<X> random_elements(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<X> values(static_cast<size_t>(n));
  for (X& x : values) x = static_cast<X>(normal(random));
  return values;
}
template <>
std::vector<Bfloat16> random_elements<Bfloat16>(int64_t n, uint64_t seed) {
  std::vector<Bfloat16> values;
  for (const float x : random_elements<float>(n, seed)) values.push_back(to_bfloat16(x));
  return values;
}

// A range of AdamW with all that belongs to it, each tensor `offset` elements from an aligned address; the
// gradient `gradient_offset`.
template <class T>
struct Shard {
  Shard(int64_t n, int64_t offset, int64_t gradient_offset, uint64_t seed)
      : weight(random_elements<T>(n, seed), offset),
        first(random_elements<T>(n, seed + 1), offset),
        second(random_elements<T>(n, seed + 2), offset),
        average(random_elements<T>(n, seed + 3), offset),
        gradient(random_elements<T>(n, seed + 4), gradient_offset),
        copy(n, offset) {
    for (int64_t i = 0; i < n; ++i) second.data()[i] *= second.data()[i];
  }

  AdamWRange range(bool averages, bool copies = true) {
    return {std::is_same_v<T, double>,
            weight.size(),
            weight.data(),
            first.data(),
            second.data(),
            gradient.data(),
            averages ? average.data() : nullptr,
            copies ? copy.data() : nullptr};
  }
  Bits bits() const {
    Bits bits;
    append(bits, weight);
    append(bits, first);
    append(bits, second);
    append(bits, average);
    append(bits, gradient);
    append(bits, copy);
    return bits;
  }

  Guarded<T> weight, first, second, average, gradient;
  Guarded<Bfloat16> copy;
};

AdamWFactors factors(double step_size = 1e-3) {
  return {.gradient_scale = 0.7,
          .beta1 = 0.9,
          .beta2 = 0.99,
          .epsilon = 1e-8,
          .decay = 1 - 1e-4,
          .step_size = step_size,
          .second_scale = 1 / std::sqrt(1 - std::pow(0.99, 3)),
          .average_decay = 0.999};
}

template <class T>
void expect_host_step(int64_t n, int64_t offset, int64_t gradient_offset, bool averages) {
  SCOPED_TRACE(testing::Message() << n << " elements, offsets " << offset << " and " << gradient_offset);
  Shard<T> host(n, offset, gradient_offset, 10), device(n, offset, gradient_offset, 10);
  plain::kAdamWKernels.step(host.range(averages), factors());

  const AdamWSegment segment{device.range(averages), factors()};
  adamw_step(&segment, 1, nullptr);

  EXPECT_EQ(device.bits(), host.bits());
  EXPECT_TRUE(device.copy.guards_are_intact());
  for (int64_t i = 0; i < n; ++i) {
    ASSERT_EQ(device.copy.data()[i].bits, to_bfloat16(static_cast<float>(host.weight.data()[i])).bits) << i;
  }
}

at::Tensor tensor_of(const Guarded<float>& values) {
  return at::from_blob(const_cast<float*>(values.data()), {values.size()}, at::kFloat).to(at::kDouble);
}

template <class T>
double exact_squares(const std::vector<T>& values) {
  long double sum = 0;
  for (const T x : values) sum += static_cast<long double>(x) * static_cast<long double>(x);
  return static_cast<double>(sum);
}

template <class T>
double device_squares(const Guarded<T>& x) {
  Guarded<double> partials(square_partials(x.size())), total(1);
  sum_of_squares(std::is_same_v<T, double>, x.data(), x.size(), partials.data(), nullptr);
  sum(partials.data(), partials.size(), total.data(), nullptr);
  EXPECT_TRUE(partials.guards_are_intact() && total.guards_are_intact());
  return total.data()[0];
}

// Zeros, ties to both sides, denormals, infinities, the largest numbers, and NaN whose bits rounding would
// drop or carry into the sign.
float special(int64_t i) {
  const uint32_t all[] = {0x00000000, 0x80000000, 0x3f800000, 0x7f800000, 0xff800000, 0x7fc00000,
                          0x7f800001, 0xffffffff, 0x3f808000, 0x3f818000, 0x3f808001, 0x00008000,
                          0x80018000, 0x00000001, 0x7f7fffff, 0xff7f7fff, 0x007fffff, 0xbf7fff80};
  float value = 0;
  std::memcpy(&value, &all[i % 18], sizeof value);
  return value;
}

// Rounded by ATen, but for NaN.
std::vector<uint16_t> rounded_by_aten(std::vector<float>& values) {
  const at::Tensor narrow =
      at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kFloat).to(at::kBFloat16);
  std::vector<uint16_t> bits(values.size());
  if (!bits.empty()) std::memcpy(bits.data(), narrow.const_data_ptr(), 2 * bits.size());
  for (size_t i = 0; i < bits.size(); ++i) {
    if (std::isnan(values[i])) bits[i] = 0x7fc0;
  }
  return bits;
}

}  // namespace

TEST(AdamWOnDevice, steps_as_the_host_does_to_the_bit) {
  for (const int64_t n : kOddSizes) {
    for (const int64_t offset : kOffsets) {
      expect_host_step<float>(n, offset, offset, n % 2 == 0);
      expect_host_step<double>(n, offset, offset, n % 2 == 1);
    }
    expect_host_step<float>(n, 0, 3, true);
    expect_host_step<float>(n, 1, 0, false);
  }
  expect_host_step<float>(kLargeSize, 3, 3, true);
}

TEST(AdamWOnDevice, is_the_formula_in_float64) {
  Shard<float> shard(1025, 1, 1, 20);
  const AdamWFactors f = factors();
  const at::Tensor g = tensor_of(shard.gradient) * f.gradient_scale,
                   m = f.beta1 * tensor_of(shard.first) + (1 - f.beta1) * g,
                   v = f.beta2 * tensor_of(shard.second) + (1 - f.beta2) * g * g,
                   w = tensor_of(shard.weight) * f.decay -
                       f.step_size * m / (v.sqrt() * f.second_scale + f.epsilon),
                   a = f.average_decay * tensor_of(shard.average) + (1 - f.average_decay) * w;

  const AdamWSegment segment{shard.range(true), f};
  adamw_step(&segment, 1, nullptr);

  EXPECT_TRUE(at::allclose(tensor_of(shard.first), m, 1e-6, 1e-7));
  EXPECT_TRUE(at::allclose(tensor_of(shard.second), v, 1e-6, 1e-7));
  EXPECT_TRUE(at::allclose(tensor_of(shard.weight), w, 1e-6, 1e-7));
  EXPECT_TRUE(at::allclose(tensor_of(shard.average), a, 1e-6, 1e-7));
}

// More segments than a launch has, some of them empty, each with its own rate; some without average or copy.
TEST(AdamWOnDevice, ranges_have_their_own_numbers) {
  expect_same_in_all_orders([] {
    std::vector<Shard<float>> host, device;
    std::vector<AdamWSegment> segments;
    const int64_t sizes[] = {5, 0, 3000, 1, 1024, 0};
    for (int64_t i = 0; i < 37; ++i) {
      host.emplace_back(sizes[i % 6], i % 4, i % 4, 100 + i);
      device.emplace_back(sizes[i % 6], i % 4, i % 4, 100 + i);
    }
    for (size_t i = 0; i < host.size(); ++i) {
      const AdamWFactors f = factors(1e-3 * static_cast<double>(i + 1));
      plain::kAdamWKernels.step(host[i].range(i % 3 == 0, i % 2 == 1), f);
      segments.push_back({device[i].range(i % 3 == 0, i % 2 == 1), f});
    }
    adamw_step(segments.data(), static_cast<int64_t>(segments.size()), nullptr);

    Bits bits;
    for (size_t i = 0; i < host.size(); ++i) {
      EXPECT_EQ(device[i].bits(), host[i].bits()) << i;
      const Bits own = device[i].bits();
      bits.insert(bits.end(), own.begin(), own.end());
    }
    return bits;
  });
}

TEST(AdamWOnDevice, ranges_of_two_types_are_refused) {
  Shard<float> narrow(3, 0, 0, 1);
  Shard<double> wide(3, 0, 0, 1);
  const AdamWSegment segments[] = {{narrow.range(false), factors()}, {wide.range(false), factors()}};
  EXPECT_THROW(adamw_step(segments, 2, nullptr), Error);
  adamw_step(segments, 0, nullptr);
}

TEST(SumOfSquaresOnDevice, is_the_exact_sum_to_rounding) {
  std::vector<int64_t> sizes = kOddSizes;
  sizes.insert(sizes.end(), {kSquaresPerPartial - 1, kSquaresPerPartial, kSquaresPerPartial + 1, kLargeSize});
  for (const int64_t n : sizes) {
    for (const int64_t offset : kOffsets) {
      const Guarded<float> floats(random_elements<float>(n, 3), offset);
      const Guarded<double> doubles(random_elements<double>(n, 4), offset);
      const double of_floats = exact_squares(floats.values()), of_doubles = exact_squares(doubles.values());
      EXPECT_NEAR(device_squares(floats), of_floats, 1e-14 * of_floats) << n << " from " << offset;
      EXPECT_NEAR(device_squares(doubles), of_doubles, 1e-14 * of_doubles) << n << " from " << offset;
    }
  }
}

TEST(SumOfSquaresOnDevice, neither_order_nor_alignment_changes_a_bit) {
  const std::vector<float> values = random_elements<float>(100003, 5);
  const double aligned = device_squares(Guarded<float>(values, 0));
  for (const int64_t offset : kOffsets) EXPECT_EQ(device_squares(Guarded<float>(values, offset)), aligned);
  expect_same_in_all_orders([&] {
    Bits bits;
    const std::vector<double> total = {device_squares(Guarded<float>(values, 1))};
    append(bits, Guarded<double>(total, 0));
    return bits;
  });
}

TEST(SumOfSquaresOnDevice, one_element_that_is_not_finite_shows) {
  for (const int64_t at : {0, 8191, 8192, 19999}) {
    std::vector<float> values = random_elements<float>(20000, 6);
    values[at] = std::numeric_limits<float>::infinity();
    EXPECT_TRUE(std::isinf(device_squares(Guarded<float>(values, 0))));
    values[at] = std::nanf("");
    EXPECT_TRUE(std::isnan(device_squares(Guarded<float>(values, 0))));
  }
}

TEST(CastOnDevice, rounds_every_element_to_bfloat16) {
  std::vector<int64_t> sizes = kOddSizes;
  sizes.push_back(kLargeSize);
  for (const int64_t n : sizes) {
    for (const int64_t from_offset : {0, 1, 4}) {
      for (const int64_t to_offset : {0, 1, 4, 7}) {
        std::vector<float> values = random_elements<float>(n, 7);
        for (int64_t i = 0; i < n; i += 3) values[i] = special(i / 3);
        const Guarded<float> from(values, from_offset);
        Guarded<Bfloat16> to(n, to_offset);
        cast(from.data(), to.data(), n, nullptr);
        EXPECT_TRUE(to.guards_are_intact());
        const std::vector<uint16_t> expected = rounded_by_aten(values);
        for (int64_t i = 0; i < n; ++i) ASSERT_EQ(to.data()[i].bits, expected[i]) << i;
      }
    }
  }
}

TEST(CastOnDevice, widens_every_bfloat16_exactly) {
  std::vector<Bfloat16> all;
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) all.push_back({static_cast<uint16_t>(bits)});
  for (const int64_t from_offset : {0, 1, 3}) {
    for (const int64_t to_offset : {0, 1, 3}) {
      for (const int64_t n : {0, 1, 7, 33, 1 << 16}) {
        const Guarded<Bfloat16> from({all.begin(), all.begin() + n}, from_offset);
        Guarded<float> to(n, to_offset);
        cast(from.data(), to.data(), n, nullptr);
        EXPECT_TRUE(to.guards_are_intact());
        for (int64_t i = 0; i < n; ++i) {
          uint32_t bits = 0;
          std::memcpy(&bits, to.data() + i, sizeof bits);
          ASSERT_EQ(bits, static_cast<uint32_t>(i) << 16);
        }
      }
    }
  }
}

TEST(CastOnDevice, adds_values_of_bfloat16) {
  for (const int64_t n : kOddSizes) {
    for (const int64_t target_offset : {0, 1, 4}) {
      for (const int64_t values_offset : {0, 1, 4}) {
        const std::vector<float> before = random_elements<float>(n, 8);
        const Guarded<Bfloat16> values(random_elements<Bfloat16>(n, 9), values_offset);
        Guarded<float> target(before, target_offset);
        add_cast(target.data(), values.data(), n, nullptr);
        EXPECT_TRUE(target.guards_are_intact());
        for (int64_t i = 0; i < n; ++i)
          ASSERT_EQ(target.data()[i], before[i] + widened(values.data()[i])) << i;
      }
    }
  }
}

TEST(CastOnDevice, order_changes_no_bit) {
  expect_same_in_all_orders([] {
    Guarded<float> sum(random_elements<float>(5003, 1), 1);
    Guarded<Bfloat16> narrow(5003, 2);
    cast(sum.data(), narrow.data(), 5003, nullptr);
    add_cast(sum.data(), narrow.data(), 5003, nullptr);
    Bits bits;
    append(bits, sum);
    append(bits, narrow);
    return bits;
  });
}

}  // namespace tmd::sharding::device
