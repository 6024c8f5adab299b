#include "sharding/weight_sample.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>

#include "base/error.h"
#include "comm/agree.h"

namespace tmd::sharding {
namespace {

// One place in each of `count` equal ranges of the elements, at fractions that follow the golden ratio: no
// row or column of a matrix is met more often than others.
std::vector<int64_t> chosen_places(int64_t elements, int64_t count) {
  constexpr double kGolden = 0.6180339887498949;
  std::vector<int64_t> places;
  for (int64_t k = 0; k < count; ++k) {
    const double fraction = std::fmod(static_cast<double>(k) * kGolden, 1.0);
    const int64_t begin = k * elements / count, end = (k + 1) * elements / count;
    places.push_back(begin + static_cast<int64_t>(fraction * static_cast<double>(end - begin)));
  }
  return places;
}

// Sums of what the ranks hold: replicas hold the same.
struct Found {
  explicit Found(size_t count) : numbers(2 * count), half(count) {}
  void add(size_t k, double value) {
    numbers[k] += value;
    numbers[half + k] += 1;
  }
  std::vector<double> numbers;
  size_t half;
};

// `begin`: of the parameter among all elements of the network.
void add_segment(const at::Tensor& values, const Slice& slice, int64_t begin,
                 const std::vector<int64_t>& places, Found& found) {
  int64_t elements = 1;
  for (const int64_t extent : slice.full_shape) elements *= extent;
  auto place = std::ranges::lower_bound(places, begin);
  for (; place != places.end() && *place < begin + elements; ++place) {
    const int64_t flat = slice.first_from(*place - begin);
    if (flat < slice.flat_begin || flat >= slice.flat_end || slice.place_in_tensor(flat) != *place - begin)
      continue;
    found.add(static_cast<size_t>(place - places.begin()), values[flat - slice.flat_begin].item<double>());
  }
}

}  // namespace

at::Tensor sample_weights(const ShardedNetwork& network, int64_t count) {
  std::vector<std::vector<int64_t>> begins;
  int64_t elements = 0;
  for (int unit = 0; unit < network.units(); ++unit) {
    std::vector<int64_t>& of_unit = begins.emplace_back();
    for (const ParamSpec& param : network.spec(unit).params) {
      of_unit.push_back(elements);
      elements += param.elements();
    }
  }
  const std::vector<int64_t> places = chosen_places(elements, std::min(count, elements));
  Found found(places.size());
  for (int unit = 0; unit < network.units(); ++unit) {
    const UnitShard& shard = network.shard(unit);
    for (const ShardSegment& segment : shard.segments) {
      add_segment(shard.place(segment, network.layout(unit)), segment.slice, begins[unit][segment.param],
                  places, found);
    }
  }
  comm::sum(network.mesh().world(), found.numbers);
  const at::Tensor values = at::empty({static_cast<int64_t>(places.size())}, at::kDouble);
  for (size_t k = 0; k < places.size(); ++k) {
    ensure(found.numbers[found.half + k] > 0, "every element is on some rank");
    values.mutable_data_ptr<double>()[k] = found.numbers[k] / found.numbers[found.half + k];
  }
  return values;
}

double share_moved(const at::Tensor& before, const at::Tensor& after) {
  ensure(before.sizes() == after.sizes(), "both samples are of the same elements");
  if (before.numel() == 0) return 0;
  constexpr double kHalfUnit = 1.0 / 512;  // 8 significant bits
  const at::Tensor apart = (after - before).abs(), size = at::maximum(after.abs(), before.abs());
  return (apart > kHalfUnit * size).to(at::kDouble).mean().item<double>();
}

}  // namespace tmd::sharding
