#include "model/wan_config.h"

#include <algorithm>

namespace tmd::model {

WanConfig WanConfig::wan_14b() {
  WanConfig config;
  config.heads = 40;
  config.ffn = 13824;
  config.layers = 40;
  return config;
}

std::vector<int64_t> WanConfig::default_feature_blocks() const {
  if (layers == 30) return {15, 22, 29};
  if (layers == 40) return {19, 29, 39};
  std::vector<int64_t> blocks = {layers / 2, 3 * layers / 4, layers - 1};
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  return blocks;
}

int64_t WanConfig::default_head_blocks() const {
  if (layers == 30 || layers == 40) return 5;
  return std::max<int64_t>(1, layers / 6);
}

}  // namespace tmd::model
