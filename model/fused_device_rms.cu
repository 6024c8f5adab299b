#include <cmath>

#include "model/fused_device_kernels.h"
#include "model/fused_device_rows.cuh"

// RMSNorm with rotation, a block a row.

namespace tmd::model::device {
namespace {

template <class T>
TMD_HOST_DEVICE inline T rms_factor(const RmsCall& c, int64_t row) {
  const double mean = static_cast<double>(static_cast<const T*>(c.sums)[row]) / c.full_width;
  return static_cast<T>(1 / std::sqrt(mean + c.epsilon));
}

// The rotations of one token: cosine and sine of each pair of channels of a head.
template <class T, int N>
struct Rotation {
  const T* table;  // null: none
  int head_dim;

  TMD_HOST_DEVICE Rotation(const RmsCall& c, int64_t row)
      : table(c.rotations ? row_of<T>(c.rotations, token_of(row, c.tokens), c.head_dim) : nullptr),
        head_dim(static_cast<int>(c.head_dim)) {}

  // The pack at channel i turned by the angles of its pairs; `sign` -1 turns back. A pack begins at an even
  // channel, so it cuts no pair, but it may reach into the next heads.
  TMD_HOST_DEVICE Pack<T, N> turn(const Pack<T, N>& v, int i, T sign) const {
    if (!table) return v;
    Pack<T, N> angles;
    int at = i % head_dim;
    if (at + N <= head_dim) {
      angles = load<N>(table + at);
    } else {
      for (int j = 0; j < N; j += 2) {
        angles.at[j] = table[at];
        angles.at[j + 1] = table[at + 1];
        at = at + 2 == head_dim ? 0 : at + 2;
      }
    }
    Pack<T, N> turned;
    for (int j = 0; j < N; j += 2) {
      const T cosine = angles.at[j], sine = angles.at[j + 1];
      turned.at[j] = v.at[j] * cosine + v.at[j + 1] * (sine * -sign);
      turned.at[j + 1] = v.at[j + 1] * cosine + v.at[j] * (sine * sign);
    }
    return turned;
  }
};

TMD_HOST_DEVICE inline float rounded_if(bool rounds, float x) { return rounds ? widened(to_bfloat16(x)) : x; }
TMD_HOST_DEVICE inline double rounded_if(bool, double x) { return x; }  // float64 is never rounded

template <class T>
struct RmsNumbers {
  BlockSums<T> sums;
  T factor, along_x;
};

template <class X, class Y>
struct RmsForward {
  using T = Compute<X>;
  using Shared = RmsNumbers<T>;
  using State = None;
  static constexpr int kPhases = 4, kN = kPack<X, Y>;

  RmsCall c;
  bool sums, finishes;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& shared) const {
    if constexpr (phase == 0) {
      if (sums) shared.sums.part[0][at.thread] = sum_of_squares(at);
    } else if constexpr (phase == 1) {
      if (sums) fold(at, shared.sums);
    } else if constexpr (phase == 2) {
      if (at.thread != 0) return;
      if (sums) static_cast<T*>(c.sums)[at.block] = total(shared.sums);
      if (finishes) shared.factor = rms_factor<T>(c, at.block);
    } else if (finishes) {
      write(at, shared.factor);
    }
  }

 private:
  TMD_HOST_DEVICE T sum_of_squares(const Place& at) const {
    const X* x = row_of<X>(c.x, at.block, c.width);
    T sum = 0;
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      const Pack<T, kN> v = load<kN>(x + i, count);
      for (int j = 0; j < kN; ++j) sum += v.at[j] * v.at[j];
    });
    return sum;
  }

  TMD_HOST_DEVICE void write(const Place& at, T factor) const {
    const X* x = row_of<X>(c.x, at.block, c.width);
    const T* weight = static_cast<const T*>(c.weight);
    Y* y = row_of<Y>(c.y, at.block, c.width);
    const Rotation<T, kN> rotation(c, at.block);
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      Pack<T, kN> v = load<kN>(x + i, count);
      const Pack<T, kN> by = load<kN>(weight + i, count);
      for (int j = 0; j < kN; ++j)
        v.at[j] = rounded_if(c.rounds, rounded_if(c.rounds, v.at[j] * factor) * by.at[j]);
      store(y + i, rotation.turn(v, i, T{1}), count);
    });
  }
};

// With r the factor and g = weight * (dy turned back): dx = g r - x r^3 sum(g x) / full_width.
template <class X, class Y>
struct RmsBackward {
  using T = Compute<X>;
  using Shared = RmsNumbers<T>;
  using State = None;
  static constexpr int kPhases = 4, kN = kPack<X, Y>;

