#include "evaluation/feature_distances.h"

#include <algorithm>
#include <map>

#include <ATen/ATen.h>

#include "base/error.h"
#include "evaluation/point_set.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kMostRows = 1024;  // of a mean over pairs: half a million pairs say enough
constexpr int64_t kRowsPerBlock = 512;
constexpr int64_t kDirectDistances = 2;  // cdist without the matrix product, which loses half of the digits

std::vector<double> to_vector(const at::Tensor& values) {
  const at::Tensor numbers = values.contiguous();
  const double* begin = numbers.const_data_ptr<double>();
  return {begin, begin + numbers.numel()};
}

// The rank-th nearest of `others`, from 1, for each row.
std::vector<double> nearest(const at::Tensor& points, const at::Tensor& others, int64_t rank) {
  const at::Tensor rows = point_set(points, "features"), all = point_set(others, "features");
  ensure(rows.size(1) == all.size(1), "both feature sets have the same dimensions");
  ensure(all.size(0) >= rank, "there are enough rows to be near to");
  std::vector<double> distances;
  for (int64_t begin = 0; begin < rows.size(0); begin += kRowsPerBlock) {
    const at::Tensor block = at::cdist(rows.narrow(0, begin, std::min(kRowsPerBlock, rows.size(0) - begin)),
                                       all, 2.0, kDirectDistances);
    std::ranges::copy(to_vector(std::get<0>(block.kthvalue(rank, 1))), std::back_inserter(distances));
  }
  return distances;
}

}  // namespace

double mean_pairwise_distance(const at::Tensor& points) {
  const at::Tensor all = point_set(points, "features");
  ensure(all.size(0) >= 2, "a distance between samples needs two of them");
  return at::pdist(all.narrow(0, 0, std::min(kMostRows, all.size(0)))).mean().item<double>();
}

std::vector<double> prompt_diversity(const at::Tensor& points, std::span<const int64_t> prompts,
                                     int64_t at_least) {
  const at::Tensor all = point_set(points, "features");
  ensure(all.size(0) == static_cast<int64_t>(prompts.size()), "one prompt for each row of features");
  ensure(at_least >= 2, "a distance between samples needs two of them");
  std::map<int64_t, std::vector<int64_t>> rows;
  for (size_t i = 0; i < prompts.size(); ++i) rows[prompts[i]].push_back(static_cast<int64_t>(i));
  std::vector<double> distances;
  for (const auto& [prompt, members] : rows) {
    if (static_cast<int64_t>(members.size()) < at_least) continue;
    distances.push_back(mean_pairwise_distance(all.index_select(0, at::tensor(members, at::kLong))));
  }
  return distances;
}

std::vector<double> paired_distances(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor rows = point_set(a, "features"), others = point_set(b, "features");
  ensure(rows.sizes() == others.sizes(), "paired features have the same count and dimensions");
  return to_vector((rows - others).norm(2, {1}));
}

std::vector<double> nearest_distances(const at::Tensor& points, const at::Tensor& others) {
  return nearest(points, others, 1);
}

// Rank 1 is the row itself at distance 0.
std::vector<double> nearest_other_distances(const at::Tensor& points) { return nearest(points, points, 2); }

}  // namespace tmd::evaluation
