#include "model/parameters.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::model {

using sharding::Initialiser;

void visit_linear(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name, int64_t out,
                  int64_t in) {
  visit_linear(visitor, linear, name, out, in, Initialiser::xavier_uniform(in, out));
}

void visit_linear(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name, int64_t out,
                  int64_t in, Initialiser weight) {
  visitor(linear.weight, {name + ".weight", {out, in}, weight});
  visitor(linear.bias, {name + ".bias", {out}, Initialiser::constant(0)});
}

at::Tensor apply(const LinearWeights& linear, const at::Tensor& x) {
  return at::linear(x.to(linear.weight.scalar_type()), linear.weight, linear.bias);
}

LinearWeights cast(const LinearWeights& linear, at::ScalarType type) {
  return {linear.weight.to(type), linear.bias.to(type)};
}

void Declaration::operator()(at::Tensor& slot, sharding::ParamSpec spec) {
  (void)slot;
  params.push_back(std::move(spec));
}

void Binding::operator()(at::Tensor& slot, sharding::ParamSpec spec) {
  ensure(next_ < params_.size() && params_[next_].sizes() == spec.shape,
         "parameters fit the unit's declaration");
  slot = params_[next_++];
}

}  // namespace tmd::model
