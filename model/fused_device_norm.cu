#include <cmath>

#include "model/fused_device_kernels.h"
#include "model/fused_device_rows.cuh"

// LayerNorm with modulation or weights, a block a row. Each pass over a row but the first finds it in the
// cache.

namespace tmd::model::device {
namespace {

template <class T>
struct NormNumbers {
  BlockSums<T> sums;
  T mean, deviation;
};

template <class X, class Y>
struct NormForward {
  using T = Compute<X>;
  using Shared = NormNumbers<T>;
  using State = None;
  static constexpr int kPhases = 6, kN = kPack<X, Y>;

  NormCall c;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& shared) const {
    const X* x = row_of<X>(c.x, at.block, c.width);
    if constexpr (phase == 0) {
      shared.sums.part[0][at.thread] = sum(at, x);
    } else if constexpr (phase == 1 || phase == 3) {
      fold(at, shared.sums);
    } else if constexpr (phase == 2) {
      const T mean = total(shared.sums) / static_cast<T>(c.width);
      shared.sums.part[0][at.thread] = sum_of_squares(at, x, mean);
      if (at.thread == 0) shared.mean = mean;
    } else if constexpr (phase == 4) {
      if (at.thread == 0) finish_row(at.block, shared);
    } else {
      write(at, x, shared.mean, shared.deviation);
    }
  }

 private:
  TMD_HOST_DEVICE T sum(const Place& at, const X* x) const {
    T sum = 0;
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      const Pack<T, kN> v = load<kN>(x + i, count);
      for (int j = 0; j < kN; ++j) sum += v.at[j];
    });
    return sum;
  }

  TMD_HOST_DEVICE T sum_of_squares(const Place& at, const X* x, T mean) const {
    T squares = 0;
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      const Pack<T, kN> v = load<kN>(x + i, count);
      for (int j = 0; j < kN; ++j) {
        const T d = v.at[j] - mean;
        if (j < count) squares += d * d;
      }
    });
    return squares;
  }

  TMD_HOST_DEVICE void finish_row(int64_t row, Shared& shared) const {
    const double variance = static_cast<double>(total(shared.sums) / static_cast<T>(c.width));
    shared.deviation = static_cast<T>(1 / std::sqrt(variance + c.epsilon));
    static_cast<T*>(c.mean)[row] = shared.mean;
    static_cast<T*>(c.deviation)[row] = shared.deviation;
  }

  TMD_HOST_DEVICE void write(const Place& at, const X* x, T mean, T deviation) const {
    const int64_t sample = sample_of(at.block, c.tokens);
    const T* scale = row_of<T>(c.scale, sample, c.sample_stride);
    const T* shift = row_of<T>(c.shift, sample, c.sample_stride);
    Y* y = row_of<Y>(c.y, at.block, c.width);
    const T one = static_cast<T>(c.one);
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      const Pack<T, kN> v = load<kN>(x + i, count), by = load<kN>(scale + i, count),
                        plus = load<kN>(shift + i, count);
      Pack<T, kN> result;
      for (int j = 0; j < kN; ++j)
        result.at[j] = (v.at[j] - mean) * deviation * (by.at[j] + one) + plus.at[j];
      store(y + i, result, count);
    });
  }
};

// With g = dy * (one + scale) and n the normalised x: dx = (g - mean(g) - n * mean(g * n)) * deviation.
template <class X, class Y>
struct NormBackward {
  using T = Compute<X>;
  using Shared = BlockSums<T, 2>;
  using State = None;
  static constexpr int kPhases = 3, kN = kPack<X, Y>;

