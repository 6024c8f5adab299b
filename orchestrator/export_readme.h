#pragma once

#include <string>

#include "orchestrator/export_folder.h"

namespace tmd::orchestrator {

/// README.md of an export: what it is and how its users run it. `weights_file`: name of the single weights
/// file.
std::string export_readme(const ExportRequest& request, const std::string& weights_file);

}  // namespace tmd::orchestrator
