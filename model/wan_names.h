#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tmd::model {

/// How a weights file spells the tensors of a Wan transformer (Wan 3.2).
enum class WanNaming {
  kOriginal,   ///< of the original code, of ComfyUI and of this program
  kDiffusers,  ///< of WanTransformer3DModel
};

/// "original", "diffusers"
std::string_view name(WanNaming naming);

/// The name that the tensor called `original` has in `naming`. Names that are not Wan's stay as they are (the
/// tensors that a TMD student has beyond Wan's begin with "tmd." in every naming).
std::string name_in(WanNaming naming, const std::string& original);

/// The inverse of name_in(kDiffusers, .).
std::string original_name(const std::string& diffusers);

/// What stands in front of every tensor's name, and how the names go on.
struct WanSpelling {
  WanNaming naming = WanNaming::kOriginal;
  std::string prefix;  ///< "model.diffusion_model." and the like, or empty

  std::string of(const std::string& original) const { return prefix + name_in(naming, original); }
};

/// Recognises a spelling by one tensor's name, that of block 0's first self-attention weight; nothing for any
/// other name. Known prefixes (Wan 3.1): model., module., transformer., net., generator., generator.model.,
/// diffusion_model., model.diffusion_model.
std::optional<WanSpelling> recognise_spelling(std::string_view tensor);

}  // namespace tmd::model
