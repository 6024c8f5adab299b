#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/error.h"

namespace tmd::orchestrator {

enum class Severity { kOk, kWarning, kError };
/// "ok", "warning", "error".
std::string_view name(Severity severity);

/// One thing that `tmd doctor` has looked at.
struct Finding {
  std::string heading;  ///< what it belongs to: "launch"
  std::string name;     ///< what was looked at: "world size"
  Severity severity = Severity::kOk;
  std::string text;  ///< what was found
  std::string hint;  ///< what to do about it; empty when it is fine
  /// Whose exit code the program returns for an error; of no meaning else.
  ErrorKind kind = ErrorKind::kUnavailable;
};

/// A finding that needs no hint.
Finding fine(std::string heading, std::string name, std::string text);
Finding warning(std::string heading, std::string name, std::string text, std::string hint);
Finding error(std::string heading, std::string name, ErrorKind kind, std::string text, std::string hint);
/// What `failure` says, as an error.
Finding error(std::string heading, std::string name, const Error& failure);

int count(const std::vector<Finding>& findings, Severity severity);
/// That of the first error, 0 when there is none.
int exit_code(const std::vector<Finding>& findings);

/// "no ranks", "1 rank", "3 ranks".
std::string counted(int64_t count, std::string_view what);

/// Grouped by heading, in their order, with hints below what they belong to and a last line that counts.
std::string findings_text(const std::vector<Finding>& findings);
nlohmann::json findings_json(const std::vector<Finding>& findings);

}  // namespace tmd::orchestrator
