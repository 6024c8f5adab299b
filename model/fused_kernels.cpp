// Compiled once for each instruction set (cmake/Targets.cmake, tmd_kernels): see base/vec.h before including
// more.
#include "model/fused_kernels.h"

#include "base/vec.h"

namespace tmd::model::TMD_KERNELS {

using namespace tmd::TMD_KERNELS;

namespace {

// f(X{}, Y{}) with the C++ types of two elements; double meets double only.
template <class F>
void with_types(Element x, Element y, F f) {
  if (x == Element::kDouble) return f(double{}, double{});
  if (x == Element::kFloat) return y == Element::kFloat ? f(float{}, float{}) : f(float{}, Bfloat16{});
  return y == Element::kFloat ? f(Bfloat16{}, float{}) : f(Bfloat16{}, Bfloat16{});
}

template <class X>
const X* row_of(const void* begin, int64_t row, int64_t width) {
  return static_cast<const X*>(begin) + row * width;
}
template <class X>
X* row_of(void* begin, int64_t row, int64_t width) {
  return static_cast<X*>(begin) + row * width;
}

template <class T>
TMD_INLINE void add_to(T* sums, Vec<T> v, auto part) {
  store(sums, load(sums, part) + v, part);
}

template <class T>
void clear(T* columns, int64_t n) {
  for (int64_t i = 0; columns && i < n; ++i) columns[i] = 0;
}

template <class X, class Y>
void norm_row(const NormCall& c, int64_t row) {
  using T = Compute<X>;
  const X* x = row_of<X>(c.x, row, c.width);
  Y* y = row_of<Y>(c.y, row, c.width);
  const T* scale = row_of<T>(c.scale, row / c.tokens, c.sample_stride);
  const T* shift = row_of<T>(c.shift, row / c.tokens, c.sample_stride);
  const T width = static_cast<T>(c.width), one = static_cast<T>(c.one);
  Vec<T> sum{}, squares{};
  for_lanes<T>(c.width, [&](int64_t i, auto part) { sum += load(x + i, part); });
  const T mean = sum_of(sum) / width;
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> d = keep(load(x + i, part) - mean, part);
    squares += d * d;
  });
  const T deviation =
      static_cast<T>(1 / __builtin_sqrt(static_cast<double>(sum_of(squares) / width) + c.epsilon));
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> normed = (load(x + i, part) - mean) * deviation;
    store(y + i, normed * (load(scale + i, part) + one) + load(shift + i, part), part);
  });
  static_cast<T*>(c.mean)[row] = mean;
  static_cast<T*>(c.deviation)[row] = deviation;
}

template <class X, class Y>
void norm_backward_row(const NormCall& c, int64_t row, Compute<X>* scale_sums, Compute<X>* shift_sums) {
  using T = Compute<X>;
  const X* x = row_of<X>(c.x, row, c.width);
  const Y* y_gradient = row_of<Y>(c.y_gradient, row, c.width);
  const T* scale = row_of<T>(c.scale, row / c.tokens, c.sample_stride);
  const T width = static_cast<T>(c.width), one = static_cast<T>(c.one);
  const T mean = static_cast<const T*>(c.mean)[row], deviation = static_cast<const T*>(c.deviation)[row];
  Vec<T> sum{}, products{};
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> dy = load(y_gradient + i, part);
    const Vec<T> normed = (load(x + i, part) - mean) * deviation;
    const Vec<T> g = dy * (load(scale + i, part) + one);
    sum += g;
    products += g * normed;
    if (!scale_sums) return;
    add_to(scale_sums + i, dy * normed, part);
    add_to(shift_sums + i, dy, part);
  });
  if (!c.x_gradient) return;
  X* x_gradient = row_of<X>(c.x_gradient, row, c.width);
  const T mean_g = sum_of(sum) / width, mean_product = sum_of(products) / width;
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> normed = (load(x + i, part) - mean) * deviation;
    const Vec<T> g = load(y_gradient + i, part) * (load(scale + i, part) + one);
    store(x_gradient + i, (g - mean_g - normed * mean_product) * deviation, part);
  });
}

