#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include <Random123/philox.h>

#include "base/host_device.h"

// The steps from a Philox key to numbers, for host and device (base/philox.h is what the program uses). + - *
// / and sqrt in double precision only; compiled without contraction (-ffp-contract=off, --fmad=false) every
// device that rounds by IEEE 754 gives the host's bits.
namespace tmd::portable {

/// Key and counter of a stream; the first word of the counter numbers its blocks of four words.
struct PhiloxKey {
  uint64_t key;
  uint32_t counter1, counter2, counter3;
};

/// Words 4 block .. 4 block + 3 of the stream.
TMD_HOST_DEVICE inline r123::Philox4x32::ctr_type philox_block(const PhiloxKey& stream, uint32_t block) {
  const r123::Philox4x32::ctr_type counter = {{block, stream.counter1, stream.counter2, stream.counter3}};
  const r123::Philox4x32::key_type key = {
      {static_cast<uint32_t>(stream.key), static_cast<uint32_t>(stream.key >> 32)}};
  return r123::Philox4x32()(counter, key);
}

/// In [0, 1), from the upper 53 bits.
TMD_HOST_DEVICE inline double unit_double(uint64_t bits) {
  return static_cast<double>(bits >> 11) * (1.0 / 9007199254740992.0);
}

/// Horner's rule, highest power first.
template <int N>
TMD_HOST_DEVICE inline double polynomial(double x, const double (&coefficients)[N]) {
  double sum = 0;
  for (int i = 0; i < N; ++i) sum = product_plus(sum, x, coefficients[i]);
  return sum;
}

/// tmd::portable_log
TMD_HOST_DEVICE inline double log(double x) {
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m-1)/(m+1)).
  uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL;
  double mantissa = 0;
  std::memcpy(&mantissa, &bits, sizeof mantissa);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  const double z = (mantissa - 1) / (mantissa + 1);
  const double z2 = z * z;
  double sum = 0;
  for (int k = 21; k >= 1; k -= 2) sum = product_plus(sum, z2, 1.0 / k);
  return product_plus(2 * z, sum, exponent * 0.6931471805599453);
}

TMD_HOST_DEVICE inline double central_quantile(double p) {
  const double numerator[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                              1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  const double denominator[] = {-5.447609879822406e+01, 1.615858368580409e+02,  -1.556989798598866e+02,
                                6.680131188771972e+01,  -1.328068155288572e+01, 1.0};
  const double q = p - 0.5;
  const double r = q * q;
  return q * polynomial(r, numerator) / polynomial(r, denominator);
}

TMD_HOST_DEVICE inline double lower_tail_quantile(double p) {
  const double numerator[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                              -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  const double denominator[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                                3.754408661907416e+00, 1.0};
  const double q = std::sqrt(-2 * portable::log(p));
  return polynomial(q, numerator) / polynomial(q, denominator);
}

/// tmd::normal_quantile
TMD_HOST_DEVICE inline double normal_quantile(double p) {
  const double tail = 0.02425;
  if (p < tail) return lower_tail_quantile(p);
  if (p > 1 - tail) return -lower_tail_quantile(1 - p);
  return central_quantile(p);
}

/// (word + 1/2) / 2^32 lies strictly inside (0, 1) and is symmetric about one half.
TMD_HOST_DEVICE inline double normal_of_word(uint32_t word) {
  return portable::normal_quantile((static_cast<double>(word) + 0.5) * (1.0 / 4294967296.0));
}

}  // namespace tmd::portable
