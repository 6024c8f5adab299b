#include "model/wan_names.h"

#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "model/wan_dit.h"

namespace tmd::model {
namespace {

using Pairs = std::map<std::string, std::string>;  // original, diffusers

void add_linear(Pairs& pairs, const std::string& original, const std::string& diffusers) {
  for (const char* part : {".weight", ".bias"}) pairs[original + part] = diffusers + part;
}

// The table of Wan 3.2, written down a second time.
Pairs published_names(int blocks) {
  Pairs pairs;
  add_linear(pairs, "patch_embedding", "patch_embedding");
  add_linear(pairs, "text_embedding.0", "condition_embedder.text_embedder.linear_1");
  add_linear(pairs, "text_embedding.2", "condition_embedder.text_embedder.linear_2");
  add_linear(pairs, "time_embedding.0", "condition_embedder.time_embedder.linear_1");
  add_linear(pairs, "time_embedding.2", "condition_embedder.time_embedder.linear_2");
  add_linear(pairs, "time_projection.1", "condition_embedder.time_proj");
  pairs["head.modulation"] = "scale_shift_table";
  add_linear(pairs, "head.head", "proj_out");
  for (int i = 0; i < blocks; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    pairs[block + "modulation"] = block + "scale_shift_table";
    add_linear(pairs, block + "norm3", block + "norm2");
    add_linear(pairs, block + "ffn.0", block + "ffn.net.0.proj");
    add_linear(pairs, block + "ffn.2", block + "ffn.net.2");
    for (const auto& [ours, theirs] : Pairs{{"self_attn.", "attn1."}, {"cross_attn.", "attn2."}}) {
      for (const char* part : {"q", "k", "v"})
        add_linear(pairs, block + ours + part, block + theirs + "to_" + part);
      add_linear(pairs, block + ours + "o", block + theirs + "to_out.0");
      for (const char* part : {"norm_q.weight", "norm_k.weight"})
        pairs[block + ours + part] = block + theirs + part;
    }
  }
  return pairs;
}

WanConfig two_blocks() {
  WanConfig config;
  config.heads = 1;
  config.head_dim = 8;
  config.ffn = 16;
  config.layers = 2;
  config.text_dim = 4;
  return config;
}

TEST(WanNames, every_tensor_of_a_model_has_its_published_name_and_comes_back) {
  const Pairs pairs = published_names(2);
  std::set<std::string> others;
  size_t count = 0;
  for (const sharding::UnitSpec& unit : wan_units(two_blocks())) {
    for (const sharding::ParamSpec& param : unit.params) {
      ++count;
      ASSERT_TRUE(pairs.contains(param.name)) << param.name;
      EXPECT_EQ(name_in(WanNaming::kDiffusers, param.name), pairs.at(param.name));
      EXPECT_EQ(original_name(pairs.at(param.name)), param.name);
      EXPECT_EQ(name_in(WanNaming::kOriginal, param.name), param.name);
      EXPECT_TRUE(others.insert(name_in(WanNaming::kDiffusers, param.name)).second) << param.name;
    }
  }
  EXPECT_EQ(count, pairs.size());
  EXPECT_EQ(count, 15u + 2 * 27u);
}

TEST(WanNames, block_numbers_of_any_length_are_kept) {
  for (const char* number : {"0", "7", "10", "39", "123456789012345678901234567890"}) {
    const std::string original = "blocks." + std::string(number) + ".norm3.bias";
    const std::string diffusers = "blocks." + std::string(number) + ".norm2.bias";
    EXPECT_EQ(name_in(WanNaming::kDiffusers, original), diffusers);
    EXPECT_EQ(original_name(diffusers), original);
  }
}

TEST(WanNames, names_that_are_not_of_wan_stay_as_they_are) {
  for (const char* name :
       {"", "tmd.fusion.gate", "tmd.delta_embedding.0.weight", "blocks", "blocks.", "blocks..modulation",
        "blocks.x.modulation", "blocks.1", "blocks.1.", "blocks.1.modulation.weight",
        "blocks.1.self_attn.x.weight", "blocks.-1.modulation", "modulation", "norm3.weight", "ffn.0.weight",
        "head.modulation.weight", "img_emb.proj.0.weight", "text_embedding.1.weight",
        "vace_blocks.0.modulation"}) {
    EXPECT_EQ(name_in(WanNaming::kDiffusers, name), name);
  }
  for (const char* name : {"", "tmd.fusion.gate", "blocks.1.norm3x.weight", "blocks.1.attn3.to_q.weight",
                           "scale_shift_table.weight", "blocks.1.scale_shift_table.weight"})
    EXPECT_EQ(original_name(name), name);
}

TEST(WanNames, namings_have_names) {
  EXPECT_EQ(name(WanNaming::kOriginal), "original");
  EXPECT_EQ(name(WanNaming::kDiffusers), "diffusers");
}

TEST(RecogniseSpelling, both_namings_are_recognised_behind_every_known_prefix) {
  for (const std::string prefix : {"", "model.", "module.", "transformer.", "net.", "generator.",
                                   "generator.model.", "diffusion_model.", "model.diffusion_model."}) {
    for (const WanNaming naming : {WanNaming::kOriginal, WanNaming::kDiffusers}) {
      const bool is_original = naming == WanNaming::kOriginal;
      const std::string mark = is_original ? "blocks.0.self_attn.q.weight" : "blocks.0.attn1.to_q.weight";

      const auto spelling = recognise_spelling(prefix + mark);

      ASSERT_TRUE(spelling.has_value()) << prefix + mark;
      EXPECT_EQ(spelling->naming, naming);
      EXPECT_EQ(spelling->prefix, prefix);
      EXPECT_EQ(spelling->of("head.modulation"),
                prefix + (is_original ? "head.modulation" : "scale_shift_table"));
      EXPECT_EQ(spelling->of("tmd.fusion.gate"), prefix + "tmd.fusion.gate");
    }
  }
}

TEST(RecogniseSpelling, other_tensors_say_nothing) {
  for (const char* name :
       {"", "blocks.0.self_attn.q.bias", "blocks.1.self_attn.q.weight", "blocks.0.self_attn.q.weight.x",
        "xblocks.0.self_attn.q.weight", "other.blocks.0.self_attn.q.weight", "blocks.0.self_attn.q",
        "blocks.0.to_q.weight", "decoder.layers.0.self_attention.linear_qkv.weight",
        "patch_embedding.weight"})
    EXPECT_FALSE(recognise_spelling(name).has_value()) << name;
}

}  // namespace
}  // namespace tmd::model