// Cosines and sines of one token's pairs, to be read a vector at a time along all heads.
template <class T>
class Rotation {
 public:
  Rotation(const RmsCall& c, int64_t row) : head_dim_(c.head_dim) {
    table_ = row_of<T>(c.rotations, row % c.tokens, head_dim_);
    if (head_dim_ % kLanes<T> == 0) return;
    for (int64_t i = 0; i < head_dim_ + kLanes<T>; ++i) repeated_[i] = table_[i % head_dim_];
    table_ = repeated_;
  }
  // The next vector of channels turned by the angles of its pairs; `sign` -1 turns back.
  TMD_INLINE Vec<T> turn_next(Vec<T> v, T sign) {
    const Vec<T> angles = load(table_ + at_, All{});
    for (at_ += kLanes<T>; at_ >= head_dim_;) at_ -= head_dim_;
    return v * even_lanes_twice(angles) + pairs_swapped(v) * (odd_lanes_twice(angles) * alternating(sign));
  }

 private:
  int64_t head_dim_, at_ = 0;
  const T* table_;
  T repeated_[kMaxHeadDim + kLanes<T>];
};

struct NoRotation {
  NoRotation(const RmsCall&, int64_t) {}
  template <class V>
  TMD_INLINE V turn_next(V v, auto) {
    return v;
  }
};

template <class T>
T rms_factor(const RmsCall& c, int64_t row) {
  const double mean = static_cast<double>(static_cast<const T*>(c.sums)[row]) / c.full_width;
  return static_cast<T>(1 / __builtin_sqrt(mean + c.epsilon));
}

template <class X>
void rms_sum_row(const RmsCall& c, int64_t row) {
  using T = Compute<X>;
  const X* x = row_of<X>(c.x, row, c.width);
  Vec<T> sum{};
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> v = load(x + i, part);
    sum += v * v;
  });
  static_cast<T*>(c.sums)[row] = sum_of(sum);
}

template <bool Rounds, class V>
TMD_INLINE V maybe_rounded(V v) {
  if constexpr (Rounds) {
    return round_to_bfloat16(v);
  } else {
    return v;
  }
}

template <class X, class Y, bool Rounds, class Turn>
void rms_row(const RmsCall& c, int64_t row) {
  using T = Compute<X>;
  const X* x = row_of<X>(c.x, row, c.width);
  const T* weight = static_cast<const T*>(c.weight);
  Y* y = row_of<Y>(c.y, row, c.width);
  const T r = rms_factor<T>(c, row);
  Turn turn(c, row);
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> normed = maybe_rounded<Rounds>(load(x + i, part) * r);
    const Vec<T> weighted = maybe_rounded<Rounds>(normed * load(weight + i, part));
    store(y + i, turn.turn_next(weighted, T{1}), part);
  });
}

template <class X, class Y, class Turn>
void rms_product_row(const RmsCall& c, int64_t row) {
  using T = Compute<X>;
  const X* x = row_of<X>(c.x, row, c.width);
  const T* weight = static_cast<const T*>(c.weight);
  const Y* y_gradient = row_of<Y>(c.y_gradient, row, c.width);
  Turn turn(c, row);
  Vec<T> sum{};
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> g = turn.turn_next(load(y_gradient + i, part), T{-1}) * load(weight + i, part);
    sum += g * load(x + i, part);
  });
  static_cast<T*>(c.products)[row] = sum_of(sum);
}

template <class X, class Y, class Turn>
void rms_backward_row(const RmsCall& c, int64_t row, Compute<X>* weight_sums) {
  using T = Compute<X>;
  const X* x = row_of<X>(c.x, row, c.width);
  const T* weight = static_cast<const T*>(c.weight);
  const Y* y_gradient = row_of<Y>(c.y_gradient, row, c.width);
  X* x_gradient = c.x_gradient ? row_of<X>(c.x_gradient, row, c.width) : nullptr;
  const T r = rms_factor<T>(c, row);
  const T product = c.products ? static_cast<const T*>(c.products)[row] : T{0};
  const T along_x = r * r * r * (product / static_cast<T>(c.full_width));
  Turn turn(c, row);
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> v = load(x + i, part);
    const Vec<T> dy = turn.turn_next(load(y_gradient + i, part), T{-1});
    if (weight_sums) add_to(weight_sums + i, dy * (v * r), part);
    if (x_gradient) store(x_gradient + i, dy * load(weight + i, part) * r - v * along_x, part);
  });
}

