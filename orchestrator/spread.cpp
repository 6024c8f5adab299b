#include "orchestrator/spread.h"

#include <algorithm>

namespace tmd::orchestrator {

nlohmann::json spread(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t n = values.size();
  const double median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {{"min", values.front()}, {"median", median}, {"max", values.back()}};
}

}  // namespace tmd::orchestrator
