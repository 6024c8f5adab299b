#include "base/philox.h"

#include <Random123/philox.h>

#include <bit>
#include <cmath>

namespace tmd {
namespace {

using Philox = r123::Philox4x32;

double unit_double(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

// (u + 1/2) / 2^32 lies strictly inside (0, 1) and is symmetric about one half.
double normal_of_word(uint32_t word) { return normal_quantile((static_cast<double>(word) + 0.5) * 0x1.0p-32); }

double polynomial(double x, std::initializer_list<double> coefficients) {
  double sum = 0;
  for (double c : coefficients) sum = sum * x + c;
  return sum;
}

double central_quantile(double p) {
  const double q = p - 0.5;
  const double r = q * q;
  const double numerator = polynomial(r, {-3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02,
                                          1.383577518672690e+02, -3.066479806614716e+01, 2.506628277459239e+00});
  const double denominator = polynomial(r, {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                                            6.680131188771972e+01, -1.328068155288572e+01, 1.0});
  return q * numerator / denominator;
}

double lower_tail_quantile(double p) {
  const double q = std::sqrt(-2 * portable_log(p));
  const double numerator = polynomial(q, {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                                          -2.549732539343734e+00, 4.374664141464968e+00, 2.938163982698783e+00});
  const double denominator = polynomial(
      q, {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00, 1.0});
  return numerator / denominator;
}

}  // namespace

PhiloxStream::PhiloxStream(uint64_t seed, uint64_t iteration, uint64_t sample, Purpose purpose)
    : key_(seed),
      // 32 bits of iteration, 32 + 16 bits of sample, 8 bits of purpose; the rest counts words.
      counter1_(static_cast<uint32_t>(iteration)),
      counter2_(static_cast<uint32_t>(sample)),
      counter3_(static_cast<uint32_t>(purpose) << 24 | static_cast<uint32_t>(iteration >> 32 & 0xff) << 16 |
                static_cast<uint32_t>(sample >> 32 & 0xffff)) {}

uint32_t PhiloxStream::bits(uint64_t index) const {
  const Philox::ctr_type counter = {{static_cast<uint32_t>(index / 4), counter1_, counter2_, counter3_}};
  const Philox::key_type key = {{static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)}};
  return Philox()(counter, key)[index % 4];
}

uint64_t PhiloxStream::bits64(uint64_t index) const {
  return static_cast<uint64_t>(bits(2 * index)) << 32 | bits(2 * index + 1);
}

double PhiloxStream::uniform(uint64_t index) const { return unit_double(bits64(index)); }

uint64_t PhiloxStream::below(uint64_t index, uint64_t bound) const {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(bits64(index)) * bound >> 64);
}

double PhiloxStream::normal(uint64_t index) const { return normal_of_word(bits(index)); }

void PhiloxStream::fill_uniform(std::span<double> out) const {
  for (size_t i = 0; i < out.size(); ++i) out[i] = uniform(i);
}

namespace {

template <class T>
void fill_normal_of(std::span<T> out, const Philox::key_type& key, uint32_t c1, uint32_t c2, uint32_t c3) {
  for (size_t i = 0; i < out.size(); i += 4) {
    const Philox::ctr_type words = Philox()({{static_cast<uint32_t>(i / 4), c1, c2, c3}}, key);
    for (size_t j = 0; j < 4 && i + j < out.size(); ++j) out[i + j] = static_cast<T>(normal_of_word(words[j]));
  }
}

}  // namespace

void PhiloxStream::fill_normal(std::span<float> out) const {
  fill_normal_of(out, {{static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)}}, counter1_, counter2_,
                 counter3_);
}

void PhiloxStream::fill_normal(std::span<double> out) const {
  fill_normal_of(out, {{static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)}}, counter1_, counter2_,
                 counter3_);
}

double normal_quantile(double p) {
  constexpr double kTail = 0.02425;
  if (p < kTail) return lower_tail_quantile(p);
  if (p > 1 - kTail) return -lower_tail_quantile(1 - p);
  return central_quantile(p);
}

double portable_log(double x) {
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m-1)/(m+1)).
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  const double z = (mantissa - 1) / (mantissa + 1);
  const double z2 = z * z;
  double sum = 0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * z2 + 1.0 / k;
  return 2 * z * sum + exponent * 0.6931471805599453;
}

}  // namespace tmd
