#include "evaluation/point_set.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd::evaluation {

at::Tensor point_set(const at::Tensor& samples, std::string_view what) {
  ensure(samples.dim() >= 1 && samples.numel() > 0, "a set of samples has at least one element");
  const at::Tensor points = samples.detach()
                                .to(at::TensorOptions(at::kCPU).dtype(at::kDouble))
                                .reshape({samples.size(0), -1})
                                .contiguous();  // [N, D]
  const at::Tensor is_bad = at::isfinite(points).all(1).logical_not();
  if (is_bad.any().item<bool>()) {
    throw Error(ErrorKind::kDiverged,
                fmt::format("{}: {} of {} hold values that are not finite, the first is number {}", what,
                            is_bad.sum().item<int64_t>(), points.size(0),
                            is_bad.to(at::kByte).argmax().item<int64_t>()));
  }
  return points;
}

}  // namespace tmd::evaluation
