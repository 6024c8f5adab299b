#include "model/discriminator_config.h"

#include <algorithm>

namespace tmd::model {

int64_t group_count(int64_t channels) {
  int64_t groups = channels <= 32 ? std::max<int64_t>(1, channels / 4) : 32;
  while (channels % groups != 0) --groups;
  return groups;
}

int64_t DiscriminatorConfig::groups() const { return group_count(inner_channels()); }

}  // namespace tmd::model
