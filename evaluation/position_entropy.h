#pragma once

#include <optional>
#include <span>

#include "data/toy_shapes.h"
#include "evaluation/shape_rules.h"

namespace tmd::evaluation {

/// Entropy (nats, at most log 16) of the 4 x 4 histogram of the places half-way along the paths: how many
/// places the objects use. `size` is that of the picture. 0 for no readings.
double position_entropy(std::span<const ShapeReading> readings, int64_t size);

/// Mean over prompts of the entropy inside each: sees that every prompt has one layout while all of them
/// together look varied. Prompts with fewer than `at_least` samples are left out; nothing when none is left.
/// Biased low by few samples per prompt, so it means something only as a ratio to a real set with the same
/// labels. `labels`: one per reading, in their order.
std::optional<double> prompt_position_entropy(std::span<const ShapeReading> readings,
                                              std::span<const data::ShapeLabel> labels, int64_t size,
                                              int64_t at_least = 4);

}  // namespace tmd::evaluation
