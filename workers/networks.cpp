#include "workers/networks.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "method/grids.h"
#include "model/mlp.h"
#include "model/wan_dit.h"

namespace tmd::workers {
namespace {

constexpr double kNetworkTime = 1000;  // networks take times in 0 .. 1000

class WanVelocity : public method::VelocityNetwork {
 public:
  WanVelocity(const NetworkPlan& plan, sharding::ShardedNetwork& network, bool weight_gradients)
      : dit_(plan.model.wan, network),
        feature_blocks_(plan.feature_blocks),
        weight_gradients_(weight_gradients) {}

  at::Tensor velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text) override {
    return dit_
        .forward(x_t, kNetworkTime * t, text, {.weight_gradients = weight_gradients_, .feature_blocks = {}})
        .velocity;
  }

  at::Tensor velocity_without(int64_t block, const at::Tensor& x_t, const at::Tensor& t,
                              const at::Tensor& text) override {
    const model::WanDit::Request request{
        .weight_gradients = weight_gradients_, .feature_blocks = {}, .skip_block = block};
    return dit_.forward(x_t, kNetworkTime * t, text, request).velocity;
  }

  WithFeatures velocity_and_features(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                                     bool features_only) override {
    auto output = dit_.forward(x_t, kNetworkTime * t, text,
                               {.weight_gradients = weight_gradients_,
                                .feature_blocks = feature_blocks_,
                                .features_only = features_only});
    return {std::move(output.velocity), std::move(output.features)};
  }

 private:
  model::WanDit dit_;
  std::vector<int64_t> feature_blocks_;
  bool weight_gradients_;
};

class WanStudent : public method::StudentNetwork {
 public:
  WanStudent(const NetworkPlan& plan, sharding::ShardedNetwork& network, bool weight_gradients)
      : student_(plan.student, network), weight_gradients_(weight_gradients) {}

  MainFeature backbone(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text) override {
    auto m = student_.backbone(x_t, kNetworkTime * t, text, weight_gradients_);
    return {std::move(m.tokens), std::move(m.context)};
  }

  at::Tensor head(const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& r,
                  const MainFeature& m) override {
    return student_.head(y_s, kNetworkTime * s, kNetworkTime * (s - r), {m.tokens, m.context},
                         weight_gradients_);
  }

 private:
  model::TmdStudent student_;
  bool weight_gradients_;
};

class MlpVelocity : public method::VelocityNetwork {
 public:
  MlpVelocity(const NetworkPlan& plan, sharding::ShardedNetwork& network, bool weight_gradients)
      : mlp_(plan.model.mlp, network), weight_gradients_(weight_gradients) {}

  at::Tensor velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text) override {
    (void)text;
    return mlp_.velocity(x_t, kNetworkTime * t, weight_gradients_);
  }

  WithFeatures velocity_and_features(const at::Tensor&, const at::Tensor&, const at::Tensor&, bool) override {
    throw Error(ErrorKind::kInternal, "the perceptron has no feature maps for a discriminator");
  }

 private:
  model::Mlp mlp_;
  bool weight_gradients_;
};

class MlpStudent : public method::StudentNetwork {
 public:
  MlpStudent(const NetworkPlan& plan, sharding::ShardedNetwork& network, bool weight_gradients)
      : mlp_(plan.model.mlp, network), weight_gradients_(weight_gradients) {}

  MainFeature backbone(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text) override {
    return {mlp_.backbone(x_t, kNetworkTime * t, weight_gradients_), text};
  }

  at::Tensor head(const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& r,
                  const MainFeature& m) override {
    return mlp_.head(y_s, kNetworkTime * s, kNetworkTime * (s - r), m.tokens, weight_gradients_);
  }

 private:
  model::Mlp mlp_;
  bool weight_gradients_;
};

// The perceptron's velocity network, corrected by what depends on t - r.
class MlpMeanFlow : public method::StudentNetwork {
 public:
  MlpMeanFlow(const NetworkPlan& plan, sharding::ShardedNetwork& network, bool weight_gradients)
      : mlp_(plan.model.mlp, network), weight_gradients_(weight_gradients) {}

