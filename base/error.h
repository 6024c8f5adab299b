#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tmd {

/// Why a run ends; each kind is one exit code of the program (docs/exit_codes.md).
enum class ErrorKind : int {
  kDoesNotFit = 2,    ///< the memory of a host does not suffice
  kDiverged = 3,      ///< non-finite values or an alarm limit
  kUsage = 64,        ///< wrong command line
  kData = 65,         ///< bad input data
  kUnavailable = 69,  ///< device, MPI or NCCL not usable at start
  kInternal = 70,     ///< a broken promise inside the program
  kIo = 74,           ///< reading or writing failed
  kRequeue = 75,      ///< saved, please start again
  kPeerLost = 76,     ///< another rank is gone or hangs
  kConfig = 78,       ///< bad configuration
};

/// The name that users see beside the exit code, e.g. "bad input data".
std::string_view name(ErrorKind kind);

/// The one exception type of the project. `what()` says what was tried and with which values; `hint()` says
/// what to do when the cause is usually the user's, and is empty otherwise. The rank is added where errors
/// are reported, because library folders do not know it.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message, std::string hint = {})
      : std::runtime_error(message), kind_(kind), hint_(std::move(hint)) {}

  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }
  const std::string& hint() const { return hint_; }

  /// The same error with "`context`: " in front of its message.
  Error with_context(std::string_view context) const;

 private:
  ErrorKind kind_;
  std::string hint_;
};

/// Throws Error{kind, message, hint} unless `ok`.
inline void check(bool ok, ErrorKind kind, const std::string& message, const std::string& hint = {}) {
  if (!ok) throw Error(kind, message, hint);
}

/// For promises between our own functions: throws ErrorKind::kInternal with file and line unless `ok`.
void ensure(bool ok, std::string_view promise, std::source_location where = std::source_location::current());

}  // namespace tmd
