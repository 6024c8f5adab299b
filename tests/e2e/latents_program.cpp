// Compares the samples of two data sets, for tests in Python, which has no reader of HDF5:
//   latents_program FIRST.h5... -- SECOND.h5...
// prints JSON: samples of each, the largest difference and size of a number in the latents that both have,
// whether their texts and prompts are equal, and of the first data set's samples the noise (null where it is
// not stated) and how much they are like it, were it drawn as for pairs and as for samples: the least of the
// correlations, and the largest.

#include <algorithm>
#include <cmath>
#include <iostream>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/philox.h"
#include "data/data_set.h"

namespace {

using namespace tmd;
using nlohmann::json;

data::Sample sample_of(data::DataSet& set, int64_t index) {
  data::ReadResult result = set.read(index);
  if (const auto* bad = std::get_if<data::BadSample>(&result))
    throw Error(ErrorKind::kData, bad->name + ": " + bad->problem);
  return std::get<data::Sample>(std::move(result));
}

double correlation(const at::Tensor& latent, const data::NoiseOf& noise, Purpose purpose) {
  at::Tensor drawn = at::empty(latent.sizes(), at::kFloat);
  PhiloxStream(noise.seed, 0, static_cast<uint64_t>(noise.number), purpose)
      .fill_normal(std::span(drawn.mutable_data_ptr<float>(), static_cast<size_t>(drawn.numel())));
  const at::Tensor a = latent - latent.mean(), b = drawn - drawn.mean();
  return (a * b).sum().item<double>() /
         std::sqrt((a * a).sum().item<double>() * (b * b).sum().item<double>());
}

json compare(data::DataSet& first, data::DataSet& second) {
  double difference = 0, size = 0;
  bool same_text = true;
  json noise = json::array();
  double least_pair = 1, largest_sample = -1;
  for (int64_t i = 0; i < first.size(); ++i) {
    const auto known = first.noise_of(i);
    noise.push_back(known ? json{known->seed, known->number} : json());
    if (!known) continue;
    const at::Tensor latent = sample_of(first, i).latent;
    least_pair = std::min(least_pair, correlation(latent, *known, Purpose::kPairNoise));
    largest_sample = std::max(largest_sample, correlation(latent, *known, Purpose::kSampleNoise));
  }
  for (int64_t i = 0; i < std::min(first.size(), second.size()); ++i) {
    const data::Sample a = sample_of(first, i), b = sample_of(second, i);
    difference = std::max(difference, (a.latent - b.latent).abs().max().item<double>());
    size = std::max(size, a.latent.abs().max().item<double>());
    same_text = same_text && at::equal(a.text, b.text) && a.prompt == b.prompt;
  }
  return {{"samples", {first.size(), second.size()}},
          {"difference", difference},
          {"size", size},
          {"same_text", same_text},
          {"noise", noise},
          {"like_pair_noise", least_pair},
          {"like_sample_noise", largest_sample}};
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const auto middle = std::ranges::find(words, "--");
  try {
    check(middle != words.end(), ErrorKind::kUsage, "latents_program FIRST.h5... -- SECOND.h5...");
    data::DataSet first({words.begin(), middle}), second({middle + 1, words.end()});
    std::cout << compare(first, second) << "\n";
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return error.exit_code();
  }
  return 0;
}
