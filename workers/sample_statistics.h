#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::workers {

/// Sums over rows from which a batch of the student's samples is held against the data of the same batch:
/// moments of each channel, temporal energy, and the spread of some elements over the batch. Sums of parts of
/// a batch add up. x_hat and data [B, C, T, H, W] of equal shape, without gradient; float64 on their device.
at::Tensor sample_sums(const at::Tensor& x_hat, const at::Tensor& data);

/// What `sums` (of the whole batch, on the host) say of `samples` rows of `latent_shape` C, T, H, W. In the
/// limit of two equal distributions:
///   mean_drift       0  largest over channels of |mean(x_hat) - mean(data)| / std(data)
///   std_drift        0  largest over channels of |std(x_hat) / std(data) - 1|
///   std_ratio        1  the same of all elements around their channel's mean: sqrt(var(x_hat) / var(data))
///   motion_ratio     1  mean square of x[t + 1] - x[t], x_hat over data
///   diversity_ratio  1  standard deviation over the batch, of up to 1024 elements of a latent
/// The last two are left out where the data have none: one frame, one sample, or the same everywhere.
std::map<std::string, double> sample_diagnostics(const at::Tensor& sums, int64_t samples,
                                                 const std::vector<int64_t>& latent_shape);

}  // namespace tmd::workers
