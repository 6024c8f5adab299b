#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <vector>

#include "sharding/sharded_network.h"

namespace tmd::sharding {

using Tensors = std::vector<at::Tensor>;

/// What a unit computes: a pure function of its parameters (in the order of the unit's spec) and its inputs. No
/// output may be a view of a parameter.
using UnitFunction = std::function<Tensors(std::span<const at::Tensor> params, std::span<const at::Tensor> inputs)>;

/// Runs `function` with the gathered parameters of `unit` as one node of the autograd graph.
///
/// Forward: gather, compute without graph, release. Backward: gather, recompute with graph, differentiate,
/// release, reduce the parameter gradients into the shard. Nothing but the inputs is kept in between.
/// `weight_gradients`: false when the network is frozen in this phase; gradients then flow to the inputs only.
/// Collective over: the shard group, in the forward and again in the backward pass; every rank must build the
/// same graph. The same unit may be run several times; its gradients add up.
Tensors run_unit(ShardedNetwork& network, int unit, bool weight_gradients, UnitFunction function, const Tensors& inputs);

}  // namespace tmd::sharding