template <class X, class B>
void gate_row(const GateCall& c, int64_t row) {
  using T = Compute<X>;
  const X* x = row_of<X>(c.x, row, c.width);
  const B* branch = row_of<B>(c.branch, row, c.width);
  X* y = row_of<X>(c.y, row, c.width);
  const T* gate = c.gate ? row_of<T>(c.gate, row / c.tokens, c.sample_stride) : nullptr;
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> b = load(branch + i, part);
    store(y + i, load(x + i, part) + (gate ? b * load(gate + i, part) : b), part);
  });
}

template <class X, class B>
void gate_backward_row(const GateCall& c, int64_t row, Compute<X>* gate_sums) {
  using T = Compute<X>;
  const X* y_gradient = row_of<X>(c.y_gradient, row, c.width);
  const B* branch = row_of<B>(c.branch, row, c.width);
  const T* gate = row_of<T>(c.gate, row / c.tokens, c.sample_stride);
  B* branch_gradient = c.branch_gradient ? row_of<B>(c.branch_gradient, row, c.width) : nullptr;
  for_lanes<T>(c.width, [&](int64_t i, auto part) {
    const Vec<T> dy = load(y_gradient + i, part);
    if (gate_sums) add_to(gate_sums + i, dy * load(branch + i, part), part);
    if (branch_gradient) store(branch_gradient + i, dy * load(gate + i, part), part);
  });
}

// gelu(x) = x s with s = 1 / (1 + e^-u), u = 2 sqrt(2 / pi) (x + 0.044715 x^3): the tanh form without its
// cancellation where tanh is near -1.
constexpr float kGelu = 1.5957691216F, kGeluCubic = 0.044715F;

template <class X>
void gelu_elements(const X* x, X* y, int64_t n) {
  for_lanes<float>(n, [&](int64_t i, auto part) {
    const Vec<float> v = load(x + i, part);
    const Vec<float> u = v * (v * v * kGeluCubic + 1.0F) * -kGelu;
    store(y + i, v / (exp_of(u) + 1.0F), part);
  });
}

template <class X>
void gelu_gradients(const X* x, const X* gradient, X* x_gradient, int64_t n) {
  for_lanes<float>(n, [&](int64_t i, auto part) {
    const Vec<float> v = load(x + i, part);
    const Vec<float> cubic = v * v * kGeluCubic;
    const Vec<float> e = exp_of(v * (cubic + 1.0F) * -kGelu);
    const Vec<float> s = all(1.0F) / (e + 1.0F);
    const Vec<float> slope = s + v * (s * (e * s)) * ((cubic * 3.0F + 1.0F) * kGelu);
    store(x_gradient + i, load(gradient + i, part) * slope, part);
  });
}

void norm_forward(const NormCall& c, int64_t begin, int64_t end) {
  with_types(c.x_type, c.y_type, [&](auto x, auto y) {
    for (int64_t row = begin; row < end; ++row) norm_row<decltype(x), decltype(y)>(c, row);
  });
}

void norm_backward(const NormCall& c, int64_t begin, int64_t end, void* columns) {
  with_types(c.x_type, c.y_type, [&](auto x, auto y) {
    auto* scale_sums = static_cast<Compute<decltype(x)>*>(columns);
    auto* shift_sums = scale_sums ? scale_sums + c.width : nullptr;
    clear(scale_sums, 2 * c.width);
    for (int64_t row = begin; row < end; ++row) {
      norm_backward_row<decltype(x), decltype(y)>(c, row, scale_sums, shift_sums);
    }
  });
}

void rms_sums(const RmsCall& c, int64_t begin, int64_t end) {
  with_types(c.x_type, c.x_type, [&](auto x, auto) {
    for (int64_t row = begin; row < end; ++row) rms_sum_row<decltype(x)>(c, row);
  });
}

