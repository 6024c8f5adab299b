#include <algorithm>
#include <cmath>

#include "base/device_launch.cuh"
#include "base/device_pack.h"
#include "base/device_sum.h"
#include "sharding/device_kernels.h"

namespace tmd::sharding::device {
namespace {

using namespace tmd::device;

constexpr int kThreads = 256;

// AdamWFactors in the type of compute.
template <class T>
struct AdamWNumbers {
  T gradient_scale, beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, decay, step_size, second_scale,
      average_decay, one_minus_average;
};

template <class T>
AdamWNumbers<T> numbers_of(const AdamWFactors& f) {
  return {static_cast<T>(f.gradient_scale),
          static_cast<T>(f.beta1),
          static_cast<T>(1 - f.beta1),
          static_cast<T>(f.beta2),
          static_cast<T>(1 - f.beta2),
          static_cast<T>(f.epsilon),
          static_cast<T>(f.decay),
          static_cast<T>(f.step_size),
          static_cast<T>(f.second_scale),
          static_cast<T>(f.average_decay),
          static_cast<T>(1 - f.average_decay)};
}

// One element's weight and moments after the step; operation for operation that of
// sharding/adamw_kernels.cpp.
template <class T>
TMD_HOST_DEVICE inline void step_element(T& weight, T& first, T& second, T gradient,
                                         const AdamWNumbers<T>& f) {
  const T g = gradient * f.gradient_scale;
  first = f.beta1 * first + f.one_minus_beta1 * g;
  second = f.beta2 * second + f.one_minus_beta2 * g * g;
  weight = weight * f.decay - f.step_size * first / (std::sqrt(second) * f.second_scale + f.epsilon);
}

template <class T>
struct AdamWPart {
  T *weight, *first, *second, *average;
  const T* gradient;
  Bfloat16* copy;
  FlatCut cut;
  int64_t end_block;  // of the launch, behind this segment
  AdamWNumbers<T> numbers;
};

// Blocks are dealt to the segments in order; a thread steps one pack.
template <class T>
struct AdamWStep {
  using Shared = None;
  using State = None;
  static constexpr int kPhases = 1, kSegments = 16, kN = kPack<T>;

  AdamWPart<T> parts[kSegments];

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared&) const {
    int which = 0;
    while (at.block >= parts[which].end_block) ++which;
    const AdamWPart<T>& part = parts[which];
    const int64_t first_block = which == 0 ? 0 : parts[which - 1].end_block;
    step(part, FlatPack<kN>(part.cut, (at.block - first_block) * at.threads + at.thread));
  }

  TMD_HOST_DEVICE static void step(const AdamWPart<T>& part, const FlatPack<kN>& pack) {
    if (pack.count == 0) return;
    const int64_t i = pack.begin;
    Pack<T, kN> weight = load<kN>(part.weight + i, pack.count), first = load<kN>(part.first + i, pack.count),
                second = load<kN>(part.second + i, pack.count);
    const Pack<T, kN> gradient = load<kN>(part.gradient + i, pack.count);
    for (int j = 0; j < kN; ++j)
      step_element(weight.at[j], first.at[j], second.at[j], gradient.at[j], part.numbers);
    store(part.weight + i, weight, pack.count);
    store(part.first + i, first, pack.count);
    store(part.second + i, second, pack.count);
    if (part.average) {
      Pack<T, kN> average = load<kN>(part.average + i, pack.count);
      for (int j = 0; j < kN; ++j)
        average.at[j] =
            part.numbers.average_decay * average.at[j] + part.numbers.one_minus_average * weight.at[j];
      store(part.average + i, average, pack.count);
    }
    if (part.copy) {
      Pack<float, kN> copy;
      for (int j = 0; j < kN; ++j) copy.at[j] = static_cast<float>(weight.at[j]);
      store(part.copy + i, copy, pack.count);
    }
  }
};

template <class T>
AdamWPart<T> part_of(const AdamWSegment& s, int64_t first_block) {
  T* weight = static_cast<T*>(s.range.weight);
  const FlatCut cut = cut_flat<kPack<T>>(weight, s.range.n);
  return {weight,
          static_cast<T*>(s.range.first),
          static_cast<T*>(s.range.second),
          static_cast<T*>(s.range.average),
          static_cast<const T*>(s.range.gradient),
          s.range.copy,
          cut,
          first_block + blocks_for(cut.packs, kThreads),
          numbers_of<T>(s.factors)};
}

template <class T>
void step_segments(const AdamWSegment* segments, int64_t count, Stream stream) {
  using Step = AdamWStep<T>;
  for (int64_t begin = 0; begin < count; begin += Step::kSegments) {
    Step step = {};
    int64_t blocks = 0;
    const int64_t n = std::min<int64_t>(count - begin, Step::kSegments);
    for (int64_t i = 0; i < n; ++i) {
      step.parts[i] = part_of<T>(segments[begin + i], blocks);
      blocks = step.parts[i].end_block;
    }
    launch("adamw_step", step, blocks, kThreads, stream);
  }
}

// A block sums its share of the squares.
template <class T>
struct SumOfSquares {
  using Shared = BlockSums<double>;
  using State = None;
  static constexpr int kPhases = 3, kN = kPack<T>;

