#include "data/check.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

namespace tmd::data {
namespace {

// Sums per channel of the good samples.
struct ChannelSums {
  at::Tensor sum, squares;  // [C] float64
  int64_t count = 0;        // elements per channel

  void add(const at::Tensor& latent) {
    const at::Tensor values = latent.flatten(1).to(at::kDouble);  // [C, T*H*W]
    const at::Tensor sums = values.sum(1), square_sums = values.square().sum(1);
    sum = sum.defined() ? sum + sums : sums;
    squares = squares.defined() ? squares + square_sums : square_sums;
    count += values.size(1);
  }
};

std::vector<double> to_vector(const at::Tensor& values) {
  const at::Tensor flat = values.contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

}  // namespace

CheckReport check_data_set(DataSet& data_set) {
  CheckReport report;
  report.header = data_set.header();
  report.files = static_cast<int64_t>(data_set.files().size());
  report.samples = data_set.size();
  report.sealed_files =
      std::ranges::count_if(data_set.files(), [](const auto& file) { return file.header().has_checksum; });
  ChannelSums sums;
  for (int64_t i = 0; i < data_set.size(); ++i) {
    const ReadResult result = data_set.read(i);
    if (const auto* bad = std::get_if<BadSample>(&result)) {
      report.bad.push_back(*bad);
    } else if (const auto& latent = std::get<Sample>(result).latent; latent.defined()) {
      sums.add(latent);
    }
  }
  if (sums.count > 0) {
    const at::Tensor mean = sums.sum / sums.count;
    report.mean = to_vector(mean);
    report.std = to_vector((sums.squares / sums.count - mean.square()).clamp_min(0).sqrt());
  }
  if (data_set.has_negative_text()) data_set.negative_text();
  report.data_hash = data_set.data_hash();
  return report;
}

std::string describe(const CheckReport& report, int64_t max_bad) {
  const LatentHeader& header = report.header;
  std::string text = fmt::format("{} samples in {} files, {} of them sealed\n", report.samples, report.files,
                                 report.sealed_files);
  if (header.has_latents) {
    text += fmt::format("latent {} by codec {}, text {}\n", fmt::join(header.latent_shape, "x"), header.codec,
                        fmt::join(header.text_shape, "x"));
    text += fmt::format("mean of channels {:.2f}\nstd of channels  {:.2f}\n", fmt::join(report.mean, " "),
                        fmt::join(report.std, " "));
  } else {
    text += fmt::format("no latents (a list of prompts), text {}\n", fmt::join(header.text_shape, "x"));
  }
  text += fmt::format("negative text: {}\ndata hash {:016x}\n", header.has_negative_text ? "yes" : "no",
                      report.data_hash);
  const auto shown = std::min(max_bad, static_cast<int64_t>(report.bad.size()));
  for (int64_t i = 0; i < shown; ++i)
    text += fmt::format("BAD {}: {}\n", report.bad[i].name, report.bad[i].problem);
  text += report.is_good() ? "all samples are good\n" : fmt::format("{} bad samples\n", report.bad.size());
  return text;
}

}  // namespace tmd::data
