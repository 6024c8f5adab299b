#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "model/discriminator_config.h"

namespace tmd::test {

// The branches of the discriminator in float64, from the words of their description and of sums, products and
// slices alone: no convolution, norm, pool or attention of a library. Autograd gives their gradients.

using Weights = std::map<std::string, at::Tensor>;  ///< by full name

struct PlainLayers {
  const Weights& weights;
  std::string prefix;  ///< of the branch

  at::Tensor weight(const std::string& layer) const { return weights.at(prefix + layer + ".weight"); }
  at::Tensor bias(const std::string& layer) const { return weights.at(prefix + layer + ".bias"); }

  /// Every output position sums, tap by tap, the strided slice of the padded map that the tap sees.
  at::Tensor conv(const at::Tensor& map, const std::string& layer, const std::vector<int64_t>& stride,
                  const std::vector<int64_t>& padding) const {
    const at::Tensor w = weight(layer);  // [O, C, kt, kh, kw]
    at::Tensor x =
        at::constant_pad_nd(map, {padding[2], padding[2], padding[1], padding[1], padding[0], padding[0]});
    at::Tensor sum;
    for (int64_t i = 0; i < w.size(2); ++i) {
      for (int64_t j = 0; j < w.size(3); ++j) {
        for (int64_t k = 0; k < w.size(4); ++k) {
          const at::Tensor seen =
              every(every(every(x, 2, i, w.size(2), stride[0]), 3, j, w.size(3), stride[1]), 4, k, w.size(4),
                    stride[2]);
          const at::Tensor tap = w.select(4, k).select(3, j).select(2, i);  // [O, C]
          const at::Tensor term = (tap.view({1, w.size(0), w.size(1), 1, 1, 1}) * seen.unsqueeze(1)).sum(2);
          sum = sum.defined() ? sum + term : term;
        }
      }
    }
    return sum + bias(layer).view({1, -1, 1, 1, 1});
  }

  at::Tensor group_norm(const at::Tensor& x, const std::string& layer, int64_t groups) const {
    const at::Tensor rows = x.reshape({x.size(0) * groups, -1});
    return normed(rows).view(x.sizes()) * weight(layer).view({1, -1, 1, 1, 1}) +
           bias(layer).view({1, -1, 1, 1, 1});
  }
  at::Tensor layer_norm(const at::Tensor& x, const std::string& layer) const {
    return normed(x) * weight(layer) + bias(layer);
  }
  at::Tensor linear(const at::Tensor& x, const std::string& layer) const {
    return at::matmul(x, weight(layer).t()) + bias(layer);
  }

  /// Head by head and sample by sample: softmax(q k^T / sqrt(d)) v, d channels a head. [B, N, W]
  static at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t heads) {
    const int64_t d = q.size(2) / heads;
    std::vector<at::Tensor> samples;
    for (int64_t b = 0; b < k.size(0); ++b) {
      std::vector<at::Tensor> parts;
      for (int64_t h = 0; h < heads; ++h) {
        const auto head = [&](const at::Tensor& x) { return x[b].narrow(1, h * d, d); };
        const at::Tensor scores = at::matmul(head(q), head(k).t()) / std::sqrt(static_cast<double>(d));
        const at::Tensor powers = at::exp(scores);
        parts.push_back(at::matmul(powers / powers.sum(1, true), head(v)));
      }
      samples.push_back(at::cat(parts, 1));
    }
    return at::stack(samples);
  }

  static at::Tensor leak(const at::Tensor& x) { return at::where(x > 0, x, 0.2 * x); }
  static at::Tensor gelu(const at::Tensor& x) { return x * (1 + at::erf(x / std::sqrt(2.0))) / 2; }

  /// [B, features] -> [B]
  at::Tensor perceptron(const at::Tensor& pooled, const at::Tensor& keep, double dropout) const {
    at::Tensor hidden = leak(linear(pooled, ".fc1"));
    if (keep.defined()) hidden = hidden * keep / (1 - dropout);
    return linear(hidden, ".fc2").select(1, 0);
  }

  /// The means of windows without overlap, those that are cut short left out.
  static at::Tensor window_means(at::Tensor x, const std::vector<int64_t>& window) {
    for (size_t i = 0; i < window.size(); ++i) {
      const auto axis = static_cast<int64_t>(i) + 2;
      const int64_t size = std::min(window[i], x.size(axis)), count = x.size(axis) / size;
      at::Tensor sum;
      for (int64_t k = 0; k < size; ++k) {
        const at::Tensor term = x.slice(axis, k, k + (count - 1) * size + 1, size);
        sum = sum.defined() ? sum + term : term;
      }
      x = sum / size;
    }
    return x;
  }

