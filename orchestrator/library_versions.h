#pragma once

#include <string>
#include <vector>

namespace tmd::orchestrator {

struct LibraryVersion {
  std::string name;
  std::string version;  ///< as the library says at run time, or else as it was built against
  std::string use;      ///< what the program uses it for
};

/// What this process runs with. Thread: any.
std::vector<LibraryVersion> library_versions();

/// Whether a library that exports `symbol` is loaded into this process.
bool is_loaded(const char* symbol);

}  // namespace tmd::orchestrator
