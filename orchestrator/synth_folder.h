#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/latent_header.h"

namespace tmd::orchestrator {

/// What a set of samples was made with, in a fixed order: JSON objects of values, perhaps one in the other.
using SynthSettings = nlohmann::ordered_json;

/// The first value of `ours` that `theirs` lacks or has otherwise: "sampler.steps: 4 there, 6 here". Values
/// that only `theirs` has are not looked at. Empty: none.
std::optional<std::string> first_difference(const SynthSettings& theirs, const SynthSettings& ours);

/// The folder of `tmd data synth`: tmd-latents files synth_00000.h5, ... of `part` samples each, the last one
/// of what is left. Sample 0 of a file has the number that its noise says; `generator` holds the settings.
class SynthFolder {
 public:
  SynthFolder(std::filesystem::path folder, uint64_t seed, int64_t count, int64_t part)
      : folder_(std::move(folder)), seed_(seed), count_(count), part_(part) {}

  int64_t parts() const { return (count_ + part_ - 1) / part_; }
  std::filesystem::path path(int64_t index) const;
  /// What sample 0 of a part starts from.
  data::NoiseOf first(int64_t index) const { return {seed_, index * part_}; }
  int64_t samples(int64_t index) const;

  /// Indices of the parts that exist, ascending, also beyond the last one of this set. Throws kIo.
  std::vector<int64_t> present() const;

  /// Holds the header of a part that exists against what is to be made: throws kConfig that names the file
  /// and the first difference, kData for a broken file, kIo for one that cannot be read.
  void check_made_with(int64_t index, const SynthSettings& settings) const;

  /// Reads every sample of a part that exists. Throws kData that names the first broken one, kIo when reading
  /// fails.
  void check_intact(int64_t index) const;

  /// Removes what earlier starts that were killed have left of parts. Throws kIo.
  void remove_unfinished() const;

 private:
  std::filesystem::path folder_;
  uint64_t seed_;
  int64_t count_, part_;
};

}  // namespace tmd::orchestrator
