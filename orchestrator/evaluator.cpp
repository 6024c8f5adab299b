#include "orchestrator/evaluator.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <numeric>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/hash.h"
#include "data/codec.h"
#include "data/toy_spec.h"
#include "data/toy_text.h"
#include "evaluation/latent_evaluation.h"
#include "evaluation/latent_features.h"
#include "evaluation/mixture_metrics.h"
#include "evaluation/shape_metrics.h"
#include "evaluation/shape_table.h"
#include "orchestrator/latent_pictures.h"

namespace tmd::orchestrator {
namespace {

struct Rows {
  at::Tensor latents;                // [n, C, T, H, W]
  at::Tensor text;                   // [n, S, E]
  std::vector<std::string> prompts;  // [n]
};

// What a metric needs.
void check_count(int64_t count, int64_t least, const std::string& why) {
  check(count >= least, ErrorKind::kUsage,
        fmt::format("{} samples are too few to evaluate: {} needs {}", count, why, least),
        fmt::format("evaluate at least {} samples; 256 give intervals that say something", least));
}

std::string hash_of(const at::Tensor& tensor) {
  const at::Tensor numbers = tensor.to(at::TensorOptions(at::kCPU).dtype(at::kFloat)).contiguous();
  const std::span values(numbers.const_data_ptr<float>(), static_cast<size_t>(numbers.numel()));
  return fmt::format("{:016x}", xxh3_64(std::as_bytes(values)));
}

// Toys are functions of what the file says about itself and of the seed.
std::string toy_reference(const data::LatentHeader& header) {
  return fmt::format("{:016x}", xxh3_64(fmt::format("{} {} {}", header.generator, header.video_frames,
                                                    header.video_height)));
}

Rows read_rows(data::DataSet& data, int64_t first, int64_t count) {
  check(first + count <= data.size(), ErrorKind::kData,
        fmt::format("the data set has {} samples, the evaluation needs {}", data.size(), first + count),
        "evaluate fewer samples");
  std::vector<at::Tensor> latents, text;
  std::vector<std::string> prompts;
  for (int64_t i = first; i < first + count; ++i) {
    auto read = data.read(i);
    if (const auto* bad = std::get_if<data::BadSample>(&read)) {
      throw Error(ErrorKind::kData, fmt::format("{}: {}", bad->name, bad->problem));
    }
    auto& sample = std::get<data::Sample>(read);
    latents.push_back(sample.latent);
    text.push_back(sample.text);
    prompts.push_back(std::move(sample.prompt));
  }
  return {at::stack(latents, 0), at::stack(text, 0), std::move(prompts)};
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
    std::vector<std::string> captions;
    for (const data::ShapeLabel& label : labels(spec, count, seed)) {
      const std::vector<std::string> words = data::toy_caption_words(spec, label);
      rows.push_back(data::embed_toy_words(words, spec.text_rows, spec.text_features).text);
      captions.push_back(fmt::format("{}", fmt::join(words, " ")));
    }
    count_ = count;
    reference_ = toy_reference(header);
    set_prompts(at::stack(rows, 0), captions);
  }

  std::string judge() const override { return "shapes"; }
  std::string name() const override { return "moving shapes, judged by rules"; }
  std::vector<std::string> headings() const override { return evaluation::shape_metric_headings(); }
  const std::vector<evaluation::Metric>& metrics() const override { return evaluation::shape_metric_list(); }
  Score measure(const at::Tensor& samples, const at::Tensor& teacher) const override {
    return score(metrics_.measure(videos(samples), teacher.defined() ? videos(teacher) : at::Tensor()));
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
            metrics.joint.estimate, metrics.values};
  }
  at::Tensor videos(const at::Tensor& samples) const {
    std::vector<at::Tensor> videos;
    for (const at::Tensor& latent : data::denormalise(samples, mean_, std_).unbind(0)) {
      videos.push_back(codec_->decode(latent).clamp(-1, 1));
    }
    return at::stack(videos, 0);
  }

  data::ToyShapesSpec spec_;
  std::vector<float> mean_, std_;
  std::unique_ptr<data::Codec> codec_;
  evaluation::ShapeEvaluation metrics_;
};

class MixtureEvaluator : public Evaluator {
 public:
  MixtureEvaluator(const data::ToyMixtureSpec& spec, data::DataSet& data, int64_t count, uint64_t seed)
      : spec_(spec), seed_(seed + 1) {
    count_ = count;
    reference_ = toy_reference(data.header());
    set_prompts(read_rows(data, 0, 1).text.expand({count, -1, -1}).contiguous(), {});
  }

  std::string judge() const override { return "mixture"; }
  std::string name() const override { return "2-D mixture of 8 Gaussians"; }
  std::vector<std::string> headings() const override { return evaluation::mixture_metric_headings(); }
  const std::vector<evaluation::Metric>& metrics() const override {
    return evaluation::mixture_metric_list();
  }
  Score measure(const at::Tensor& samples, const at::Tensor& teacher) const override {
    const auto metrics = evaluation::measure_mixture(points(samples), spec_, seed_,
                                                     teacher.defined() ? points(teacher) : at::Tensor());
    return {evaluation::to_json(metrics), evaluation::mixture_metric_cells(metrics), metrics.sliced_w2,
            static_cast<double>(metrics.modes_covered) / data::kToyModes, metrics.values};
  }
  Score floor() const override {
    return measure(data::toy_mixture_latents(spec_, seed_, count_, count_), {});
  }

