#include "model/fused_device_kernels.h"
#include "model/fused_device_rows.cuh"

// Gated residual and GELU: nothing but elements; and the sum over pieces of tokens.

namespace tmd::model::device {
namespace {

template <class X, class B>
struct GateForward {
  using T = Compute<X>;
  using Shared = None;
  using State = None;
  static constexpr int kPhases = 1, kN = kPack<X, B>;

  GateCall c;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared&) const {
    const X* x = row_of<X>(c.x, at.block, c.width);
    const B* branch = row_of<B>(c.branch, at.block, c.width);
    X* y = row_of<X>(c.y, at.block, c.width);
    const T* gate = c.gate ? row_of<T>(c.gate, sample_of(at.block, c.tokens), c.sample_stride) : nullptr;
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      const Pack<T, kN> v = load<kN>(x + i, count);
      Pack<T, kN> b = load<kN>(branch + i, count);
      if (gate) {
        const Pack<T, kN> by = load<kN>(gate + i, count);
        for (int j = 0; j < kN; ++j) b.at[j] = b.at[j] * by.at[j];
      }
      for (int j = 0; j < kN; ++j) b.at[j] = v.at[j] + b.at[j];
      store(y + i, b, count);
    });
  }
};

template <class X, class B>
struct GateBackward {
  using T = Compute<X>;
  using Shared = None;
  using State = None;
  static constexpr int kPhases = 1, kN = kPack<X, B>;

  GateCall c;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared&) const {
    const X* y_gradient = row_of<X>(c.y_gradient, at.block, c.width);
    const T* gate = row_of<T>(c.gate, sample_of(at.block, c.tokens), c.sample_stride);
    B* branch_gradient = row_of<B>(c.branch_gradient, at.block, c.width);
    for_packs<kN>(at, static_cast<int>(c.width), [&](int i, int count) {
      Pack<T, kN> dy = load<kN>(y_gradient + i, count);
      const Pack<T, kN> by = load<kN>(gate + i, count);
      for (int j = 0; j < kN; ++j) dy.at[j] = dy.at[j] * by.at[j];
      store(branch_gradient + i, dy, count);
    });
  }
};

template <class X, class B>
struct GateColumns {
  using T = Compute<X>;
  static constexpr int kN = kPack<X, B>, kSums = 1;

  GateCall c;

  TMD_HOST_DEVICE void prepare(int64_t, T (&)[2]) const {}
  TMD_HOST_DEVICE void add(int64_t row, int i, int count, const T (&)[2], Pack<T, kN>* sums) const {
    const Pack<T, kN> dy = load<kN>(row_of<X>(c.y_gradient, row, c.width) + i, count),
                      b = load<kN>(row_of<B>(c.branch, row, c.width) + i, count);
    for (int j = 0; j < kN; ++j) sums[0].at[j] += dy.at[j] * b.at[j];
  }
};

// e^x to 2 units in the last place; x is cut to [-87, 87], where e^x is a normal number. NaN stays NaN.
// Operation for operation exp_of of base/vec.h.
TMD_HOST_DEVICE inline float exp_of(float x) {
  constexpr float kLimit = 87.0F, kMagic = 12582912.0F;
  x = x > kLimit ? kLimit : x;
  x = x < -kLimit ? -kLimit : x;
  const float shifted = x * 1.44269504F + kMagic;
  const float n = shifted - kMagic;
  const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  float p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  uint32_t bits = 0, magic_bits = 0;
  std::memcpy(&bits, &shifted, sizeof bits);
  std::memcpy(&magic_bits, &kMagic, sizeof magic_bits);
  const uint32_t power_bits = (bits - magic_bits + 127U) << 23;
  float power = 0;
  std::memcpy(&power, &power_bits, sizeof power);
  return p * power;
}

// gelu(x) = x s with s = 1 / (1 + e^-u), as in model/fused_kernels.cpp.
constexpr float kGelu = 1.5957691216F, kGeluCubic = 0.044715F;

TMD_HOST_DEVICE inline float gelu(float x) {
  const float u = x * (x * x * kGeluCubic + 1.0F) * -kGelu;
  return x / (exp_of(u) + 1.0F);
}

TMD_HOST_DEVICE inline float gelu_slope(float x) {
  const float cubic = x * x * kGeluCubic;
  const float e = exp_of(x * (cubic + 1.0F) * -kGelu);
  const float s = 1.0F / (e + 1.0F);
  return s + x * (s * (e * s)) * ((cubic * 3.0F + 1.0F) * kGelu);
}

constexpr int kFlatThreads = 256;

// With a gradient: the slope times it.
template <class X>
struct Gelu {
  using Shared = None;
  using State = None;
  static constexpr int kPhases = 1, kN = kPack<X>;

