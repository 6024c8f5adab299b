#pragma once

#include <functional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "sharding/sharded_network.h"

namespace tmd::sharding {

using Tensors = std::vector<at::Tensor>;

/// What a unit computes: a pure function of its parameters (as in ShardedNetwork::Gathered) and
/// its inputs. It runs twice, once in each pass, so it may not change what it captures. No output may be a
/// view of a parameter: those are overwritten by the next gather.
using UnitFunction =
    std::function<Tensors(std::span<const at::Tensor> params, std::span<const at::Tensor> inputs)>;

/// Runs `function` with the gathered parameters of `unit` as one node of the autograd graph.
///
/// Forward: gather, compute without graph, release. Backward: gather, recompute with graph, differentiate,
/// release, reduce the parameter gradients into the shard. Nothing but the inputs is kept in between, unless
/// the network keeps the unit (keep_units): then its graph is, and nothing is computed again.
/// `weight_gradients`: false when the network is frozen in this phase; then only the inputs get gradients.
/// Collective over: the copy group, in the forward and again in the backward pass; every rank must build the
/// same graph. The same unit may be run several times; its gradients add up.
/// The graph keeps `function`, `inputs` and a reference to `network`, which must outlive it.
/// Inputs with tangents (sharding/forward_mode.h) run the function in forward mode instead: outputs carry
/// tangents, there is no graph; gradient mode must be off, and the sample group have one rank (else
/// kInternal). Throws what `function` throws; kInternal when `function` runs a unit of the same network, and
/// in the backward pass when `weight_gradients` is set for a network that is not trainable.
Tensors run_unit(ShardedNetwork& network, int unit, bool weight_gradients, UnitFunction function,
                 const Tensors& inputs);

}  // namespace tmd::sharding
