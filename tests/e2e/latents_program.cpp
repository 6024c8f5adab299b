// Compares the samples of two data sets, for tests in Python, which has no reader of HDF5:
//   latents_program FIRST.h5... -- SECOND.h5...
// prints JSON: samples of each, the largest difference and size of a number in the latents that both have,
// whether their texts and prompts are equal, and the noise of the first data set's samples (null where it is
// not stated).

#include <algorithm>
#include <iostream>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
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

json compare(data::DataSet& first, data::DataSet& second) {
  double difference = 0, size = 0;
  bool same_text = true;
  json noise = json::array();
  for (int64_t i = 0; i < first.size(); ++i) {
    const auto known = first.noise_of(i);
    noise.push_back(known ? json{known->seed, known->number} : json());
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
          {"noise", noise}};
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
