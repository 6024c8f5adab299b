#pragma once

#include <cstdint>

namespace tmd {

/// The bits of a bfloat16.
struct Bfloat16 {
  uint16_t bits;
};

}  // namespace tmd
