#include "workers/batch_reader.h"

#include <algorithm>
#include <cstring>
#include <span>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "data/order.h"

namespace tmd::workers {
namespace {

// With half of all samples broken, one row in 10^30 finds no replacement.
constexpr int64_t kMaxAttempts = 100;

// memcpy and not ATen's copy: that one starts a team of OpenMP threads for every thread that calls it.
void copy_row(const at::Tensor& sample, const at::Tensor& rows, int64_t row) {
  const int64_t elements = rows.numel() / rows.size(0);
  ensure(sample.numel() == elements && sample.is_contiguous(), "a sample fills its row");
  std::memcpy(rows.mutable_data_ptr<float>() + row * elements, sample.const_data_ptr<float>(),
              elements * sizeof(float));
}

SampleShape shape_of(const data::DataSet& data_set) {
  const data::LatentHeader& header = data_set.header();
  check(header.has_latents, ErrorKind::kData,
        fmt::format("{} is a list of prompts without /latents, which training needs",
                    data_set.files().front().path().string()),
        "name a file with latents in data.files");
  return {header.latent_shape, header.text_shape};
}

Error no_replacement(int64_t iteration, int64_t slot, std::span<const BadSample> met) {
  return Error(
      ErrorKind::kData,
      fmt::format("iteration {}, slot {}: no intact sample in {} attempts, which met {} broken ones: "
                  "{} ({}) to {} ({})",
                  iteration, slot, kMaxAttempts, met.size(), met.front().name, met.front().problem,
                  met.back().name, met.back().problem),
      "`tmd data check` lists the broken samples of a data set");
}

}  // namespace

BatchReader::BatchReader(data::DataSet& data_set, const FeedPlan& plan)
    : data_set_(data_set), plan_(plan), shape_(shape_of(data_set)), buffers_(plan.micro_batch, shape_) {
  check_plan(plan);
}

Batch BatchReader::blank(int64_t index) {
  const MicroBatch place = micro_batch_at(plan_, index);
  BatchTensors tensors = buffers_.take(place.rows);
  return {.iteration = place.iteration,
          .first_slot = place.first_slot,
          .latents = std::move(tensors.latents),
          .text = std::move(tensors.text),
          .samples = {},
          .bad = {}};
}

Batch BatchReader::read(int64_t index) {
  Batch batch = blank(index);
  for (int64_t row = 0; row < batch.latents.size(0); ++row) read_row(batch, row);
  return batch;
}

void BatchReader::read_row(Batch& batch, int64_t row) {
  const int64_t slot = batch.first_slot + row;
  const int64_t position = position_of(plan_, batch.iteration, slot), samples = data_set_.size();
  const size_t met_before = batch.bad.size();
  for (int64_t attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const int64_t sample = attempt == 0 ? data::sample_at(plan_.seed, samples, position)
                                        : data::replacement_at(plan_.seed, samples, position, attempt);
    const auto met = std::span(batch.bad).subspan(met_before);
    if (std::ranges::find(met, sample, &BadSample::sample) != met.end()) continue;
    data::ReadResult result = data_set_.read(sample, data::WithPrompt::kNo);
    if (const auto* good = std::get_if<data::Sample>(&result)) {
      copy_row(good->latent, batch.latents, row);
      copy_row(good->text, batch.text, row);
      batch.samples.push_back(sample);
      return;
    }
    auto& bad = std::get<data::BadSample>(result);
    batch.bad.push_back({sample, std::move(bad.name), std::move(bad.problem)});
  }
  throw no_replacement(batch.iteration, slot, std::span(batch.bad).subspan(met_before));
}

}  // namespace tmd::workers