template <class X, class Y, bool Rounds>
void rms_rows(const RmsCall& c, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    c.rotations ? rms_row<X, Y, Rounds, Rotation<Compute<X>>>(c, row)
                : rms_row<X, Y, Rounds, NoRotation>(c, row);
  }
}

void rms_forward(const RmsCall& c, int64_t begin, int64_t end) {
  with_types(c.x_type, c.y_type, [&](auto x, auto y) {
    using X = decltype(x);
    using Y = decltype(y);
    if constexpr (sizeof(Compute<X>) == sizeof(float)) {
      if (c.rounds) return rms_rows<X, Y, true>(c, begin, end);
    }
    rms_rows<X, Y, false>(c, begin, end);
  });
}

void rms_products(const RmsCall& c, int64_t begin, int64_t end) {
  with_types(c.x_type, c.y_type, [&](auto x, auto y) {
    using X = decltype(x);
    using Y = decltype(y);
    for (int64_t row = begin; row < end; ++row) {
      c.rotations ? rms_product_row<X, Y, Rotation<Compute<X>>>(c, row)
                  : rms_product_row<X, Y, NoRotation>(c, row);
    }
  });
}

void rms_backward(const RmsCall& c, int64_t begin, int64_t end, void* columns) {
  with_types(c.x_type, c.y_type, [&](auto x, auto y) {
    using X = decltype(x);
    using Y = decltype(y);
    auto* sums = static_cast<Compute<X>*>(columns);
    clear(sums, c.width);
    for (int64_t row = begin; row < end; ++row) {
      c.rotations ? rms_backward_row<X, Y, Rotation<Compute<X>>>(c, row, sums)
                  : rms_backward_row<X, Y, NoRotation>(c, row, sums);
    }
  });
}

void gate_forward(const GateCall& c, int64_t begin, int64_t end) {
  with_types(c.x_type, c.branch_type, [&](auto x, auto branch) {
    for (int64_t row = begin; row < end; ++row) gate_row<decltype(x), decltype(branch)>(c, row);
  });
}

void gate_backward(const GateCall& c, int64_t begin, int64_t end, void* columns) {
  with_types(c.x_type, c.branch_type, [&](auto x, auto branch) {
    auto* sums = static_cast<Compute<decltype(x)>*>(columns);
    clear(sums, c.width);
    for (int64_t row = begin; row < end; ++row) {
      gate_backward_row<decltype(x), decltype(branch)>(c, row, sums);
    }
  });
}

void gelu_forward(Element type, const void* x, void* y, int64_t begin, int64_t end) {
  if (type == Element::kFloat) {
    gelu_elements(row_of<float>(x, begin, 1), row_of<float>(y, begin, 1), end - begin);
  } else {
    gelu_elements(row_of<Bfloat16>(x, begin, 1), row_of<Bfloat16>(y, begin, 1), end - begin);
  }
}

void gelu_backward(Element type, const void* x, const void* gradient, void* x_gradient, int64_t begin,
                   int64_t end) {
  const auto run = [&](auto of) {
    using X = decltype(of);
    gelu_gradients(row_of<X>(x, begin, 1), row_of<X>(gradient, begin, 1), row_of<X>(x_gradient, begin, 1),
                   end - begin);
  };
  type == Element::kFloat ? run(float{}) : run(Bfloat16{});
}

template <class T>
void sum_columns(const T* part, int64_t count, int64_t stride, T* total, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) total[i] = 0;
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t i = begin; i < end; ++i) total[i] += part[row * stride + i];
  }
}

void sum_rows(Element type, const void* part, int64_t count, int64_t stride, void* total, int64_t begin,
              int64_t end) {
  const auto run = [&](auto of) {
    using T = decltype(of);
    sum_columns(static_cast<const T*>(part), count, stride, static_cast<T*>(total), begin, end);
  };
  type == Element::kDouble ? run(double{}) : run(float{});
}

}  // namespace

const FusedKernels kFusedKernels = {norm_forward, norm_backward, rms_sums,     rms_forward,
                                    rms_products, rms_backward,  gate_forward, gate_backward,
                                    gelu_forward, gelu_backward, sum_rows};

}  // namespace tmd::model::TMD_KERNELS