  RmsCall c;
  bool sums, finishes;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& shared) const {
    if constexpr (phase == 0) {
      if (sums) shared.sums.part[0][at.thread] = sum_of_products(at);
    } else if constexpr (phase == 1) {
      if (sums) fold(at, shared.sums);
    } else if constexpr (phase == 2) {
      if (at.thread == 0) finish_row(at.block, shared);
    } else if (finishes) {
      write(at, shared.factor, shared.along_x);
    }
  }

 private:
  // f(i, count, x, dy turned back, weight) for this thread's packs.
  template <class F>
  TMD_HOST_DEVICE void for_row(const Place& at, F f) const {
    const X* x = row_of<X>(c.x, at.block, c.width);
    const T* weight = static_cast<const T*>(c.weight);
    const Y* y_gradient = row_of<Y>(c.y_gradient, at.block, c.width);
    const Rotation<T, kN> rotation(c, at.block);
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      const Pack<T, kN> v = load<kN>(x + i, count), by = load<kN>(weight + i, count),
                        dy = rotation.turn(load<kN>(y_gradient + i, count), i, T{-1});
      f(i, count, v, dy, by);
    });
  }

  TMD_HOST_DEVICE T sum_of_products(const Place& at) const {
    T sum = 0;
    for_row(at, [&](int, int, const Pack<T, kN>& v, const Pack<T, kN>& dy, const Pack<T, kN>& by) {
      for (int j = 0; j < kN; ++j) sum += dy.at[j] * by.at[j] * v.at[j];
    });
    return sum;
  }

  TMD_HOST_DEVICE void finish_row(int64_t row, Shared& shared) const {
    T* product = static_cast<T*>(c.products) + row;
    if (sums) *product = total(shared.sums);
    if (!finishes) return;
    const T r = rms_factor<T>(c, row);
    shared.factor = r;
    shared.along_x = r * r * r * (*product / static_cast<T>(c.full_width));
  }

  TMD_HOST_DEVICE void write(const Place& at, T factor, T along_x) const {
    X* x_gradient = row_of<X>(c.x_gradient, at.block, c.width);
    for_row(at, [&](int i, int count, const Pack<T, kN>& v, const Pack<T, kN>& dy, const Pack<T, kN>& by) {
      Pack<T, kN> result;
      for (int j = 0; j < kN; ++j) result.at[j] = dy.at[j] * by.at[j] * factor - v.at[j] * along_x;
      store(x_gradient + i, result, count);
    });
  }
};

template <class X, class Y>
struct RmsColumns {
  using T = Compute<X>;
  static constexpr int kN = kPack<X, Y>, kSums = 1;

  RmsCall c;

  TMD_HOST_DEVICE void prepare(int64_t row, T (&numbers)[2]) const { numbers[0] = rms_factor<T>(c, row); }
  TMD_HOST_DEVICE void add(int64_t row, int i, int count, const T (&numbers)[2], Pack<T, kN>* sums) const {
    const Pack<T, kN> v = load<kN>(row_of<X>(c.x, row, c.width) + i, count);
    const Rotation<T, kN> rotation(c, row);
    const Pack<T, kN> dy =
        rotation.turn(load<kN>(row_of<Y>(c.y_gradient, row, c.width) + i, count), i, T{-1});
    for (int j = 0; j < kN; ++j) sums[0].at[j] += dy.at[j] * (v.at[j] * numbers[0]);
  }
};

void check_call(const RmsCall& call, int64_t rows) {
  check_rows(rows, call.width, call.tokens);
  if (!call.rotations) return;
  const bool is_whole = call.head_dim > 0 && call.head_dim % 2 == 0 && call.width % call.head_dim == 0;
  ensure(is_whole, "rotations are of pairs of channels, and a row of whole heads");
}

// Kernel<X, Y> is RmsForward or RmsBackward.
template <template <class, class> class Kernel>
void run_halves(const char* name, const RmsCall& call, int64_t rows, RmsHalves halves, Stream stream) {
  check_call(call, rows);
  with_types(call.x_type, call.y_type, [&](auto x, auto y) {
    using K = Kernel<decltype(x), decltype(y)>;
    launch(name, K{call, halves != RmsHalves::kFinish, halves != RmsHalves::kSum}, rows,
           threads_of_row<K::kN>(call.width), stream);
  });
}

}  // namespace

void rms_forward(const RmsCall& call, int64_t rows, RmsHalves halves, Stream stream) {
  run_halves<RmsForward>("rms_forward", call, rows, halves, stream);
}

void rms_backward(const RmsCall& call, int64_t rows, RmsHalves halves, Stream stream) {
  run_halves<RmsBackward>("rms_backward", call, rows, halves, stream);
}

void rms_weight_gradient(const RmsCall& call, int64_t rows, void* columns, Stream stream) {
  check_call(call, rows);
  with_types(call.x_type, call.y_type, [&](auto x, auto y) {
    sum_columns("rms_weight_gradient", RmsColumns<decltype(x), decltype(y)>{call}, rows, call.width,
                call.tokens, columns, stream);
  });
}

}  // namespace tmd::model::device
