#include "base/philox.h"

#include "base/portable_numbers.h"

namespace tmd {
namespace {

template <class T>
void fill_normal_of(std::span<T> out, const portable::PhiloxKey& stream) {
  for (size_t i = 0; i < out.size(); i += 4) {
    const auto words = portable::philox_block(stream, static_cast<uint32_t>(i / 4));
    for (size_t j = 0; j < 4 && i + j < out.size(); ++j)
      out[i + j] = static_cast<T>(portable::normal_of_word(words[j]));
  }
}

}  // namespace

PhiloxStream::PhiloxStream(uint64_t seed, uint64_t iteration, uint64_t sample, Purpose purpose)
    : key_(seed),
      // 32 bits of iteration, 32 + 16 bits of sample, 8 bits of purpose; the rest counts words.
      counter1_(static_cast<uint32_t>(iteration)),
      counter2_(static_cast<uint32_t>(sample)),
      counter3_(static_cast<uint32_t>(purpose) << 24 | static_cast<uint32_t>(iteration >> 32 & 0xff) << 16 |
                static_cast<uint32_t>(sample >> 32 & 0xffff)) {}

portable::PhiloxKey PhiloxStream::philox_key() const { return {key_, counter1_, counter2_, counter3_}; }

uint32_t PhiloxStream::bits(uint64_t index) const {
  return portable::philox_block(philox_key(), static_cast<uint32_t>(index / 4))[index % 4];
}

uint64_t PhiloxStream::bits64(uint64_t index) const {
  return static_cast<uint64_t>(bits(2 * index)) << 32 | bits(2 * index + 1);
}

double PhiloxStream::uniform(uint64_t index) const { return portable::unit_double(bits64(index)); }

uint64_t PhiloxStream::below(uint64_t index, uint64_t bound) const {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(bits64(index)) * bound >> 64);
}

double PhiloxStream::normal(uint64_t index) const { return portable::normal_of_word(bits(index)); }

void PhiloxStream::fill_uniform(std::span<double> out) const {
  for (size_t i = 0; i < out.size(); ++i) out[i] = uniform(i);
}

void PhiloxStream::fill_normal(std::span<float> out) const { fill_normal_of(out, philox_key()); }

void PhiloxStream::fill_normal(std::span<double> out) const { fill_normal_of(out, philox_key()); }

double normal_quantile(double p) { return portable::normal_quantile(p); }

double portable_log(double x) { return portable::log(x); }

}  // namespace tmd
