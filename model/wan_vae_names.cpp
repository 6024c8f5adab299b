#include "model/wan_vae_names.h"

#include <array>
#include <string_view>
#include <utility>

namespace tmd::model {
namespace {

using Renaming = std::pair<std::string_view, std::string_view>;

constexpr std::array<Renaming, 15> kBeginnings = {{{"conv1.", "quant_conv."},
                                                   {"conv2.", "post_quant_conv."},
                                                   {"encoder.conv1.", "encoder.conv_in."},
                                                   {"encoder.downsamples.", "encoder.down_blocks."},
                                                   {"encoder.middle.0.", "encoder.mid_block.resnets.0."},
                                                   {"encoder.middle.1.", "encoder.mid_block.attentions.0."},
                                                   {"encoder.middle.2.", "encoder.mid_block.resnets.1."},
                                                   {"encoder.head.0.", "encoder.norm_out."},
                                                   {"encoder.head.2.", "encoder.conv_out."},
                                                   {"decoder.conv1.", "decoder.conv_in."},
                                                   {"decoder.middle.0.", "decoder.mid_block.resnets.0."},
                                                   {"decoder.middle.1.", "decoder.mid_block.attentions.0."},
                                                   {"decoder.middle.2.", "decoder.mid_block.resnets.1."},
                                                   {"decoder.head.0.", "decoder.norm_out."},
                                                   {"decoder.head.2.", "decoder.conv_out."}}};

constexpr std::array<Renaming, 5> kInsideResidual = {{{".residual.0.", ".norm1."},
                                                      {".residual.2.", ".conv1."},
                                                      {".residual.3.", ".norm2."},
                                                      {".residual.6.", ".conv2."},
                                                      {".shortcut.", ".conv_shortcut."}}};

constexpr std::string_view kUpsamples = "decoder.upsamples.";

// decoder.upsamples numbers three blocks and one resampling per stage in one sequence; diffusers by stage.
std::string rename_upsamples(const std::string& name) {
  size_t digits = 0;
  const int index = std::stoi(name.substr(kUpsamples.size()), &digits);
  const int stage = index / 4, block = index % 4;
  const std::string part = block == 3 ? "upsamplers.0" : "resnets." + std::to_string(block);
  return "decoder.up_blocks." + std::to_string(stage) + "." + part + name.substr(kUpsamples.size() + digits);
}

}  // namespace

std::string diffusers_vae_name(const std::string& original) {
  std::string name = original;
  for (const auto& [from, to] : kInsideResidual) {
    if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  }
  if (name.starts_with(kUpsamples)) return rename_upsamples(name);
  for (const auto& [from, to] : kBeginnings) {
    if (name.starts_with(from)) return std::string(to) + name.substr(from.size());
  }
  return name;
}

}  // namespace tmd::model
