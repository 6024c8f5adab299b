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

/// Of the NCCL that is loaded into this process, "2.28.9"; empty when none is.
std::string nccl_version();

}  // namespace tmd::orchestrator
