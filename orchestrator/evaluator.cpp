#include "orchestrator/evaluator.h"

#include <fmt/format.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "data/codec.h"
#include "data/toy_spec.h"
#include "data/toy_text.h"
#include "evaluation/latent_metrics.h"
#include "evaluation/mixture_metrics.h"
#include "evaluation/shape_metrics.h"
#include "evaluation/shape_table.h"

namespace tmd::orchestrator {
namespace {

struct Rows {
  at::Tensor latents;  // [n, C, T, H, W]
  at::Tensor text;     // [n, S, E]
};

Rows read_rows(data::DataSet& data, int64_t first, int64_t count) {
  check(first + count <= data.size(), ErrorKind::kData,
        fmt::format("the data set has {} samples, the evaluation needs {}", data.size(), first + count),
        "evaluate fewer samples");
  std::vector<at::Tensor> latents, text;
  for (int64_t i = first; i < first + count; ++i) {
    auto read = data.read(i);
    if (const auto* bad = std::get_if<data::BadSample>(&read)) {
      throw Error(ErrorKind::kData, fmt::format("{}: {}", bad->name, bad->problem));
    }
    const auto& sample = std::get<data::Sample>(read);
    latents.push_back(sample.latent);
    text.push_back(sample.text);
  }
  return {at::stack(latents, 0), at::stack(text, 0)};
}

class ShapesEvaluator : public Evaluator {
 public:
  ShapesEvaluator(const data::ToyShapesSpec& spec, const data::LatentHeader& header, int64_t count,
                  uint64_t seed)
      : spec_(spec),
        mean_(header.latent_mean),
        std_(header.latent_std),
        codec_(data::make_codec(header.codec)),
        metrics_(spec, labels(spec, count, seed), seed + 1) {
    std::vector<at::Tensor> rows;
    for (const data::ShapeLabel& label : labels(spec, count, seed)) {
      rows.push_back(
          data::embed_toy_words(data::toy_caption_words(spec, label), spec.text_rows, spec.text_features)
              .text);
    }
    text_ = at::stack(rows, 0);
  }

  std::string name() const override { return "moving shapes, judged by rules"; }
  std::vector<std::string> headings() const override { return evaluation::shape_metric_headings(); }
  Score measure(const at::Tensor& samples) const override {
    std::vector<at::Tensor> videos;
    for (const at::Tensor& latent : data::denormalise(samples, mean_, std_).unbind(0)) {
      videos.push_back(codec_->decode(latent).clamp(-1, 1));
    }
    return score(metrics_.measure(at::stack(videos, 0)));
  }
  Score floor() const override { return score(metrics_.real()); }

 private:
  static std::vector<data::ShapeLabel> labels(const data::ToyShapesSpec& spec, int64_t count, uint64_t seed) {
    std::vector<data::ShapeLabel> list;
    for (int64_t i = 0; i < count; ++i) list.push_back(data::toy_shapes_label(spec, seed, i));
    return list;
  }
  static Score score(const evaluation::ShapeMetrics& metrics) {
    return {evaluation::to_json(metrics), evaluation::shape_metric_cells(metrics), metrics.frechet,
            metrics.joint.estimate};
  }

  data::ToyShapesSpec spec_;
  std::vector<float> mean_, std_;
  std::unique_ptr<data::Codec> codec_;
  evaluation::ShapeEvaluation metrics_;
};

class MixtureEvaluator : public Evaluator {
 public:
  MixtureEvaluator(const data::ToyMixtureSpec& spec, data::DataSet& data, int64_t count, uint64_t seed)
      : spec_(spec), seed_(seed), count_(count) {
    text_ = read_rows(data, 0, 1).text.expand({count, -1, -1}).contiguous();
  }

  std::string name() const override { return "2-D mixture of 8 Gaussians"; }
  std::vector<std::string> headings() const override { return evaluation::mixture_metric_headings(); }
  Score measure(const at::Tensor& samples) const override {
    const auto metrics =
        evaluation::measure_mixture(samples.flatten(1) * data::kToyMixtureScale, spec_, seed_);
    return {evaluation::to_json(metrics), evaluation::mixture_metric_cells(metrics), metrics.sliced_w2,
            static_cast<double>(metrics.modes_covered) / data::kToyModes};
  }
  Score floor() const override { return measure(data::toy_mixture_latents(spec_, seed_ + 1, 0, count_)); }

 private:
  data::ToyMixtureSpec spec_;
  uint64_t seed_;
  int64_t count_;
};

class LatentEvaluator : public Evaluator {
 public:
  LatentEvaluator(data::DataSet& data, int64_t count, uint64_t seed) : seed_(seed) {
    Rows rows = read_rows(data, 0, 2 * count);
    real_ = rows.latents.narrow(0, 0, count);
    second_ = rows.latents.narrow(0, count, count);
    text_ = rows.text.narrow(0, 0, count).contiguous();
  }

  std::string name() const override { return "latents against the data, without a network"; }
  std::vector<std::string> headings() const override { return evaluation::latent_metric_headings(); }
  Score measure(const at::Tensor& samples) const override {
    const auto metrics = evaluation::measure_latents(samples, real_, second_, seed_);
    return {evaluation::to_json(metrics), evaluation::latent_metric_cells(metrics), metrics.sliced_w1, 1};
  }
  Score floor() const override { return measure(second_); }

 private:
  at::Tensor real_, second_;  // [count, C, T, H, W]
  uint64_t seed_;
};

}  // namespace

std::unique_ptr<Evaluator> Evaluator::make(data::DataSet& data, int64_t count, uint64_t seed) {
  const data::LatentHeader& header = data.header();
  if (const auto shapes = data::toy_shapes_spec(header)) {
    return std::make_unique<ShapesEvaluator>(*shapes, header, count, seed);
  }
  if (const auto mixture = data::toy_mixture_spec(header)) {
    return std::make_unique<MixtureEvaluator>(*mixture, data, count, seed);
  }
  return std::make_unique<LatentEvaluator>(data, count, seed);
}

}  // namespace tmd::orchestrator