  const X *x, *gradient;
  X* result;
  FlatCut cut;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared&) const {
    const FlatPack<kN> pack(cut, at.block * at.threads + at.thread);
    if (pack.count == 0) return;
    Pack<float, kN> v = load<kN>(x + pack.begin, pack.count);
    if (gradient) {
      const Pack<float, kN> dy = load<kN>(gradient + pack.begin, pack.count);
      for (int j = 0; j < kN; ++j) v.at[j] = dy.at[j] * gelu_slope(v.at[j]);
    } else {
      for (int j = 0; j < kN; ++j) v.at[j] = gelu(v.at[j]);
    }
    store(result + pack.begin, v, pack.count);
  }
};

void run_gelu(const char* name, Element type, const void* x, const void* gradient, void* result, int64_t n,
              Stream stream) {
  ensure(type != Element::kDouble, "GELU takes float32 and bfloat16");
  const auto run = [&](auto of) {
    using X = decltype(of);
    const X* from = static_cast<const X*>(x);
    const FlatCut cut = cut_flat<kPack<X>>(from, n);
    launch(name, Gelu<X>{from, static_cast<const X*>(gradient), static_cast<X*>(result), cut},
           blocks_for(cut.packs, kFlatThreads), kFlatThreads, stream);
  };
  type == Element::kFloat ? run(float{}) : run(Bfloat16{});
}

// A block has 32 columns of one total; each of its 8 rows of threads adds an eighth of the parts, in order.
template <class T>
struct SumRows {
  static constexpr int kColumns = 32, kEighths = 8;
  struct Shared {
    T sums[kEighths][kColumns];
  };
  using State = None;
  static constexpr int kPhases = 2;

  const T* part;
  int64_t count, width, blocks_per_total;
  T* total;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& shared) const {
    const int column = at.thread % kColumns, eighth = at.thread / kColumns;
    const int64_t number = at.block / blocks_per_total;
    const int64_t i = at.block % blocks_per_total * kColumns + column;
    if (i >= width) return;
    if constexpr (phase == 0) {
      const T* first = part + number * count * width + i;
      T sum = 0;
      for (int64_t k = count * eighth / kEighths; k < count * (eighth + 1) / kEighths; ++k)
        sum += first[k * width];
      shared.sums[eighth][column] = sum;
    } else if (eighth == 0) {
      T sum = 0;
      for (int k = 0; k < kEighths; ++k) sum += shared.sums[k][column];
      total[number * width + i] = sum;
    }
  }
};

}  // namespace

void gate_forward(const GateCall& call, int64_t rows, Stream stream) {
  check_rows(rows, call.width, call.tokens);
  with_types(call.x_type, call.branch_type, [&](auto x, auto branch) {
    using Kernel = GateForward<decltype(x), decltype(branch)>;
    launch("gate_forward", Kernel{call}, rows, threads_of_row<Kernel::kN>(call.width), stream);
  });
}

void gate_backward(const GateCall& call, int64_t rows, void* columns, Stream stream) {
  check_rows(rows, call.width, call.tokens);
  ensure(call.gate || rows == 0, "the gradients of a sum without a gate need no kernel");
  with_types(call.x_type, call.branch_type, [&](auto x, auto branch) {
    using Kernel = GateBackward<decltype(x), decltype(branch)>;
    if (call.branch_gradient)
      launch("gate_backward", Kernel{call}, rows, threads_of_row<Kernel::kN>(call.width), stream);
    if (columns)
      sum_columns("gate_backward: columns", GateColumns<decltype(x), decltype(branch)>{call}, rows,
                  call.width, call.tokens, columns, stream);
  });
}

void gelu_forward(Element type, const void* x, void* y, int64_t n, Stream stream) {
  run_gelu("gelu_forward", type, x, nullptr, y, n, stream);
}

void gelu_backward(Element type, const void* x, const void* gradient, void* x_gradient, int64_t n,
                   Stream stream) {
  ensure(gradient || n == 0, "a gradient is given");
  run_gelu("gelu_backward", type, x, gradient, x_gradient, n, stream);
}

void sum_rows(Element type, const void* part, int64_t totals, int64_t count, int64_t width, void* total,
              Stream stream) {
  ensure(type != Element::kBfloat16, "sums are float32 or float64");
  const auto run = [&](auto of) {
    using T = decltype(of);
    using Kernel = SumRows<T>;
    const int64_t blocks_per_total = blocks_for(width, Kernel::kColumns);
    launch("sum_rows",
           Kernel{static_cast<const T*>(part), count, width, blocks_per_total, static_cast<T*>(total)},
           totals * blocks_per_total, Kernel::kColumns * Kernel::kEighths, stream);
  };
  type == Element::kDouble ? run(double{}) : run(float{});
}

}  // namespace tmd::model::device
