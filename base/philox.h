#pragma once

#include <cstdint>
#include <span>

namespace tmd {

namespace portable {
struct PhiloxKey;
}

/// What a random number is for. Part of the key of every draw, so that two purposes never share numbers.
/// The values are part of the meaning of a seed: append, never renumber.
enum class Purpose : uint32_t {
  kInit = 1,             ///< weight initialisation
  kOrder = 2,            ///< data order
  kOuterNoise = 3,       ///< x_1
  kInnerNoise = 4,       ///< y_1
  kOuterTime = 5,        ///< t
  kInnerTime = 6,        ///< s
  kFlowMatching = 7,     ///< r = s or not
  kConditionDrop = 8,    ///< text replaced by the negative prompt
  kDiffusionTime = 9,    ///< t_d
  kDiffusionNoise = 10,  ///< eps
  kDropoutFake = 11,
  kDropoutReal = 12,
  kR1Noise = 13,
  kSampleNoise = 14,        ///< start of a sampler
  kSampleInner = 15,        ///< y_1 of a sampler's outer steps
  kToy = 16,                ///< toy data
  kEvaluation = 17,         ///< projections, bootstrap
  kInnerEnd = 18,           ///< r of a continuous interval
  kInnerIndex = 19,         ///< j of a state of the inner path, without rollout
  kRealTime = 20,           ///< t_d of real samples with noise of their own
  kRealNoise = 21,          ///< their eps
  kOuterRenewal = 22,       ///< new noise of a sampler's outer steps
  kSimulationInner = 23,    ///< y_1 of the outer steps that training simulates
  kSimulationRenewal = 24,  ///< their new noise
  kPairNoise = 25,          ///< noise of `tmd data synth`
};

/// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): number i of a stream is a pure function
/// of (seed, iteration, sample, purpose, i). No state, so the draws do not depend on rank count, order or
/// restarts.
///
/// A stream is a list of 2^34 words of 32 bits. bits(i) and normal(i) use word i; bits64(i), uniform(i) and
/// below(i) use words 2i and 2i + 1. So the two kinds share words when one stream serves both.
/// Limits, not checked; higher bits are dropped and numbers repeat: iteration < 2^40, sample < 2^48;
/// index < 2^34 for bits and normal, < 2^33 for bits64, uniform and below.
///
/// Bits to numbers use only + - * / and sqrt in double precision with contraction switched off, so that every
/// host and device that rounds by IEEE 754 gets the same bits; libm functions do not promise that.
/// Thread: any; a stream is immutable.
class PhiloxStream {
 public:
  /// `sample` is the global sample index, or any other counter of the purpose.
  PhiloxStream(uint64_t seed, uint64_t iteration, uint64_t sample, Purpose purpose);

  /// 32 uniformly distributed bits.
  uint32_t bits(uint64_t index) const;
  /// 64 uniformly distributed bits, word 2*index in the high half.
  uint64_t bits64(uint64_t index) const;
  /// Uniform in [0, 1) with 53 random bits.
  double uniform(uint64_t index) const;
  /// Uniform integer in [0, bound), bound >= 1. Bias below bound / 2^64.
  uint64_t below(uint64_t index, uint64_t bound) const;
  /// Standard normal: normal_quantile((word `index` + 1/2) / 2^32), so at most 6.34 in size.
  double normal(uint64_t index) const;

  /// out[i] = uniform(i).
  void fill_uniform(std::span<double> out) const;
  /// out[i] = normal(i), rounded to the element type.
  void fill_normal(std::span<float> out) const;
  void fill_normal(std::span<double> out) const;

  /// What a device needs to draw the same numbers (base/portable_numbers.h).
  portable::PhiloxKey philox_key() const;

 private:
  uint64_t key_;  // seed
  uint32_t counter1_, counter2_, counter3_;
};

/// Inverse of the standard normal distribution function for 0 < p < 1, relative error below 1.2e-9.
/// Acklam's form of three rational pieces; the tails use portable_log.
double normal_quantile(double p);

/// Natural logarithm of a normal number x > 0 by + - * / only, within 2 ulp. Same bits on every IEEE 754
/// machine.
double portable_log(double x);

}  // namespace tmd