  const T* x;
  int64_t n;
  double* partials;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& sums) const {
    if constexpr (phase == 0) {
      const int64_t begin = at.block * kSquaresPerPartial;
      const T* share = x + begin;
      const int count = static_cast<int>(n - begin < kSquaresPerPartial ? n - begin : kSquaresPerPartial);
      double sum = 0;
      for (int i = at.thread * kN; i < count; i += at.threads * kN) {
        const Pack<T, kN> pack = load<kN>(share + i, count - i);
        for (int j = 0; j < kN; ++j) {
          const double value = static_cast<double>(pack.at[j]);
          sum += value * value;
        }
      }
      sums.part[0][at.thread] = sum;
    } else if constexpr (phase == 1) {
      fold(at, sums);
    } else if (at.thread == 0) {
      partials[at.block] = total(sums);
    }
  }
};

struct Sum {
  using Shared = BlockSums<double>;
  using State = None;
  static constexpr int kPhases = 3;

  const double* x;
  int64_t n;
  double* result;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& sums) const {
    if constexpr (phase == 0) {
      double sum = 0;
      for (int64_t i = at.thread; i < n; i += at.threads) sum += x[i];
      sums.part[0][at.thread] = sum;
    } else if constexpr (phase == 1) {
      fold(at, sums);
    } else if (at.thread == 0) {
      *result = total(sums);
    }
  }
};

// target = values, or target + values; the wider type has 8 elements a pack, in two pieces.
template <class To, class From, bool Adds>
struct Cast {
  using Shared = None;
  using State = None;
  static constexpr int kPhases = 1, kN = kPack<To, From>;

  To* to;
  const From* from;
  FlatCut cut;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared&) const {
    const FlatPack<kN> pack(cut, at.block * at.threads + at.thread);
    if (pack.count == 0) return;
    Pack<float, kN> values = load<kN>(from + pack.begin, pack.count);
    if constexpr (Adds) {
      const Pack<float, kN> target = load<kN>(to + pack.begin, pack.count);
      for (int j = 0; j < kN; ++j) values.at[j] = target.at[j] + values.at[j];
    }
    store(to + pack.begin, values, pack.count);
  }
};

// `narrow` is the one of the two whose alignment decides.
template <bool Adds = false, class To, class From>
void cast_flat(const char* name, const From* from, To* to, const Bfloat16* narrow, int64_t n, Stream stream) {
  const FlatCut cut = cut_flat<kPack<Bfloat16>>(narrow, n);
  launch(name, Cast<To, From, Adds>{to, from, cut}, blocks_for(cut.packs, kThreads), kThreads, stream);
}

}  // namespace

void adamw_step(const AdamWSegment* segments, int64_t count, Stream stream) {
  if (count == 0) return;
  const bool is_double = segments[0].range.is_double;
  for (int64_t i = 1; i < count; ++i)
    ensure(segments[i].range.is_double == is_double, "segments of one step have one type");
  is_double ? step_segments<double>(segments, count, stream) : step_segments<float>(segments, count, stream);
}

void sum_of_squares(bool is_double, const void* x, int64_t n, double* partials, Stream stream) {
  const auto run = [&](auto* elements) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(elements)>>;
    launch("sum_of_squares", SumOfSquares<T>{elements, n, partials}, square_partials(n), kThreads, stream);
  };
  is_double ? run(static_cast<const double*>(x)) : run(static_cast<const float*>(x));
}

void sum(const double* x, int64_t n, double* total, Stream stream) {
  launch("sum", Sum{x, n, total}, 1, kThreads, stream);
}

void cast(const float* from, Bfloat16* to, int64_t n, Stream stream) {
  cast_flat("cast to bfloat16", from, to, to, n, stream);
}

void cast(const Bfloat16* from, float* to, int64_t n, Stream stream) {
  cast_flat("cast to float32", from, to, from, n, stream);
}

void add_cast(float* target, const Bfloat16* values, int64_t n, Stream stream) {
  cast_flat<true>("add_cast", values, target, values, n, stream);
}

}  // namespace tmd::sharding::device