  NormCall c;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& sums) const {
    if constexpr (phase == 0) {
      T sum = 0, products = 0;
      for_row(at, [&](int, int, const Pack<T, kN>& g, const Pack<T, kN>& normed) {
        for (int j = 0; j < kN; ++j) {
          sum += g.at[j];
          products += g.at[j] * normed.at[j];
        }
      });
      sums.part[0][at.thread] = sum;
      sums.part[1][at.thread] = products;
    } else if constexpr (phase == 1) {
      fold(at, sums);
    } else {
      const T width = static_cast<T>(c.width), mean_g = total(sums, 0) / width,
              mean_product = total(sums, 1) / width, deviation = static_cast<const T*>(c.deviation)[at.block];
      X* x_gradient = row_of<X>(c.x_gradient, at.block, c.width);
      for_row(at, [&](int i, int count, const Pack<T, kN>& g, const Pack<T, kN>& normed) {
        Pack<T, kN> result;
        for (int j = 0; j < kN; ++j)
          result.at[j] = (g.at[j] - mean_g - normed.at[j] * mean_product) * deviation;
        store(x_gradient + i, result, count);
      });
    }
  }

 private:
  // f(i, count, g, n) for this thread's packs; g is zero behind the row.
  template <class F>
  TMD_HOST_DEVICE void for_row(const Place& at, F f) const {
    const int64_t row = at.block;
    const X* x = row_of<X>(c.x, row, c.width);
    const Y* y_gradient = row_of<Y>(c.y_gradient, row, c.width);
    const T* scale = row_of<T>(c.scale, sample_of(row, c.tokens), c.sample_stride);
    const T mean = static_cast<const T*>(c.mean)[row], deviation = static_cast<const T*>(c.deviation)[row],
            one = static_cast<T>(c.one);
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      const Pack<T, kN> v = load<kN>(x + i, count), dy = load<kN>(y_gradient + i, count),
                        by = load<kN>(scale + i, count);
      Pack<T, kN> g, normed;
      for (int j = 0; j < kN; ++j) {
        g.at[j] = dy.at[j] * (by.at[j] + one);
        normed.at[j] = (v.at[j] - mean) * deviation;
      }
      f(i, count, g, normed);
    });
  }
};

// Gradients of scale and shift.
template <class X, class Y>
struct NormColumns {
  using T = Compute<X>;
  static constexpr int kN = kPack<X, Y>, kSums = 2;

  NormCall c;

  TMD_HOST_DEVICE void prepare(int64_t row, T (&numbers)[2]) const {
    numbers[0] = static_cast<const T*>(c.mean)[row];
    numbers[1] = static_cast<const T*>(c.deviation)[row];
  }
  TMD_HOST_DEVICE void add(int64_t row, int i, int count, const T (&numbers)[2], Pack<T, kN>* sums) const {
    const Pack<T, kN> v = load<kN>(row_of<X>(c.x, row, c.width) + i, count),
                      dy = load<kN>(row_of<Y>(c.y_gradient, row, c.width) + i, count);
    for (int j = 0; j < kN; ++j) {
      sums[0].at[j] += dy.at[j] * ((v.at[j] - numbers[0]) * numbers[1]);
      sums[1].at[j] += dy.at[j];
    }
  }
};

}  // namespace

void norm_forward(const NormCall& call, int64_t rows, Stream stream) {
  check_rows(rows, call.width, call.tokens);
  with_types(call.x_type, call.y_type, [&](auto x, auto y) {
    using Kernel = NormForward<decltype(x), decltype(y)>;
    launch("norm_forward", Kernel{call}, rows, threads_of_row<Kernel::kN>(call.width), stream);
  });
}

void norm_backward(const NormCall& call, int64_t rows, void* columns, Stream stream) {
  check_rows(rows, call.width, call.tokens);
  with_types(call.x_type, call.y_type, [&](auto x, auto y) {
    using Kernel = NormBackward<decltype(x), decltype(y)>;
    if (call.x_gradient)
      launch("norm_backward", Kernel{call}, rows, threads_of_row<Kernel::kN>(call.width), stream);
    if (columns)
      sum_columns("norm_backward: columns", NormColumns<decltype(x), decltype(y)>{call}, rows, call.width,
                  call.tokens, columns, stream);
  });
}

}  // namespace tmd::model::device
