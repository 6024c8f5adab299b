#pragma once

#include <string_view>

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

/// The form in which every statistic takes samples: [N, D] float64 on the host, contiguous, without a graph.
/// `samples`: [N, ...] of any element type and device; `what` names it in errors, e.g. "samples of the
/// student". Throws kInternal for a tensor without elements, kDiverged, naming the first bad row, when a
/// value is not finite.
at::Tensor point_set(const at::Tensor& samples, std::string_view what);

}  // namespace tmd::evaluation
