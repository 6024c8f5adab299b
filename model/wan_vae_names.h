#pragma once

#include <string>

namespace tmd::model {

/// Name in Wan's original file -> name in files of diffusers' AutoencoderKLWan (Wan 5.1), e.g.
/// decoder.upsamples.3.time_conv.bias -> decoder.up_blocks.0.upsamplers.0.time_conv.bias. Other names come
/// back unchanged or changed in part.
std::string diffusers_vae_name(const std::string& original);

}  // namespace tmd::model