 private:
  static at::Tensor normed(const at::Tensor& x) {
    const at::Tensor centred = x - x.mean(-1, true);
    return centred / at::sqrt((centred * centred).mean(-1, true) + 1e-5);
  }
  static at::Tensor every(const at::Tensor& x, int64_t axis, int64_t first, int64_t taps, int64_t step) {
    const int64_t count = (x.size(axis) - taps) / step + 1;
    return x.slice(axis, first, first + (count - 1) * step + 1, step);
  }
};

/// Largest divisor of `channels` that is at most channels / 4 up to 32 channels, at most 32 above.
inline int64_t plain_groups(int64_t channels) {
  const int64_t most = channels <= 32 ? std::max<int64_t>(1, channels / 4) : 32;
  for (int64_t groups = most;; --groups) {
    if (channels % groups == 0) return groups;
  }
}

inline at::Tensor plain_conv3d_logit(const PlainLayers& l, const model::DiscriminatorConfig& config,
                                     const at::Tensor& map, const at::Tensor& keep) {
  const int64_t groups = plain_groups(config.channels / config.reduction);
  std::vector<at::Tensor> pooled;
  for (size_t k = 0; k < config.scales.size(); ++k) {
    const std::string name = ".scale" + std::to_string(k);
    const int64_t scale = config.scales[k];
    at::Tensor x = l.conv(map, name + ".conv1", {1, 1, 1}, {0, 0, 0});
    x = l.window_means(l.leak(l.group_norm(x, name + ".gn1", groups)), {scale, scale, scale});
    x = l.conv(x, name + ".conv3", {1, 1, 1}, {1, 1, 1});
    pooled.push_back(l.leak(l.group_norm(x, name + ".gn2", groups)).mean({2, 3, 4}));
  }
  return l.perceptron(at::cat(pooled, 1), keep, config.dropout);
}

inline at::Tensor plain_conv1d2d_logit(const PlainLayers& l, const model::DiscriminatorConfig& config,
                                       const at::Tensor& map, const at::Tensor& keep) {
  at::Tensor x = map;
  for (size_t k = 0; k < config.conv_widths.size(); ++k) {
    const std::string name = ".pair" + std::to_string(k);
    const int64_t groups = plain_groups(config.conv_widths[k]);
    x = l.conv(x, name + ".temporal", {k == 0 ? 1 : 2, 1, 1}, {1, 0, 0});
    x = l.leak(l.group_norm(x, name + ".gn1", groups));
    x = l.conv(x, name + ".spatial", {1, 2, 2}, {0, 1, 1});
    x = l.leak(l.group_norm(x, name + ".gn2", groups));
  }
  return l.perceptron(x.mean({2, 3, 4}), keep, config.dropout);
}

inline at::Tensor plain_attention_logit(const PlainLayers& l, const model::DiscriminatorConfig& config,
                                        const at::Tensor& map, const at::Tensor& keep) {
  const int64_t heads = config.attention.heads, pool = config.attention.pool;
  const at::Tensor means = l.window_means(map, {1, pool, pool});
  at::Tensor x = l.linear(means.reshape({map.size(0), map.size(1), -1}).transpose(1, 2), ".embed");
  for (int64_t k = 0; k < config.attention.layers; ++k) {
    const std::string name = ".layer" + std::to_string(k);
    const at::Tensor y = l.layer_norm(x, name + ".norm1");
    x = x + l.linear(l.attention(l.linear(y, name + ".q"), l.linear(y, name + ".k"), l.linear(y, name + ".v"),
                                 heads),
                     name + ".o");
    const at::Tensor z = l.layer_norm(x, name + ".norm2");
    x = x + l.linear(l.gelu(l.linear(z, name + ".mlp1")), name + ".mlp2");
  }
  const at::Tensor y = l.layer_norm(x, ".pool.norm");
  const at::Tensor query = l.weights.at(l.prefix + ".pool.query").unsqueeze(0).expand({map.size(0), 1, -1});
  const at::Tensor pooled = l.attention(query, l.linear(y, ".pool.k"), l.linear(y, ".pool.v"), heads);
  return l.perceptron(l.linear(pooled, ".pool.o").select(1, 0), keep, config.dropout);
}

/// Logits [B, heads]; arguments as of model::Discriminator::forward.
inline at::Tensor plain_logits(const Weights& weights, const model::DiscriminatorConfig& config,
                               const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep) {
  std::vector<at::Tensor> logits;
  for (size_t head = 0; head < maps.size(); ++head) {
    const PlainLayers layers{weights, "disc." + std::to_string(head)};
    const at::Tensor mask = keep.empty() ? at::Tensor() : keep[head];
    const auto plain = config.kind == model::DiscriminatorKind::kConv3d     ? plain_conv3d_logit
                       : config.kind == model::DiscriminatorKind::kConv1d2d ? plain_conv1d2d_logit
                                                                            : plain_attention_logit;
    logits.push_back(plain(layers, config, maps[head], mask));
  }
  return at::stack(logits, 1);
}

}  // namespace tmd::test
