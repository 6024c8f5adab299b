#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tmd::orchestrator {

/// A verb of the command line. `run` is called on every rank with the words behind the verb; it returns the
/// exit code.
struct Verb {
  const char* name;
  const char* summary;  ///< one line for `tmd --help`
  const char* help;     ///< for `tmd VERB --help`, with examples
  int (*run)(comm::Communicator& world, const std::vector<std::string>& words);
};

/// All verbs, in the order of the help.
const std::vector<Verb>& verbs();

// Each in a file of its own, verb_NAME.cpp.
extern const Verb kTrainVerb;
extern const Verb kDemoVerb;
extern const Verb kDoctorVerb;
extern const Verb kPlanVerb;
extern const Verb kSlurmVerb;
extern const Verb kSampleVerb;
extern const Verb kEvalVerb;
extern const Verb kExportVerb;
extern const Verb kForwardVerb;
extern const Verb kVaeVerb;
extern const Verb kDataVerb;
extern const Verb kInspectVerb;
extern const Verb kBenchVerb;

}  // namespace tmd::orchestrator
