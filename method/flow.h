#pragma once

#include <ATen/core/Tensor.h>

namespace tmd::method {

// Rectified flow. Latent-sized arithmetic with times is done in float64 and cast back to the type of the
// latent. Z stands for the latent shape [B, C, T, H, W]; times are [B] float64 in 0 .. 1, 0 = data,
// 1 = noise. Times are on the host, where they decide what is computed; latents may be on any device.
// Gradients flow through the tensor functions. Thread: any.

/// shift(u; g) = g u / ((g - 1) u + 1), g >= 1 (TMD Sec. 3.2).
double shift(double u, double g);
/// The same element by element, [B] float64.
at::Tensor shift(const at::Tensor& u, double g);

/// Time [B] as [B, 1, 1, 1, 1] for arithmetic with latents: where it is, or where `latent` is.
at::Tensor over_latent(const at::Tensor& time);
at::Tensor over_latent(const at::Tensor& time, const at::Tensor& latent);

/// (1 - t) data + t noise (TMD Eq. 1; Eq. 5 with y, s, y_1). Z, Z, [B] -> Z of the type of `data`.
at::Tensor interpolate(const at::Tensor& data, const at::Tensor& noise, const at::Tensor& t);

/// x_t - t v: the clean latent that velocity v points to (TMD Eq. 17, Wan 2.9).
/// Z, [B], Z -> Z of the type of x_t.
at::Tensor clean_of(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& velocity);

/// Classifier-free guidance: negative + scale (conditional - negative) (Wan 2.9, TMD App. A.2). Any equal
/// shapes; in the type of the tensors.
at::Tensor guide(const at::Tensor& conditional, const at::Tensor& negative, double scale);

/// clamp(shift(u; g), low, high), [B] float64: s of stage 1 (TMD App. A.2), t_d of stage 2 (TMD Table 7).
at::Tensor shifted_time(const at::Tensor& u, double g, double low, double high);

}  // namespace tmd::method
