#include "base/hash.h"

#include <xxhash.h>

#include "base/error.h"

namespace tmd {

void release_xxh3_state(XXH3_state_s* state) noexcept { XXH3_freeState(state); }

Xxh3::Xxh3() : state_(XXH3_createState()) {
  ensure(state_.is_valid() && XXH3_64bits_reset(state_.get()) == XXH_OK, "an XXH3 state can be allocated");
}

Xxh3& Xxh3::update(std::span<const std::byte> bytes) {
  ensure(XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()) == XXH_OK, "XXH3 takes any block");
  return *this;
}

Xxh3& Xxh3::update(std::string_view text) { return update(std::as_bytes(std::span(text))); }

uint64_t Xxh3::digest() const { return XXH3_64bits_digest(state_.get()); }

uint64_t xxh3_64(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t xxh3_64(std::string_view text) { return xxh3_64(std::as_bytes(std::span(text))); }

}  // namespace tmd