 private:
  static at::Tensor points(const at::Tensor& samples) { return samples.flatten(1) * data::kToyMixtureScale; }

  data::ToyMixtureSpec spec_;
  uint64_t seed_;  // of the real points: not that of a training set, which is often the evaluation's
};

// The diversity inside prompts where the data hardly repeat theirs: this many prompts and noises of each.
constexpr int64_t kDiversePrompts = 8, kNoisesPerPrompt = 4;

class LatentEvaluator : public Evaluator {
 public:
  LatentEvaluator(data::DataSet& data, int64_t count, uint64_t seed) {
    Rows rows = read_rows(data, 0, 2 * count);
    count_ = count;
    reference_ = hash_of(rows.latents);
    rows.prompts.resize(static_cast<size_t>(count));
    const at::Tensor text = rows.text.narrow(0, 0, count).contiguous();
    set_prompts(text, rows.prompts);
    if (!repeats_prompts()) {
      std::vector<int64_t> more(static_cast<size_t>(count));
      std::iota(more.begin(), more.end(), 0);
      add_repeats(more);
      for (size_t i = static_cast<size_t>(count); i < more.size(); ++i)
        rows.prompts.push_back(rows.prompts[static_cast<size_t>(more[i])]);
      set_prompts(text.index_select(0, at::tensor(more, at::kLong)), rows.prompts);
    }
    pictures_ = LatentPictures::make(data.header(), {});
    evaluation::LatentEvaluation::Decode decode;
    if (pictures_ && !pictures_->is_plot())
      decode = [this](const at::Tensor& latent) { return pictures_->videos(latent.unsqueeze(0))[0]; };
    // Against rows of other prompts, as the floor is: rows of the same ones would be nearer than real data
    // are.
    metrics_ = std::make_unique<evaluation::LatentEvaluation>(rows.latents.narrow(0, count, count),
                                                              rows.latents.narrow(0, 0, count),
                                                              prompt_of_row_, seed, std::move(decode));
  }

  std::string judge() const override { return "latents"; }
  std::string name() const override { return "latents against the data, without a network"; }
  std::vector<std::string> headings() const override { return evaluation::latent_metric_headings(); }
  const std::vector<evaluation::Metric>& metrics() const override { return evaluation::latent_metric_list(); }
  Score measure(const at::Tensor& samples, const at::Tensor& teacher) const override {
    return score(metrics_->measure(samples, teacher));
  }
  Score floor() const override { return score(metrics_->floor()); }

 private:
  static Score score(const evaluation::LatentScore& score) {
    return {evaluation::to_json(score), evaluation::latent_metric_cells(score.latents),
            score.latents.sliced_w1, 1, score.values};
  }
  // Whether half of the samples share their prompt with enough others.
  bool repeats_prompts() const {
    const auto is_shared = [&](int64_t prompt) {
      return std::ranges::count(prompt_of_row_, prompt) >= kNoisesPerPrompt;
    };
    return 2 * std::ranges::count_if(prompt_of_row_, is_shared) >= count_;
  }
  // Adds rows of the first prompts to `rows` until each stands there kNoisesPerPrompt times.
  void add_repeats(std::vector<int64_t>& rows) const {
    const auto prompts = std::min(kDiversePrompts, static_cast<int64_t>(prompts_.size()));
    for (int64_t prompt = 0; prompt < prompts; ++prompt) {
      const int64_t present = std::ranges::count(prompt_of_row_, prompt);
      for (int64_t i = present; i < kNoisesPerPrompt; ++i)
        rows.push_back(prompts_[static_cast<size_t>(prompt)].first);
    }
  }

  std::unique_ptr<LatentPictures> pictures_;  // null or a plot where nothing decodes the data
  std::unique_ptr<evaluation::LatentEvaluation> metrics_;
};

}  // namespace

void Evaluator::set_prompts(at::Tensor text, const std::vector<std::string>& texts) {
  text_ = std::move(text);
  prompts_.clear();
  prompt_of_row_.clear();
  std::map<std::string, int64_t> seen;  // by embedding and words
  for (int64_t row = 0; row < text_.size(0); ++row) {
    EvaluatedPrompt prompt{row, texts.empty() ? "" : texts[static_cast<size_t>(row)], hash_of(text_[row])};
    const auto [place, is_new] =
        seen.try_emplace(prompt.hash + prompt.text, static_cast<int64_t>(prompts_.size()));
    prompt_of_row_.push_back(place->second);
    if (is_new) prompts_.push_back(std::move(prompt));
  }
}

std::unique_ptr<Evaluator> Evaluator::make(data::DataSet& data, int64_t count, uint64_t seed) {
  const data::LatentHeader& header = data.header();
  if (const auto shapes = data::toy_shapes_spec(header)) {
    const auto features = static_cast<int64_t>(evaluation::ShapeRules(*shapes).smallest_scales().size());
    check_count(count, features + 1, fmt::format("the Fréchet distance of {} features", features));
    return std::make_unique<ShapesEvaluator>(*shapes, header, count, seed);
  }
  if (const auto mixture = data::toy_mixture_spec(header)) {
    check_count(count, data::kToyModes, fmt::format("covering {} modes", data::kToyModes));
    return std::make_unique<MixtureEvaluator>(*mixture, data, count, seed);
  }
  check_count(count, evaluation::kLatentFeatures + 1,
              fmt::format("the Fréchet distance of {} features", evaluation::kLatentFeatures));
  return std::make_unique<LatentEvaluator>(data, count, seed);
}

}  // namespace tmd::orchestrator
