#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/unique_handle.h"

struct XXH3_state_s;

namespace tmd {

void release_xxh3_state(XXH3_state_s* state) noexcept;

/// XXH3-64 of a byte stream that arrives in pieces; the result does not depend on where the pieces end.
/// Thread: one at a time.
class Xxh3 {
 public:
  /// Throws kInternal when no memory is left.
  Xxh3();
  Xxh3& update(std::span<const std::byte> bytes);
  Xxh3& update(std::string_view text);
  /// Hash of everything so far, as xxh3_64 of it in one block; more may follow.
  uint64_t digest() const;

 private:
  UniqueHandle<XXH3_state_s*, nullptr, &release_xxh3_state> state_;
};

/// XXH3-64 (seed 0) of one block. Thread: any.
uint64_t xxh3_64(std::span<const std::byte> bytes);
uint64_t xxh3_64(std::string_view text);

}  // namespace tmd
