#include "model/wan_names.h"

#include <array>
#include <utility>

#include "base/error.h"

namespace tmd::model {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;  // original, diffusers

// Parts of a name that differ; what follows the part (".weight") is the same. Longer parts first.
constexpr std::array<Pair, 8> kOutsideBlocks = {{
    {"text_embedding.0.", "condition_embedder.text_embedder.linear_1."},
    {"text_embedding.2.", "condition_embedder.text_embedder.linear_2."},
    {"time_embedding.0.", "condition_embedder.time_embedder.linear_1."},
    {"time_embedding.2.", "condition_embedder.time_embedder.linear_2."},
    {"time_projection.1.", "condition_embedder.time_proj."},
    {"head.modulation", "scale_shift_table"},
    {"head.head.", "proj_out."},
    {"patch_embedding.", "patch_embedding."},
}};

// The same behind "blocks.7.". diffusers numbers the norms in their order of use: its norm2 is Wan's norm3.
constexpr std::array<Pair, 16> kInBlocks = {{
    {"modulation", "scale_shift_table"},
    {"self_attn.q.", "attn1.to_q."},
    {"self_attn.k.", "attn1.to_k."},
    {"self_attn.v.", "attn1.to_v."},
    {"self_attn.o.", "attn1.to_out.0."},
    {"self_attn.norm_q.", "attn1.norm_q."},
    {"self_attn.norm_k.", "attn1.norm_k."},
    {"norm3.", "norm2."},
    {"cross_attn.q.", "attn2.to_q."},
    {"cross_attn.k.", "attn2.to_k."},
    {"cross_attn.v.", "attn2.to_v."},
    {"cross_attn.o.", "attn2.to_out.0."},
    {"cross_attn.norm_q.", "attn2.norm_q."},
    {"cross_attn.norm_k.", "attn2.norm_k."},
    {"ffn.0.", "ffn.net.0.proj."},
    {"ffn.2.", "ffn.net.2."},
}};

constexpr std::array<std::string_view, 9> kPrefixes = {
    "",           "model.",           "module.",          "transformer.",          "net.",
    "generator.", "generator.model.", "diffusion_model.", "model.diffusion_model."};

template <class Table>
std::optional<std::string> translated(const Table& table, std::string_view text, bool to_diffusers) {
  for (const auto& [original, diffusers] : table) {
    const std::string_view from = to_diffusers ? original : diffusers;
    const bool whole = !from.ends_with('.');
    if (whole ? text != from : !text.starts_with(from)) continue;
    return std::string(to_diffusers ? diffusers : original) + std::string(text.substr(from.size()));
  }
  return {};
}

// Length of "blocks.7.", 0 when the name does not begin so.
size_t block_prefix(std::string_view name) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!name.starts_with(kBlocks)) return 0;
  const size_t digits = name.find_first_not_of("0123456789", kBlocks.size());
  if (digits == std::string_view::npos || digits == kBlocks.size() || name[digits] != '.') return 0;
  return digits + 1;
}

std::string translate(const std::string& name, bool to_diffusers) {
  const std::string_view text = name;
  const size_t prefix = block_prefix(text);
  const auto rest = prefix > 0 ? translated(kInBlocks, text.substr(prefix), to_diffusers)
                               : translated(kOutsideBlocks, text, to_diffusers);
  return rest ? name.substr(0, prefix) + *rest : name;
}

}  // namespace

std::string_view name(WanNaming naming) { return naming == WanNaming::kOriginal ? "original" : "diffusers"; }

std::string name_in(WanNaming naming, const std::string& original) {
  return naming == WanNaming::kOriginal ? original : translate(original, /*to_diffusers=*/true);
}

std::string original_name(const std::string& diffusers) {
  return translate(diffusers, /*to_diffusers=*/false);
}

std::optional<WanSpelling> recognise_spelling(std::string_view tensor) {
  for (const WanNaming naming : {WanNaming::kOriginal, WanNaming::kDiffusers}) {
    const std::string mark = name_in(naming, "blocks.0.self_attn.q.weight");
    for (const std::string_view prefix : kPrefixes) {
      if (tensor == std::string(prefix) + mark) return WanSpelling{naming, std::string(prefix)};
    }
  }
  return {};
}

}  // namespace tmd::model
