#pragma once

#include "model/plain_ops.h"

namespace tmd::test {

// What the fused operations are held against.
using model::plain::add_gated;
using model::plain::apply_rope;
using model::plain::modulated_norm;
using model::plain::rms_norm;

}  // namespace tmd::test
