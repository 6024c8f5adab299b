#include "sharding/sharded_network.h"

#include <chrono>

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::sharding {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void GatherBuffers::reserve(int64_t elements, int64_t shard_elements, at::ScalarType type) {
  const auto grow = [type](at::Tensor& buffer, int64_t wanted) {
    if (!buffer.defined() || buffer.numel() < wanted) buffer = at::empty({wanted}, type);
    ensure(buffer.scalar_type() == type, "networks that share buffers have one element type");
  };
  grow(gathered_, elements);
  grow(gradient_, elements);
  grow(gradient_shard_, shard_elements);
}

void GatherBuffers::take() {
  ensure(!is_taken_, "one unit of the networks that share buffers is gathered at a time");
  is_taken_ = true;
}

ShardedNetwork::ShardedNetwork(std::string name, std::vector<UnitSpec> units, const Mesh& mesh,
                               at::ScalarType type, bool trainable, GatherBuffers& buffers)
    : name_(std::move(name)),
      specs_(std::move(units)),
      mesh_(mesh),
      type_(type),
      trainable_(trainable),
      buffers_(buffers) {
  const int shards = mesh.shard_group().size();
  for (const UnitSpec& unit : specs_) {
    const FlatLayout& layout = layouts_.emplace_back(unit, shards);
    UnitShard& shard = shards_.emplace_back();
    shard.master = at::zeros({layout.shard_elements()}, type_);
    if (trainable_) shard.gradient = at::zeros({layout.shard_elements()}, type_);
    shard.segments = layout.segments(unit, mesh.shard_group().rank());
    if (shards > 1) buffers_.reserve(layout.elements(), layout.shard_elements(), type_);
  }
}

int ShardedNetwork::unit(const std::string& name) const {
  for (int i = 0; i < units(); ++i) {
    if (specs_[i].name == name) return i;
  }
  throw Error(ErrorKind::kInternal, name_ + " has no unit " + name);
}

std::vector<at::Tensor> ShardedNetwork::views(const at::Tensor& flat, int unit) const {
  std::vector<at::Tensor> views;
  const UnitSpec& unit_spec = specs_[unit];
  views.reserve(unit_spec.params.size());
  for (size_t i = 0; i < unit_spec.params.size(); ++i) {
    const ParamSpec& param = unit_spec.params[i];
    views.push_back(
        flat.narrow(0, layouts_[unit].offset(static_cast<int>(i)), param.elements()).view(param.shape));
  }
  return views;
}

at::Tensor ShardedNetwork::gather_flat(const at::Tensor& shard, int unit) {
  comm::Communicator& group = mesh_.shard_group();
  if (group.size() == 1) return shard;
  const auto start = std::chrono::steady_clock::now();
  at::Tensor flat = buffers_.gathered().narrow(0, 0, layouts_[unit].elements());
  group.all_gather(shard, flat).wait();
  exposed_.gather_s += seconds_since(start);
  return flat;
}

ShardedNetwork::Gathered ShardedNetwork::gather(int unit) {
  buffers_.take();
  const at::NoGradGuard no_grad;
  const at::Tensor flat = gather_flat(shards_[unit].master, unit);
  return Gathered(*this, views(flat, unit));
}

void ShardedNetwork::reduce(int unit, const std::vector<at::Tensor>& gradients) {
  ensure(trainable_, "gradients of a frozen network are never reduced");
  const at::NoGradGuard no_grad;
  comm::Communicator& group = mesh_.shard_group();
  UnitShard& own = shards_[unit];
  if (group.size() == 1) {
    const std::vector<at::Tensor> targets = views(own.gradient, unit);
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i].defined()) at::Tensor(targets[i]).add_(gradients[i]);
    }
    return;
  }
  at::Tensor flat = buffers_.gradient().narrow(0, 0, layouts_[unit].elements());
  flat.zero_();  // undefined gradients and padding count as zero
  const std::vector<at::Tensor> targets = views(flat, unit);
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined()) at::Tensor(targets[i]).copy_(gradients[i]);
  }
  const auto start = std::chrono::steady_clock::now();
  at::Tensor sum = buffers_.gradient_shard().narrow(0, 0, layouts_[unit].shard_elements());
  group.reduce_scatter(flat, sum, comm::ReduceOp::kSum).wait();
  exposed_.reduce_s += seconds_since(start);
  own.gradient.add_(sum);
}

void ShardedNetwork::reduce_over_replicas() {
  comm::Communicator& group = mesh_.replicate_group();
  if (group.size() == 1) return;
  const auto start = std::chrono::steady_clock::now();
  for (UnitShard& shard : shards_) group.all_reduce(shard.gradient, comm::ReduceOp::kSum).wait();
  exposed_.reduce_s += seconds_since(start);
}

void ShardedNetwork::zero_gradients() {
  for (UnitShard& shard : shards_) shard.gradient.zero_();
}

at::Tensor ShardedNetwork::full_of(const std::string& name, bool gradient) {
  for (int unit = 0; unit < units(); ++unit) {
    for (size_t i = 0; i < specs_[unit].params.size(); ++i) {
      if (specs_[unit].params[i].name != name) continue;
      buffers_.take();
      const at::NoGradGuard no_grad;
      const at::Tensor flat = gather_flat(gradient ? shards_[unit].gradient : shards_[unit].master, unit);
      at::Tensor copy = views(flat, unit)[i].clone();
      buffers_.give_back();
      return copy;
    }
  }
  throw Error(ErrorKind::kInternal, name_ + " has no parameter " + name);
}

at::Tensor ShardedNetwork::full_parameter(const std::string& name) { return full_of(name, false); }

at::Tensor ShardedNetwork::full_gradient(const std::string& name) { return full_of(name, true); }

ShardedNetwork::ExposedTime ShardedNetwork::take_exposed_time() { return std::exchange(exposed_, {}); }

}  // namespace tmd::sharding
