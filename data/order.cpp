#include "data/order.h"

#include <array>
#include <bit>

#include "base/error.h"
#include "base/philox.h"

namespace tmd::data {
namespace {

constexpr int kRounds = 8;

// Finaliser of MurmurHash3: every input bit reaches every output bit.
uint64_t mix(uint64_t x) {
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ x >> 33;
}

using RoundKeys = std::array<uint64_t, kRounds>;

RoundKeys round_keys(uint64_t seed, int64_t epoch) {
  // Replacements use the samples below 2^48 - 1 of the same purpose.
  const PhiloxStream stream(seed, static_cast<uint64_t>(epoch), (uint64_t{1} << 48) - 1, Purpose::kOrder);
  RoundKeys keys;
  for (int i = 0; i < kRounds; ++i) keys[i] = stream.bits64(i);
  return keys;
}

// A bijection of [0, 2^(2 * half_bits)).
uint64_t feistel(uint64_t value, int half_bits, const RoundKeys& keys) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits, right = value & mask;
  for (const uint64_t key : keys) {
    const uint64_t next = left ^ (mix(right ^ key) & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

int64_t permuted(uint64_t seed, int64_t epoch, int64_t n, int64_t position) {
  ensure(n >= 1 && position >= 0 && position < n, "a position lies within its epoch");
  if (n == 1) return 0;
  const RoundKeys keys = round_keys(seed, epoch);
  const int half_bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(n - 1)) + 1) / 2;
  // Fewer than 4 n values are permuted, so on average at most four steps lead back below n.
  auto value = static_cast<uint64_t>(position);
  do value = feistel(value, half_bits, keys);
  while (value >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(value);
}

int64_t sample_at(uint64_t seed, int64_t n, int64_t global_position) {
  ensure(n >= 1 && global_position >= 0, "positions count from zero over at least one sample");
  return permuted(seed, global_position / n, n, global_position % n);
}

int64_t replacement_at(uint64_t seed, int64_t n, int64_t global_position, int64_t attempt) {
  ensure(n >= 1 && global_position >= 0 && attempt >= 1, "replacements are attempts 1, 2, ... of a position");
  const PhiloxStream stream(seed, static_cast<uint64_t>(global_position / n),
                            static_cast<uint64_t>(global_position % n), Purpose::kOrder);
  return static_cast<int64_t>(stream.below(static_cast<uint64_t>(attempt), static_cast<uint64_t>(n)));
}

}  // namespace tmd::data
