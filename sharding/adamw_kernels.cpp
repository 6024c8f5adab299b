// Compiled once for each instruction set (cmake/Targets.cmake, tmd_kernels): see base/vec.h before including
// more.
#include "sharding/adamw_kernels.h"

#include "base/vec.h"

namespace tmd::sharding::TMD_KERNELS {

namespace {

using namespace tmd::TMD_KERNELS;

float root(float x) { return __builtin_sqrtf(x); }
double root(double x) { return __builtin_sqrt(x); }

// The loop has no order among its elements, so the compiler may take as many at once as the machine can.
template <class T, bool Averages>
void step_elements(T* __restrict weight, T* __restrict first, T* __restrict second, T* __restrict average,
                   const T* __restrict gradient, int64_t n, const AdamWFactors& f) {
  const T scale = static_cast<T>(f.gradient_scale), beta1 = static_cast<T>(f.beta1),
          beta2 = static_cast<T>(f.beta2), one_minus_beta1 = static_cast<T>(1 - f.beta1),
          one_minus_beta2 = static_cast<T>(1 - f.beta2), epsilon = static_cast<T>(f.epsilon),
          decay = static_cast<T>(f.decay), step_size = static_cast<T>(f.step_size),
          second_scale = static_cast<T>(f.second_scale), average_decay = static_cast<T>(f.average_decay),
          one_minus_average = static_cast<T>(1 - f.average_decay);
  for (int64_t i = 0; i < n; ++i) {
    const T g = gradient[i] * scale;
    const T m = beta1 * first[i] + one_minus_beta1 * g;
    const T v = beta2 * second[i] + one_minus_beta2 * g * g;
    const T w = weight[i] * decay - step_size * m / (root(v) * second_scale + epsilon);
    first[i] = m;
    second[i] = v;
    weight[i] = w;
    if constexpr (Averages) average[i] = average_decay * average[i] + one_minus_average * w;
  }
}

template <class T>
void round_elements(const T* weight, Bfloat16* copy, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes<float>) {
    const First present{n - i < kLanes<float> ? n - i : kLanes<float>};
    float values[kLanes<float>] = {};
    for (int64_t k = 0; k < present.n; ++k) values[k] = static_cast<float>(weight[i + k]);
    store(copy + i, load(values, All{}), present);
  }
}

template <class T>
void step_range(const AdamWRange& r, const AdamWFactors& f) {
  T *weight = static_cast<T*>(r.weight), *first = static_cast<T*>(r.first),
    *second = static_cast<T*>(r.second);
  const T* gradient = static_cast<const T*>(r.gradient);
  if (r.average) {
    step_elements<T, true>(weight, first, second, static_cast<T*>(r.average), gradient, r.n, f);
  } else {
    step_elements<T, false>(weight, first, second, nullptr, gradient, r.n, f);
  }
  if (r.copy) round_elements(weight, r.copy, r.n);
}

void step(const AdamWRange& range, const AdamWFactors& factors) {
  range.is_double ? step_range<double>(range, factors) : step_range<float>(range, factors);
}

template <class T>
double squares(const T* x, int64_t n) {
  constexpr int64_t kSums = 8;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (int64_t k = 0; k < kSums; ++k) {
      const double value = static_cast<double>(x[i + k]);
      sums[k] += value * value;
    }
  }
  for (int64_t k = 0; i + k < n; ++k)
    sums[k] += static_cast<double>(x[i + k]) * static_cast<double>(x[i + k]);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

double sum_of_squares(bool is_double, const void* x, int64_t n) {
  return is_double ? squares(static_cast<const double*>(x), n) : squares(static_cast<const float*>(x), n);
}

}  // namespace

const AdamWKernels kAdamWKernels = {step, sum_of_squares};

}  // namespace tmd::sharding::TMD_KERNELS
