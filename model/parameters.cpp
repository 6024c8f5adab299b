#include "model/parameters.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "sharding/linear.h"

namespace tmd::model {

using sharding::Initialiser;

namespace {

bool is_block_of(at::IntArrayRef shape, const sharding::ParamSpec& spec) {
  if (shape.size() != spec.shape.size()) return false;
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    const bool is_cut = static_cast<int>(dim) == spec.split_dim && shape[dim] > 0;
    if (is_cut ? spec.shape[dim] % shape[dim] != 0 : spec.shape[dim] != shape[dim]) return false;
  }
  return true;
}

}  // namespace

void visit_linear(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name, int64_t out,
                  int64_t in) {
  visit_linear(visitor, linear, name, out, in, Initialiser::xavier_uniform(in, out));
}

void visit_linear(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name, int64_t out,
                  int64_t in, Initialiser weight) {
  visitor(linear.weight, {name + ".weight", {out, in}, weight});
  visitor(linear.bias, {name + ".bias", {out}, Initialiser::constant(0)});
}

void visit_column_parallel(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name,
                           int64_t out, int64_t in) {
  SplitParameters split(visitor, 0);
  visit_linear(split, linear, name, out, in);
}

void visit_row_parallel(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name,
                        int64_t out, int64_t in) {
  SplitParameters split(visitor, 1);
  split(linear.weight, {name + ".weight", {out, in}, Initialiser::xavier_uniform(in, out)});
  visitor(linear.bias, {name + ".bias", {out}, Initialiser::constant(0)});
}

at::Tensor apply(const LinearWeights& linear, const at::Tensor& x) {
  return sharding::linear(x.to(linear.weight.scalar_type()), linear.weight, linear.bias);
}

LinearWeights cast(const LinearWeights& linear, at::ScalarType type) {
  return {linear.weight.to(type), linear.bias.to(type)};
}

void Declaration::operator()(at::Tensor& slot, sharding::ParamSpec spec) {
  (void)slot;
  params.push_back(std::move(spec));
}

void Binding::operator()(at::Tensor& slot, sharding::ParamSpec spec) {
  ensure(next_ < params_.size() && is_block_of(params_[next_].sizes(), spec),
         "parameters fit the unit's declaration");
  slot = params_[next_++];
}

}  // namespace tmd::model
