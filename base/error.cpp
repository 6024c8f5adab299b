#include "base/error.h"

namespace tmd {

std::string_view name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kDoesNotFit:
      return "does not fit";
    case ErrorKind::kDiverged:
      return "diverged";
    case ErrorKind::kUsage:
      return "wrong command line";
    case ErrorKind::kData:
      return "bad input data";
    case ErrorKind::kUnavailable:
      return "device or MPI not usable";
    case ErrorKind::kInternal:
      return "internal error";
    case ErrorKind::kIo:
      return "reading or writing failed";
    case ErrorKind::kRequeue:
      return "saved, please start again";
    case ErrorKind::kPeerLost:
      return "a peer was lost";
    case ErrorKind::kConfig:
      return "bad configuration";
  }
  return "unknown";
}

Error Error::with_context(std::string_view context) const {
  return Error(kind_, std::string(context) + ": " + what(), hint_);
}

void ensure(bool ok, std::string_view promise, std::source_location where) {
  if (ok) return;
  throw Error(ErrorKind::kInternal, std::string(where.file_name()) + ":" + std::to_string(where.line()) +
                                        ": " + std::string(promise));
}

}  // namespace tmd
