#pragma once

#include <vector>

#include <nlohmann/json.hpp>

namespace tmd::orchestrator {

/// {"min", "median", "max"} of measured values, of which there is at least one.
nlohmann::json spread(std::vector<double> values);

}  // namespace tmd::orchestrator
