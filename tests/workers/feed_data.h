#pragma once

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/hdf5.h"
#include "data/data_set.h"
#include "tests/data/small_file.h"
#include "workers/batch_feed.h"
#include "workers/micro_batch.h"

namespace tmd::workers {

inline data::LatentHeader feed_header(int64_t samples, bool is_sealed) {
  data::LatentHeader header = data::small_header(samples);
  header.has_checksum = is_sealed;
  return header;
}

/// Writes a small file and opens it.
inline data::DataSet small_data_set(const std::filesystem::path& path, int64_t samples,
                                    bool is_sealed = true) {
  data::write_small_file(path, feed_header(samples, is_sealed));
  return data::DataSet({path});
}

inline void write_prompt_list(const std::filesystem::path& path) {
  data::LatentHeader header = feed_header(3, false);
  header.has_latents = false;
  header.latent_shape = {};
  header.latent_mean.clear();
  header.latent_std.clear();
  data::write_small_file(path, header);
}

/// Overwrites the latent of one sample: a sealed file's checksum no longer fits, in an unsealed one only NaN
/// shows.
inline void overwrite_latent(const std::filesystem::path& path, int64_t row, float value) {
  Hdf5File file = Hdf5File::open_for_update(path);
  Hdf5Dataset latents = file.dataset("latents");
  const std::vector<float> values(latents.info().row_elements(), value);
  latents.write_rows(row, 1, std::as_bytes(std::span(values)));
}

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Breaks all samples of an unsealed file but `intact`.
inline void break_all_but(const std::filesystem::path& path, int64_t samples, int64_t intact) {
  for (int64_t row = 0; row < samples; ++row) {
    if (row != intact) overwrite_latent(path, row, kNaN);
  }
}

/// The batch holds what data::small_sample made, row by row.
inline void expect_content(const Batch& batch, const data::LatentHeader& header) {
  ASSERT_EQ(batch.latents.size(0), static_cast<int64_t>(batch.samples.size()));
  ASSERT_EQ(batch.text.size(0), static_cast<int64_t>(batch.samples.size()));
  for (size_t row = 0; row < batch.samples.size(); ++row) {
    const data::Sample sample = data::small_sample(header, batch.samples[row]);
    EXPECT_TRUE(at::equal(batch.latents[static_cast<int64_t>(row)], sample.latent)) << "row " << row;
    EXPECT_TRUE(at::equal(batch.text[static_cast<int64_t>(row)], sample.text)) << "row " << row;
  }
}

inline void expect_same(const Batch& actual, const Batch& expected) {
  EXPECT_EQ(actual.iteration, expected.iteration);
  EXPECT_EQ(actual.first_slot, expected.first_slot);
  EXPECT_EQ(actual.samples, expected.samples);
  EXPECT_EQ(actual.bad, expected.bad);
  EXPECT_TRUE(at::equal(actual.latents, expected.latents));
  EXPECT_TRUE(at::equal(actual.text, expected.text));
}

/// All batches that are left, with memory of their own.
inline std::vector<Batch> take(BatchFeed& feed, int64_t count) {
  std::vector<Batch> batches;
  for (int64_t i = 0; i < count; ++i) {
    Batch batch = feed.next();
    batch.latents = batch.latents.clone();
    batch.text = batch.text.clone();
    batches.push_back(std::move(batch));
  }
  return batches;
}

/// Sample ids of every slot in the order of the plan.
inline std::vector<int64_t> samples_of(const std::vector<Batch>& batches) {
  std::vector<int64_t> samples;
  for (const Batch& batch : batches)
    samples.insert(samples.end(), batch.samples.begin(), batch.samples.end());
  return samples;
}

}  // namespace tmd::workers
