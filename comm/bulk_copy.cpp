#include "comm/bulk_copy.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace tmd::comm {
namespace {

constexpr size_t kLine = 64;

#ifdef __SSE2__
// `to` begins a cache line, and `bytes` is a multiple of one. Complete for every reader afterwards.
void copy_past_caches(std::byte* to, const std::byte* from, size_t bytes) {
  for (size_t offset = 0; offset < bytes; offset += kLine) {
    const auto* source = reinterpret_cast<const __m128i*>(from + offset);
    auto* target = reinterpret_cast<__m128i*>(to + offset);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  _mm_sfence();
}
#else
void copy_past_caches(std::byte* to, const std::byte* from, size_t bytes) { std::memcpy(to, from, bytes); }
#endif

}  // namespace

void bulk_copy(std::byte* to, const std::byte* from, size_t bytes, size_t whole_bytes) {
  if (whole_bytes < kBulkBytes) {
    std::memcpy(to, from, bytes);
    return;
  }
  const size_t misaligned = reinterpret_cast<uintptr_t>(to) % kLine;
  const size_t head = std::min(bytes, misaligned == 0 ? 0 : kLine - misaligned);
  const size_t body = (bytes - head) / kLine * kLine;
  std::memcpy(to, from, head);
  copy_past_caches(to + head, from + head, body);
  std::memcpy(to + head + body, from + head + body, bytes - head - body);
}

}  // namespace tmd::comm