  MainFeature backbone(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text) override {
    (void)x_t, (void)t;
    return {text, text};
  }

  at::Tensor head(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& r,
                  const MainFeature& m) override {
    (void)m;
    const at::Tensor hidden = mlp_.backbone(x_t, kNetworkTime * t, weight_gradients_);
    return mlp_.head(x_t, kNetworkTime * t, kNetworkTime * (t - r), hidden, weight_gradients_);
  }

 private:
  model::Mlp mlp_;
  bool weight_gradients_;
};

class DiscriminatorView : public method::DiscriminatorNetwork {
 public:
  DiscriminatorView(const NetworkPlan& plan, sharding::ShardedNetwork& network, bool weight_gradients)
      : discriminator_(plan.discriminator, network), weight_gradients_(weight_gradients) {}

  at::Tensor logits(const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep) override {
    return discriminator_.forward(maps, keep, weight_gradients_);
  }

 private:
  model::Discriminator discriminator_;
  bool weight_gradients_;
};

bool is_wan(const NetworkPlan& plan) { return plan.model.kind == model::ModelKind::kWan; }

}  // namespace

std::vector<sharding::UnitSpec> NetworkPlan::velocity_units() const {
  return is_wan(*this) ? model::wan_units(model.wan) : model::mlp_units(model.mlp);
}

std::vector<sharding::UnitSpec> NetworkPlan::student_units() const {
  return is_wan(*this) ? model::tmd_student_units(student) : model::mlp_student_units(model.mlp);
}

std::vector<sharding::UnitSpec> NetworkPlan::discriminator_units() const {
  return model::discriminator_units(discriminator);
}

int64_t NetworkPlan::layers() const { return is_wan(*this) ? model.wan.layers : model.mlp.hidden_layers; }

int64_t NetworkPlan::head_blocks() const { return is_wan(*this) ? student.head_blocks : 1; }

std::unique_ptr<method::VelocityNetwork> velocity_view(const NetworkPlan& plan,
                                                       sharding::ShardedNetwork& network,
                                                       bool weight_gradients) {
  if (is_wan(plan)) return std::make_unique<WanVelocity>(plan, network, weight_gradients);
  return std::make_unique<MlpVelocity>(plan, network, weight_gradients);
}

std::unique_ptr<method::StudentNetwork> student_view(const NetworkPlan& plan,
                                                     sharding::ShardedNetwork& network,
                                                     bool weight_gradients) {
  if (is_wan(plan)) return std::make_unique<WanStudent>(plan, network, weight_gradients);
  if (plan.student.fusion == model::Fusion::kNone)
    return std::make_unique<MlpMeanFlow>(plan, network, weight_gradients);
  return std::make_unique<MlpStudent>(plan, network, weight_gradients);
}

std::unique_ptr<method::DiscriminatorNetwork> discriminator_view(const NetworkPlan& plan,
                                                                 sharding::ShardedNetwork& network,
                                                                 bool weight_gradients) {
  return std::make_unique<DiscriminatorView>(plan, network, weight_gradients);
}

bool is_decoupled(MethodName method) { return method == MethodName::kTmd || method == MethodName::kTm; }

bool has_interval(MethodName method) { return method != MethodName::kDmd2v; }

GeneratorView::GeneratorView(const NetworkPlan& plan, const MethodOptions& method,
                             sharding::ShardedNetwork& student, bool weight_gradients) {
  if (is_decoupled(method.name)) {
    student_ = student_view(plan, student, weight_gradients);
    const auto velocity = method.name == MethodName::kTm ? method::InnerVelocity::kInstantaneous
                                                         : method::InnerVelocity::kAverage;
    generator_ = std::make_unique<method::TmdGenerator>(
        *student_, method::student_grid(static_cast<int>(method.inner_steps), method.inner_shift),
        method.form, velocity);
  } else if (method.name == MethodName::kMeanFlow) {
    student_ = student_view(plan, student, weight_gradients);
    generator_ = std::make_unique<method::MeanFlowGenerator>(*student_);
  } else {
    velocity_ = velocity_view(plan, student, weight_gradients);
    generator_ = std::make_unique<method::VelocityGenerator>(*velocity_);
  }
}

}  // namespace tmd::workers
