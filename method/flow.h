#pragma once

#include <ATen/core/Tensor.h>

namespace tmd::method {

// Rectified flow. Latent-sized arithmetic with times is done in float64 and cast back to the type of the latent.

/// shift(u; g) = g u / ((g - 1) u + 1), g >= 1 (TMD Sec. 3.2).
double shift(double u, double g);
/// The same for [B] float64.
at::Tensor shift(const at::Tensor& u, double g);

/// Time [B] as [B, 1, 1, 1, 1] for arithmetic with latents.
at::Tensor over_latent(const at::Tensor& time);

/// (1 - t) data + t noise (TMD Eq. 1; Eq. 5 with y, s, y_1).
at::Tensor interpolate(const at::Tensor& data, const at::Tensor& noise, const at::Tensor& t);

/// x_t - t v: the clean latent that velocity v points to.
at::Tensor clean_of(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& velocity);

/// Classifier-free guidance: negative + scale (conditional - negative).
at::Tensor guide(const at::Tensor& conditional, const at::Tensor& negative, double scale);

/// clamp(shift(u; g), low, high), all [B] float64.
at::Tensor shifted_time(const at::Tensor& u, double g, double low, double high);

}  // namespace tmd::method
