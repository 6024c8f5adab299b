#include "orchestrator/verbs.h"

namespace tmd::orchestrator {

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> list = {kDemoVerb,   kDoctorVerb,  kPlanVerb,   kSlurmVerb,   kTrainVerb,
                                         kSampleVerb, kEvalVerb,    kExportVerb, kForwardVerb, kVaeVerb,
                                         kDataVerb,   kInspectVerb, kBenchVerb};
  return list;
}

}  // namespace tmd::orchestrator
