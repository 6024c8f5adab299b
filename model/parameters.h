#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "sharding/param_spec.h"

namespace tmd::model {

/// Walks over the tensors of a weight struct. One `visit` function per struct names its tensors, their shapes
/// and their start values; it serves both to declare a unit (`declare`) and to bind gathered tensors to the
/// struct (`bind`), so the two cannot disagree.
class ParameterVisitor {
 public:
  virtual ~ParameterVisitor() = default;
  virtual void operator()(at::Tensor& slot, sharding::ParamSpec spec) = 0;
};

/// Hands everything on to another visitor, marked as wide: these parameters stay in float32 where the network
/// computes in bfloat16.
class WideParameters : public ParameterVisitor {
 public:
  /// Keeps a reference to `visitor`.
  explicit WideParameters(ParameterVisitor& visitor) : visitor_(visitor) {}
  void operator()(at::Tensor& slot, sharding::ParamSpec spec) override {
    spec.wide = true;
    visitor_(slot, std::move(spec));
  }

 private:
  ParameterVisitor& visitor_;
};

/// The same, marked as cut along `split_dim` by tensor parallelism.
class SplitParameters : public ParameterVisitor {
 public:
  /// Keeps a reference to `visitor`.
  SplitParameters(ParameterVisitor& visitor, int split_dim) : visitor_(visitor), split_dim_(split_dim) {}
  void operator()(at::Tensor& slot, sharding::ParamSpec spec) override {
    spec.split_dim = split_dim_;
    visitor_(slot, std::move(spec));
  }

 private:
  ParameterVisitor& visitor_;
  int split_dim_;
};

struct LinearWeights {
  at::Tensor weight;  ///< [out, in]
  at::Tensor bias;    ///< [out]
};

/// A Linear with Xavier-uniform weight and zero bias, Wan's rule for most of its layers (Wan 1.1): tensors
/// "<name>.weight" and "<name>.bias".
void visit_linear(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name, int64_t out,
                  int64_t in);
/// The same with another start of the weight.
void visit_linear(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name, int64_t out,
                  int64_t in, sharding::Initialiser weight);

/// The first kind, cut by tensor parallelism (Wan 7.2): over its outputs (weight rows and bias), or over its
/// inputs (weight columns; the bias is added once, after the sum over the tensor ranks).
void visit_column_parallel(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name,
                           int64_t out, int64_t in);
void visit_row_parallel(ParameterVisitor& visitor, LinearWeights& linear, const std::string& name,
                        int64_t out, int64_t in);

/// `linear.weight` applied to the last dimension of `x`, plus the bias: [..., in] -> [..., out]. Computed in
/// the type of the weights, which is that of the result.
at::Tensor apply(const LinearWeights& linear, const at::Tensor& x);

/// Both tensors in `type`, shared where they have it.
LinearWeights cast(const LinearWeights& linear, at::ScalarType type);

/// Runs `visit(visitor, weights)` on a throw-away struct and returns what it declared, in order.
template <class Weights, class Visit>
sharding::UnitSpec declare(std::string unit_name, Visit visit);

/// Runs `visit(visitor, weights)` on a new struct and gives it `params` in order, sharing their memory. Each
/// may be a block of its spec's shape, cut along the split dimension. Throws kInternal when there are too few
/// or a shape differs.
template <class Weights, class Visit>
Weights bind(std::span<const at::Tensor> params, Visit visit);

// ---------------------------------------------------------------------------------------------------------

/// Collects the specs; leaves the slots alone.
class Declaration : public ParameterVisitor {
 public:
  void operator()(at::Tensor& slot, sharding::ParamSpec spec) override;
  std::vector<sharding::ParamSpec> params;
};

/// Fills the slots from `params`, whose tensors must live as long as the visit.
class Binding : public ParameterVisitor {
 public:
  explicit Binding(std::span<const at::Tensor> params) : params_(params) {}
  void operator()(at::Tensor& slot, sharding::ParamSpec spec) override;

 private:
  std::span<const at::Tensor> params_;
  size_t next_ = 0;
};

template <class Weights, class Visit>
sharding::UnitSpec declare(std::string unit_name, Visit visit) {
  Weights weights;
  Declaration declaration;
  visit(declaration, weights);
  return {std::move(unit_name), std::move(declaration.params)};
}

template <class Weights, class Visit>
Weights bind(std::span<const at::Tensor> params, Visit visit) {
  Weights weights;
  Binding binding(params);
  visit(binding, weights);
  return weights;
}

}  // namespace tmd::model
