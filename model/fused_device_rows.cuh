#pragma once

#include "base/device_launch.cuh"
#include "base/device_pack.h"
#include "base/device_sum.h"
#include "model/fused_device_kernels.h"

// What the kernels over rows of tokens have in common; included by model/fused_device_*.cu alone.

namespace tmd::model::device {

using namespace tmd::device;

/// f(X{}, Y{}) with the C++ types of two elements; double meets double only.
template <class F>
void with_types(Element x, Element y, F f) {
  ensure((x == Element::kDouble) == (y == Element::kDouble), "float64 does not mix with others");
  if (x == Element::kDouble) return f(double{}, double{});
  if (x == Element::kFloat) return y == Element::kFloat ? f(float{}, float{}) : f(float{}, Bfloat16{});
  return y == Element::kFloat ? f(Bfloat16{}, float{}) : f(Bfloat16{}, Bfloat16{});
}

template <class X>
TMD_HOST_DEVICE inline const X* row_of(const void* begin, int64_t row, int64_t width) {
  return static_cast<const X*>(begin) + row * width;
}
template <class X>
TMD_HOST_DEVICE inline X* row_of(void* begin, int64_t row, int64_t width) {
  return static_cast<X*>(begin) + row * width;
}

/// Refuses what kernels over rows cannot count: they number channels in int, and rows and tokens in 32 bits.
inline void check_rows(int64_t rows, int64_t width, int64_t tokens) {
  ensure(width > 0 && width < 1 << 30, "a row has 1 to 2^30 channels");
  ensure(rows >= 0 && rows <= INT32_MAX, "there are at most 2^31 rows");
  ensure(rows == 0 || (tokens > 0 && rows % tokens == 0), "rows are whole samples");
}

/// Sample of a row, and its token there; in 32 bits, since a device divides 64 in software.
TMD_HOST_DEVICE inline int64_t sample_of(int64_t row, int64_t tokens) {
  return static_cast<uint32_t>(row) / static_cast<uint32_t>(tokens);
}
TMD_HOST_DEVICE inline int64_t token_of(int64_t row, int64_t tokens) {
  return static_cast<uint32_t>(row) % static_cast<uint32_t>(tokens);
}

/// Threads of a block that has one row of `width` channels, in packs of N: a few packs each.
template <int N>
int threads_of_row(int64_t width) {
  const int64_t packs = blocks_for(width, N);
  if (packs <= 64) return 64;
  return packs <= 768 ? 128 : 256;
}

/// Calls f(i, count) for the packs of N of a row that are this thread's: `count` channels from i on are left.
template <int N, class F>
TMD_HOST_DEVICE inline void for_packs(const Place& at, int width, F f) {
  for (int i = at.thread * N; i < width; i += at.threads * N) f(i, width - i);
}

/// Sums over the tokens of a piece, a column a sum. Term is a struct with
///   using T = ...;                     // the type of compute
///   static constexpr int kN, kSums;    // columns of a pack; sums of a column, one `width` apart
///   void prepare(row, T (&numbers)[2]) const;             // what all channels of a row share
///   void add(row, i, count, numbers, Pack<T, kN>* sums) const;  // a row's part for channels i ...
template <class Term>
struct ColumnSums {
  using T = typename Term::T;
  static constexpr int kPhases = 2, kN = Term::kN, kSums = Term::kSums;
  struct Shared {
    T numbers[kPieceTokens][2];
  };
  using State = None;

  Term term;
  int width;
  int64_t tokens, pieces_per_sample, blocks_per_piece;
  T* columns;

  template <int phase>
  TMD_HOST_DEVICE void run(const Place& at, State&, Shared& shared) const {
    const int64_t piece = at.block / blocks_per_piece, sample = piece / pieces_per_sample;
    const int64_t first = piece % pieces_per_sample * kPieceTokens;
    const int count = static_cast<int>(tokens - first < kPieceTokens ? tokens - first : kPieceTokens);
    const int64_t row = sample * tokens + first;
    if constexpr (phase == 0) {
      for (int k = at.thread; k < count; k += at.threads) term.prepare(row + k, shared.numbers[k]);
    } else {
      const int64_t pack = at.block % blocks_per_piece * at.threads + at.thread;
      if (pack * kN >= width) return;
      const int i = static_cast<int>(pack) * kN;
      Pack<T, kN> sums[kSums] = {};
      for (int k = 0; k < count; ++k) term.add(row + k, i, width - i, shared.numbers[k], sums);
      for (int s = 0; s < kSums; ++s) store(columns + (piece * kSums + s) * width + i, sums[s], width - i);
    }
  }
};

template <class Term>
void sum_columns(const char* name, const Term& term, int64_t rows, int64_t width, int64_t tokens,
                 void* columns, Stream stream) {
  constexpr int kThreads = 128;
  if (rows == 0) return;
  const int64_t blocks_per_piece = blocks_for(width, kThreads * Term::kN);
  const int64_t pieces = pieces_of(rows / tokens, tokens);
  launch(name,
         ColumnSums<Term>{term, static_cast<int>(width), tokens, blocks_for(tokens, kPieceTokens),
                          blocks_per_piece, static_cast<typename Term::T*>(columns)},
         pieces * blocks_per_piece, kThreads, stream);
}

}  // namespace tmd::model::device
