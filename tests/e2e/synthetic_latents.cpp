// Writes a tmd-latents file of random numbers, for runs whose samples need a shape and no content:
//   synthetic_latents FILE.h5 COUNT C,T,H,W S,E
// Latents and text are N(0, 1); half of a sample's rows of text hold words.

#include <charconv>
#include <iostream>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/philox.h"
#include "data/codec.h"
#include "data/writer.h"

namespace {

using namespace tmd;

// Which numbers of a sample: whatever is drawn from one seed is told apart by them.
constexpr uint64_t kLatentSeed = 1, kTextSeed = 2;

/// "16,21,60,104" as numbers, as many as `to` takes.
template <size_t count>
std::array<int64_t, count> numbers(const std::string& text) {
  std::array<int64_t, count> result{};
  const char *at = text.data(), *const end = at + text.size();
  for (size_t i = 0; i < count; ++i) {
    const auto [next, error] = std::from_chars(at, end, result[i]);
    const bool is_last = i + 1 == count;
    check(error == std::errc() && result[i] > 0 && (is_last ? next == end : next < end && *next == ','),
          ErrorKind::kUsage, "not " + std::to_string(count) + " whole numbers above 0: " + text);
    at = next + (is_last ? 0 : 1);
  }
  return result;
}

at::Tensor normal(uint64_t seed, int64_t sample, at::IntArrayRef shape) {
  at::Tensor drawn = at::empty(shape, at::kFloat);
  PhiloxStream(seed, 0, static_cast<uint64_t>(sample), Purpose::kPairNoise)
      .fill_normal(std::span(drawn.mutable_data_ptr<float>(), static_cast<size_t>(drawn.numel())));
  return drawn;
}

void write(const std::string& path, int64_t count, const std::array<int64_t, 4>& latent,
           const std::array<int64_t, 2>& text) {
  data::LatentHeader header;
  header.samples = count;
  header.codec = data::kWanCodec;
  header.latent_shape = latent;
  header.text_shape = text;
  header.latent_mean.assign(static_cast<size_t>(latent[0]), 0);
  header.latent_std.assign(static_cast<size_t>(latent[0]), 1);
  header.text_encoder = "random numbers";
  header.has_negative_text = true;
  const int64_t words = (text[0] + 1) / 2;
  const auto embedding = [&](int64_t number) {
    at::Tensor rows = normal(kTextSeed, number, text);
    rows.narrow(0, words, text[0] - words).zero_();
    return rows;
  };
  data::LatentWriter writer(path, header);
  for (int64_t i = 0; i < count; ++i) {
    writer.write(
        i,
        {.latent = normal(kLatentSeed, i, latent), .text = embedding(i), .text_length = words, .prompt = {}});
  }
  writer.write_negative_text({embedding(count), words});
  writer.finish();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    check(argc == 5, ErrorKind::kUsage, "synthetic_latents FILE.h5 COUNT C,T,H,W S,E");
    write(argv[1], numbers<1>(argv[2])[0], numbers<4>(argv[3]), numbers<2>(argv[4]));
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return error.exit_code();
  }
  return 0;
}
