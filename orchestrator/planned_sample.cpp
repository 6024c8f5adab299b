#include "orchestrator/planned_sample.h"

#include <charconv>
#include <fmt/format.h>

#include "base/error.h"
#include "data/data_set.h"

namespace tmd::orchestrator {

workers::SampleShape planned_sample(const std::string& verb, const configs::Config& config,
                                    const std::string& latent) {
  workers::SampleShape shape{.latent = {config.model.wan.channels, 21, 60, 104},
                             .text = {config.model.wan.text_length, config.model.wan.text_dim}};
  if (!latent.empty()) {
    size_t axis = 0;
    const char* at = latent.data();
    const char* const end = latent.data() + latent.size();
    for (; axis < 4 && at != end; ++axis) {
      const auto [next, error] = std::from_chars(at, end, shape.latent[axis]);
      if (error != std::errc() || shape.latent[axis] < 1) break;
      at = next != end && *next == ',' ? next + 1 : next;
    }
    check(axis == 4 && at == end, ErrorKind::kUsage,
          fmt::format("tmd {}: --latent {} is no C,T,H,W", verb, latent));
    return shape;
  }
  if (config.data.files.empty()) return shape;
  const data::DataSet set(data::resolve_files(config.data.files));
  return {set.header().latent_shape, set.header().text_shape};
}

}  // namespace tmd::orchestrator
