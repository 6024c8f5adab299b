#pragma once

#include <vector>

namespace tmd::method {

/// Grid of a few-step student, noise side last: t_0 = 0 < t_1 < ... < t_steps (steps + 1 values), with
/// t_i = floor(1000 shift(t_max i / steps; g)) / 1000. Outer grid t and inner grid s of TMD Sec. 3.2; the
/// rounding to integer timesteps is that of the FastGen code (NVlabs/FastGen).
std::vector<double> student_grid(int steps, double g, double t_max = 0.999);

/// How the sigmas of a teacher sampler start (Wan 2.9).
enum class SigmaGrid {
  kWan,        ///< linspace(0.999, 0, n + 1) without its last value, then shifted: the original code
  kDiffusers,  ///< linspace(1, 0.001, n + 1) without its last value, then shifted; a first sigma of exactly
               ///< 1 is lowered by 1e-6
};

/// `steps` sigmas in 0 .. 1 from noise to data, followed by 0 (Wan 2.9). `g`: flow shift.
std::vector<double> teacher_sigmas(int steps, double g, SigmaGrid grid);

/// Effective number of network evaluations of a TMD student: M (1 + (N - 1) H / L) (TMD Eq. 16), in order of
/// the arguments M, N, H, L.
double effective_nfe(int outer_steps, int inner_steps, int head_blocks, int layers);

}  // namespace tmd::method
