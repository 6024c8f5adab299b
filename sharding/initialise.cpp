#include "sharding/initialise.h"

#include <map>
#include <span>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/philox.h"

namespace tmd::sharding {
namespace {

double draw(const PhiloxStream& stream, const ParamSpec& param, int64_t index) {
  const double value = param.init.value;
  switch (param.init.kind) {
    case Initialiser::Kind::kConstant:
      return value;
    case Initialiser::Kind::kNormal:
      return value * stream.normal(static_cast<uint64_t>(index));
    case Initialiser::Kind::kUniform:
      return value * (2 * stream.uniform(static_cast<uint64_t>(index)) - 1);
    case Initialiser::Kind::kIdentityThenNormal: {
      const int64_t rows = param.shape[0], row = index / (2 * rows), column = index % (2 * rows);
      if (column < rows) return row == column ? 1 : 0;
      return value * stream.normal(static_cast<uint64_t>(index));
    }
  }
  return 0;
}

uint64_t name_key(const std::string& name) {
  return xxh3_64(std::as_bytes(std::span(name))) & 0xffffffffffffULL;  // Philox streams take 48 bits
}

}  // namespace

void initialise(ShardedNetwork& network, uint64_t seed) {
  for (int unit = 0; unit < network.units(); ++unit) {
    const UnitShard& shard = network.shard(unit);
    for (const ShardSegment& segment : shard.segments) {
      const ParamSpec& param = network.spec(unit).params[segment.param];
      const PhiloxStream stream(seed, 0, name_key(param.name), Purpose::kInit);
      at::Tensor values = at::empty({segment.slice.elements()}, at::kDouble);
      double* out = values.data_ptr<double>();
      for (int64_t i = 0; i < segment.slice.elements(); ++i) {
        out[i] = draw(stream, param, segment.slice.place_in_tensor(segment.slice.flat_begin + i));
      }
      shard.place(segment, network.layout(unit)).copy_(values);
    }
  }
  network.publish();
}

int64_t copy_parameters(ShardedNetwork& source, ShardedNetwork& target) {
  ensure(&source.mesh() == &target.mesh(), "networks that copy from each other share a mesh");
  std::map<std::string, std::pair<int, const ShardSegment*>> wanted;  // this rank's slices of the target
  int64_t missing = 0;
  std::map<std::string, int64_t> source_elements;
  for (int unit = 0; unit < source.units(); ++unit) {
    for (const ParamSpec& param : source.spec(unit).params) source_elements[param.name] = param.elements();
  }
  for (int unit = 0; unit < target.units(); ++unit) {
    for (const ParamSpec& param : target.spec(unit).params) {
      const auto found = source_elements.find(param.name);
      if (found == source_elements.end() || found->second != param.elements()) missing += param.elements();
    }
    for (const ShardSegment& segment : target.shard(unit).segments)
      wanted[segment.slice.name] = {unit, &segment};
  }
  for (int unit = 0; unit < source.units(); ++unit) {
    const ShardedNetwork::Gathered gathered = source.gather_master(unit);
    for (size_t i = 0; i < gathered.params.size(); ++i) {
      const auto found = wanted.find(source.spec(unit).params[i].name);
      if (found == wanted.end()) continue;
      const auto& [target_unit, segment] = found->second;
      const ParamSpec& wanted_param = target.spec(target_unit).params[segment->param];
      if (source.spec(unit).params[i].elements() != wanted_param.elements()) continue;
      target.shard(target_unit)
          .place(*segment, target.layout(target_unit))
          .copy_(gathered.params[i].reshape({-1}).narrow(0, segment->slice.flat_begin,
                                                         segment->slice.elements()));
    }
  }
  target.publish();
  return missing;
}

void blend_parameters(const ShardedNetwork& source, ShardedNetwork& target, double share,
                      const std::function<bool(const std::string& unit)>& takes) {
  ensure(&source.mesh() == &target.mesh(), "networks that blend share a mesh");
  for (int unit = 0; unit < target.units(); ++unit) {
    const UnitSpec& spec = target.spec(unit);
    for (int other = 0; other < source.units(); ++other) {
      if (source.spec(other).name != spec.name || !takes(spec.name)) continue;
      const at::Tensor& from = source.shard(other).master;
      at::Tensor& to = target.shard(unit).master;
      ensure(from.sizes() == to.sizes(), "units of one name have the same parameters");
      to.lerp_(from, share);
    }
  }
  target.publish();
}

void fill_slices(ShardedNetwork& network, const std::function<void(const Slice&, at::Tensor out)>& fill) {
  for (int unit = 0; unit < network.units(); ++unit) {
    const UnitShard& shard = network.shard(unit);
    for (const ShardSegment& segment : shard.segments) {
      fill(segment.slice, shard.place(segment, network.layout(unit)));
    }
  }
  network.publish();
}

}  // namespace tmd::sharding
