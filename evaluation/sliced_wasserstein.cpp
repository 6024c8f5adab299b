#include "evaluation/sliced_wasserstein.h"

#include <cmath>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/philox.h"
#include "evaluation/point_set.h"

namespace tmd::evaluation {
namespace {

constexpr uint64_t kDirectionStream = 0;  // bootstrap.cpp has 1

at::Tensor unit_directions(int64_t count, int64_t dimensions, uint64_t seed) {
  at::Tensor directions = at::empty({count, dimensions}, at::kDouble);
  double* row = directions.mutable_data_ptr<double>();
  for (int64_t k = 0; k < count; ++k, row += dimensions) {
    PhiloxStream(seed, kDirectionStream, static_cast<uint64_t>(k), Purpose::kEvaluation)
        .fill_normal(std::span<double>(row, dimensions));
  }
  return directions / directions.norm(2, {1}, /*keepdim=*/true);
}

// [directions, N], each row ascending.
at::Tensor sorted_projections(const at::Tensor& points, const at::Tensor& directions) {
  return std::get<0>(directions.matmul(points.t()).sort(1)).contiguous();
}

}  // namespace

SlicedDistance sorted_wasserstein(std::span<const double> a, std::span<const double> b) {
  // Breakpoints of the two quantile functions in units of 1 / (|a| |b|), exact in integers.
  SlicedDistance sum;
  const auto n = static_cast<int64_t>(a.size()), m = static_cast<int64_t>(b.size());
  int64_t done = 0;
  for (int64_t i = 0, j = 0; i < n && j < m;) {
    const int64_t end_a = (i + 1) * m, end_b = (j + 1) * n, end = std::min(end_a, end_b);
    const double gap = std::abs(a[i] - b[j]), mass = static_cast<double>(end - done);
    sum.w1 += mass * gap;
    sum.w2 += mass * gap * gap;
    done = end;
    if (end == end_a) ++i;
    if (end == end_b) ++j;
  }
  const double total = static_cast<double>(n) * static_cast<double>(m);
  return {sum.w1 / total, std::sqrt(sum.w2 / total)};
}

SlicedDistance sliced_wasserstein(const at::Tensor& a, const at::Tensor& b, int64_t directions,
                                  uint64_t seed) {
  const at::Tensor points_a = point_set(a, "first set"), points_b = point_set(b, "second set");
  ensure(points_a.size(1) == points_b.size(1), "both point sets have the same dimensions");
  ensure(directions >= 1, "at least one direction");
  const at::Tensor unit = unit_directions(directions, points_a.size(1), seed);
  const at::Tensor rows_a = sorted_projections(points_a, unit), rows_b = sorted_projections(points_b, unit);
  const size_t n = rows_a.size(1), m = rows_b.size(1);
  SlicedDistance mean;
  for (int64_t k = 0; k < directions; ++k) {
    const SlicedDistance one = sorted_wasserstein({rows_a.const_data_ptr<double>() + k * n, n},
                                                  {rows_b.const_data_ptr<double>() + k * m, m});
    mean.w1 += one.w1;
    mean.w2 += one.w2 * one.w2;
  }
  const auto count = static_cast<double>(directions);
  return {mean.w1 / count, std::sqrt(mean.w2 / count)};
}

}  // namespace tmd::evaluation
