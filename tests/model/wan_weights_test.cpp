#include "model/wan_weights.h"

#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "../support/error_of.h"
#include "../support/test_mesh.h"
#include "model/weights_file.h"
#include "wan_folder.h"

namespace tmd::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::error_of;
using test::TensorShapes;

WanConfig tiny() {
  WanConfig config;
  config.heads = 4;
  config.head_dim = 8;
  config.ffn = 48;
  config.layers = 2;
  config.channels = 3;
  config.text_dim = 12;
  config.text_length = 7;
  config.freq_dim = 16;
  config.epsilon = 1e-5;
  return config;
}

class WanFolder : public testing::Test {
 protected:
  void write_weights(const TensorShapes& shapes, const std::string& dtype = "F32",
                     const SafetensorsMetadata& metadata = {}) {
    test::write_zeros(weights(), shapes, dtype, metadata);
  }
  void write_config(const std::string& text) { std::ofstream(folder_ / "config.json") << text; }
  fs::path weights() const { return folder_ / "model.safetensors"; }
  fs::path touch(const std::string& name) {
    const fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << "x";
    return path;
  }
  void expect_refused(const std::vector<std::string>& parts) {
    test::expect_bad_data(error_of([&] { open_wan_weights(folder_.path()); }), parts);
    test::expect_bad_data(error_of([&] { open_wan_weights(folder_.path()); }), {folder_.path().string()});
  }
  void expect_not_found(const fs::path& path, const std::vector<std::string>& parts) {
    test::expect_bad_data(error_of([&] { find_weights(path); }), parts);
    test::expect_bad_data(error_of([&] { find_weights(path); }), {path.string()});
  }

  data::TemporaryFolder folder_;
};

class FindWeights : public WanFolder {};

TEST_F(FindWeights, file_and_index_stand_for_themselves) {
  for (const char* name : {"any.safetensors", "any.safetensors.index.json"}) {
    const fs::path path = touch(name);
    EXPECT_EQ(find_weights(path), path);
  }
}

TEST_F(FindWeights, folder_stands_for_its_only_file_or_its_index) {
  const fs::path part = touch("m-00001-of-00002.safetensors");
  touch("config.json");
  touch("readme.txt");
  EXPECT_EQ(find_weights(folder_.path()), part);
  touch("m-00002-of-00002.safetensors");
  const fs::path index = touch("m.safetensors.index.json");
  EXPECT_EQ(find_weights(folder_.path()), index);
}

TEST_F(FindWeights, folder_transformer_is_looked_into_when_there_is_nothing_else) {
  const fs::path inner = touch("transformer/diffusion_pytorch_model.safetensors");
  touch("vae/diffusion_pytorch_model.safetensors");
  EXPECT_EQ(find_weights(folder_.path()), inner);
  const fs::path outer = touch("model.safetensors");
  EXPECT_EQ(find_weights(folder_.path()), outer);
}

TEST_F(FindWeights, several_that_could_be_meant_are_named) {
  touch("a.safetensors");
  touch("b.safetensors");
  expect_not_found(folder_.path(), {"a.safetensors, b.safetensors"});
  touch("a.safetensors.index.json");
  touch("b.safetensors.index.json");
  expect_not_found(folder_.path(), {"a.safetensors.index.json, b.safetensors.index.json"});
}

TEST_F(FindWeights, nothing_there_is_refused) {
  expect_not_found(folder_ / "none", {"no such file or folder"});
  expect_not_found(folder_ / std::string(300, 'n'), {"no such file or folder"});
  expect_not_found(folder_.path(), {"no .safetensors file in it"});
  fs::create_directory(folder_ / "folder.safetensors");
  fs::create_symlink("loop", folder_ / "loop");
  expect_not_found(folder_.path(), {"no .safetensors file in it"});
  expect_not_found(folder_ / "loop", {"no such file or folder"});
  fs::create_directory(folder_ / "transformer");
  test::expect_bad_data(error_of([&] { find_weights(folder_.path()); }),
                        {(folder_ / "transformer").string()});
}

TEST_F(FindWeights, pickles_and_other_files_are_refused) {
  for (const char* name : {"m.pth", "m.pt", "m.ckpt", "m.bin"}) {
    expect_not_found(touch(name), {"a pickle"});
    EXPECT_NE(error_of([&] { find_weights(folder_ / name); }).hint().find("convert"), std::string::npos);
  }
  for (const char* name : {"m.gguf", "config.json", "m.safetensors.index", "m"})
    expect_not_found(touch(name), {"neither a .safetensors file nor a .safetensors.index.json"});
}

class OpenWanWeights : public WanFolder {};

TEST_F(OpenWanWeights, sizes_are_taken_from_the_shapes_in_every_spelling) {
  WanConfig expected = tiny();
  expected.heads = 1;  // unknown, and 128 does not divide the width
  expected.head_dim = 32;
  expected.text_length = WanConfig().text_length;
  expected.epsilon = WanConfig().epsilon;
  for (const WanNaming naming : {WanNaming::kOriginal, WanNaming::kDiffusers}) {
    for (const char* prefix : {"", "model.diffusion_model.", "net."}) {
      const WanSpelling spelling{naming, prefix};
      write_weights(test::wan_shapes(tiny(), spelling));

      const WanWeights opened = open_wan_weights(folder_.path());

      EXPECT_EQ(opened.config, expected);
      EXPECT_EQ(opened.spelling.naming, naming);
      EXPECT_EQ(opened.spelling.prefix, prefix);
      EXPECT_FALSE(opened.heads_known);
      EXPECT_FALSE(opened.has_student_parts);
      EXPECT_EQ(opened.config_file, "");
      EXPECT_EQ(opened.parameters(), sharding::count_elements(wan_units(tiny())));
    }
  }
}

TEST_F(OpenWanWeights, heads_of_published_models_are_128_wide) {
  WanConfig config = tiny();
  config.heads = 2;
  config.head_dim = 128;
  write_weights(test::wan_shapes(config));
  const WanWeights opened = open_wan_weights(folder_.path());
  EXPECT_EQ(opened.config.heads, 2);
  EXPECT_EQ(opened.config.head_dim, 128);
  EXPECT_FALSE(opened.heads_known);
  EXPECT_FALSE(opened.epsilon_known);
}

TEST_F(OpenWanWeights, config_of_either_style_says_the_rest_of_either_naming) {
  for (const WanNaming style : {WanNaming::kOriginal, WanNaming::kDiffusers}) {
    for (const WanNaming naming : {WanNaming::kOriginal, WanNaming::kDiffusers}) {
      write_weights(test::wan_shapes(tiny(), {naming, ""}));
      write_config(config_json(tiny(), style));
      WanConfig expected = tiny();
      if (style == WanNaming::kDiffusers) expected.text_length = WanConfig().text_length;  // not in it

      const WanWeights opened = open_wan_weights(folder_.path());

      EXPECT_EQ(opened.config, expected) << name(style) << name(naming);
      EXPECT_TRUE(opened.heads_known);
      EXPECT_TRUE(opened.epsilon_known);
      EXPECT_EQ(opened.config_file, folder_ / "config.json");
    }
  }
}

TEST_F(OpenWanWeights, config_of_the_published_models_has_the_keys_of_its_class) {
  const json original = json::parse(config_json(WanConfig::wan_14b(), WanNaming::kOriginal));
  EXPECT_EQ(original,
            json::parse(R"({"_class_name":"WanModel","dim":5120,"eps":1e-6,"ffn_dim":13824,"freq_dim":256,
      "in_dim":16,"model_type":"t2v","num_heads":40,"num_layers":40,"out_dim":16,"text_len":512})"));
  // The class's default; a model of another one cannot be made without it.
  EXPECT_FALSE(original.contains("text_dim"));
  EXPECT_EQ(json::parse(config_json(tiny(), WanNaming::kOriginal)).at("text_dim"), 12);
  const json diffusers = json::parse(config_json(WanConfig::wan_1_3b(), WanNaming::kDiffusers));
  EXPECT_EQ(diffusers, json::parse(R"({"_class_name":"WanTransformer3DModel","added_kv_proj_dim":null,
      "attention_head_dim":128,"cross_attn_norm":true,"eps":1e-6,"ffn_dim":8960,"freq_dim":256,"image_dim":null,
      "in_channels":16,"num_attention_heads":12,"num_layers":30,"out_channels":16,"patch_size":[1,2,2],
      "pos_embed_seq_len":null,"qk_norm":"rms_norm_across_heads","rope_max_seq_len":1024,"text_dim":4096})"));
}

TEST_F(OpenWanWeights, metadata_of_an_export_say_the_rest_and_config_json_goes_first) {
  write_weights(test::wan_shapes(tiny()), "F32",
                {{"tmd.model", R"({"heads":2,"head_dim":16,"text_length":9})"}});
  const WanWeights opened = open_wan_weights(weights());
  EXPECT_TRUE(opened.heads_known);
  EXPECT_EQ(opened.config.heads, 2);
  EXPECT_EQ(opened.config.text_length, 9);
  write_config(config_json(tiny(), WanNaming::kOriginal));
  EXPECT_EQ(open_wan_weights(weights()).config, tiny());
}

TEST_F(OpenWanWeights, width_of_a_head_alone_says_the_heads) {
  write_weights(test::wan_shapes(tiny()));
  write_config(R"({"attention_head_dim":8})");
  const WanWeights opened = open_wan_weights(folder_.path());
  EXPECT_TRUE(opened.heads_known);
  EXPECT_EQ(opened.config.heads, 4);
  write_config(R"({"attention_head_dim":12})");
  expect_refused({"attention_head_dim is 12, but the weights have 16"});
}

TEST_F(OpenWanWeights, config_that_contradicts_the_shapes_is_refused) {
  write_weights(test::wan_shapes(tiny()));
  for (const WanNaming style : {WanNaming::kOriginal, WanNaming::kDiffusers}) {
    for (const char* key : {"dim", "attention_head_dim", "ffn_dim", "num_layers", "in_dim", "in_channels",
                            "out_dim", "out_channels", "freq_dim", "text_dim"}) {
      json config = json::parse(config_json(tiny(), style));
      if (!config.contains(key)) continue;
      const auto size = config[key].get<int64_t>();
      config[key] = size + 2;
      write_config(config.dump());
      expect_refused({"config.json", std::string(key) + " is " + std::to_string(size + 2),
                      "the weights have " + std::to_string(size)});
    }
  }
}

TEST_F(OpenWanWeights, impossible_sizes_are_refused) {
  write_weights(test::wan_shapes(tiny()));
  for (const char* heads : {"0", "-1", "2.5", "1e300", "-1e300", "9223372036854775808"}) {
    write_config(R"({"num_heads":)" + std::string(heads) + "}");
    expect_refused({"\"num_heads\" is", "not a count"});
  }
  for (const char* heads : {"3", "64", "32"}) {  // 32: heads of one value
    write_config(R"({"num_heads":)" + std::string(heads) + "}");
    expect_refused({std::string(heads) + " heads do not divide the width 32"});
  }
  for (const char* length : {"0", "-1", "1.5", "1e300"}) {
    write_config(R"({"text_len":)" + std::string(length) + "}");
    expect_refused({"\"text_len\" is", "not a count"});
  }
  for (const char* epsilon : {"-1e-6", "1", "1e300"}) {
    write_config(R"({"eps":)" + std::string(epsilon) + "}");
    expect_refused({"eps is", "not between 0 and 1"});
  }
  for (const char* value : {"\"4\"", "[4]", "{}", "true"}) {
    write_config(R"({"num_heads":)" + std::string(value) + "}");
    expect_refused({"\"num_heads\" is not a number"});
  }
}

TEST_F(OpenWanWeights, broken_config_is_refused_with_the_offset) {
  write_weights(test::wan_shapes(tiny()));
  write_config("");
  expect_refused({"config.json is not JSON at byte 0"});
  write_config(R"({"dim":32)");
  expect_refused({"config.json is not JSON at byte 9"});
  write_config(R"({"dim":32,"dim":32})");
  expect_refused({"config.json: the name \"dim\" stands twice"});
  write_config("[]");
  expect_refused({"config.json: it is not a JSON object"});
  write_config(std::string(1'000'000, '['));
  expect_refused({"config.json", "deeper than 64 levels"});
  write_config(R"({"_class_name":[)" + std::string(40, '[') + std::string(40, ']') + "]}");
  expect_refused({"it describes a [[["});
  write_config(std::string((1 << 20) + 1, ' '));
  expect_refused({"config.json: it has 1048577 bytes; 1048576 are allowed"});
  fs::remove(folder_ / "config.json");
  write_weights(test::wan_shapes(tiny()), "F32", {{"tmd.model", "{"}});
  expect_refused({"model.safetensors metadata tmd.model is not JSON at byte"});
}

TEST_F(OpenWanWeights, other_classes_and_kinds_are_refused) {
  write_weights(test::wan_shapes(tiny()));
  write_config(R"({"_class_name":"UNet2DConditionModel"})");
  expect_refused({"config.json", "describes a \"UNet2DConditionModel\""});
  for (const char* kind : {"\"i2v\"", "\"flf2v\"", "\"vace\"", "3"}) {
    write_config(R"({"_class_name":"WanModel","model_type":)" + std::string(kind) + "}");
    expect_refused({"model_type is " + std::string(kind), "not \"t2v\""});
  }
}

TEST_F(OpenWanWeights, image_to_video_is_refused_by_its_shapes) {
  TensorShapes shapes = test::wan_shapes(tiny());
  shapes["patch_embedding.weight"][1] = 36;  // latent, mask and image
  write_weights(shapes);
  expect_refused({"takes 36 channels and returns 12 values a patch", "not a text-to-video transformer"});
  EXPECT_NE(error_of([&] { open_wan_weights(weights()); }).hint().find("image-to-video"), std::string::npos);
}

TEST_F(OpenWanWeights, flat_patch_embedding_is_taken) {
  TensorShapes shapes = test::wan_shapes(tiny(), {WanNaming::kOriginal, "net."});
  shapes["net.patch_embedding.weight"] = {32, 12};
  write_weights(shapes);
  EXPECT_EQ(open_wan_weights(folder_.path()).config.channels, 3);
  for (const int64_t values : {13, 14, 16}) {
    shapes["net.patch_embedding.weight"] = {32, values};
    write_weights(shapes);
    expect_refused({"takes " + std::to_string(values) + " values a patch and returns 12"});
  }
}

TEST_F(OpenWanWeights, what_is_not_wan_is_refused_with_its_first_tensors) {
  write_weights({{"encoder.a", {1}}, {"encoder.b", {1}}, {"encoder.c", {1}}, {"encoder.d", {1}}});
  expect_refused({"no Wan transformer", "of its 4 tensors the first are encoder.a, encoder.b, encoder.c"});
  write_weights({});
  expect_refused({"no Wan transformer", "0 tensors"});
}

// Those that the sizes are taken from are missed when the file is opened, in its own spelling.
TEST_F(OpenWanWeights, tensors_that_say_the_sizes_must_be_there_and_not_empty) {
  const WanSpelling spelling{WanNaming::kDiffusers, "transformer."};
  for (const char* original : {"patch_embedding.weight", "head.head.weight", "blocks.0.ffn.0.weight",
                               "text_embedding.0.weight", "time_embedding.0.weight"}) {
    const std::string name = spelling.of(original);
    TensorShapes shapes = test::wan_shapes(tiny(), spelling);
    const std::vector<int64_t> shape = shapes.at(name);
    shapes.erase(name);
    write_weights(shapes);
    expect_refused({"tensor " + name + " is missing"});
    shapes[name] = {4};
    write_weights(shapes);
    expect_refused({"tensor " + name + ": it has 1 dimensions, 2 are due"});
    shapes[name] = shape;
    shapes[name][1] = 0;
    write_weights(shapes);
    expect_refused({"tensor " + name + ": it is empty"});
  }
}

TEST_F(OpenWanWeights, odd_sizes_are_refused) {
  WanConfig config = tiny();
  config.heads = 1;
  config.head_dim = 9;
  write_weights(test::wan_shapes(config));
  expect_refused({"its width 9 is odd"});
  config = tiny();
  config.freq_dim = 15;
  write_weights(test::wan_shapes(config));
  expect_refused({"its time embedding takes 15 values"});
}

TEST_F(OpenWanWeights, block_numbers_beyond_the_tensors_are_refused) {
  for (const char* number : {"500", "1000000000", "9223372036854775807"}) {
    TensorShapes shapes = test::wan_shapes(tiny());
    const std::string name = "blocks." + std::string(number) + ".modulation";
    shapes[name] = {1};
    write_weights(shapes);
    expect_refused({"tensor " + name, "too few for so many blocks"});
  }
  for (const char* number :
       {"x", "-1", "99999999999999999999", ""}) {  // no number: an unexpected tensor later
    TensorShapes shapes = test::wan_shapes(tiny());
    shapes["blocks." + std::string(number) + ".modulation"] = {1};
    write_weights(shapes);
    EXPECT_EQ(open_wan_weights(folder_.path()).config.layers, 2);
  }
}

TEST_F(OpenWanWeights, parts_of_a_student_are_seen_behind_the_prefix_only) {
  TensorShapes shapes = test::wan_shapes(tiny(), {WanNaming::kDiffusers, "transformer."});
  shapes["tmd.gate"] = {1};
  write_weights(shapes);
  EXPECT_FALSE(open_wan_weights(folder_.path()).has_student_parts);
  shapes["transformer.tmd.gate"] = {1};
  write_weights(shapes);
  EXPECT_TRUE(open_wan_weights(folder_.path()).has_student_parts);
}

TEST_F(OpenWanWeights, element_types_are_listed_by_their_bytes) {
  TensorShapes half = test::wan_shapes(tiny());
  const TensorShapes few = {{"head.modulation", half.at("head.modulation")}};
  half.erase("head.modulation");
  test::write_zeros(folder_ / "1.safetensors", few, "F32");
  test::write_zeros(folder_ / "2.safetensors", half, "BF16");
  json map;
  for (const auto& [name, shape] : half) map[name] = "2.safetensors";
  map["head.modulation"] = "1.safetensors";
  publish_file(folder_ / "m.safetensors.index.json", json{{"weight_map", map}}.dump());

  const WanWeights opened = open_wan_weights(folder_.path());

  EXPECT_EQ(opened.dtypes(), (std::vector<std::string>{"BF16", "F32"}));
  EXPECT_EQ(opened.parameters(), sharding::count_elements(wan_units(tiny())));
}

// Everything that is wrong is named at once, as the file spells it.
TEST_F(OpenWanWeights, loading_names_what_is_missing_misshaped_and_unexpected_as_the_file_does) {
  const WanSpelling spelling{WanNaming::kDiffusers, "transformer."};
  TensorShapes shapes = test::wan_shapes(tiny(), spelling);
  shapes.erase("transformer.blocks.1.attn1.norm_q.weight");
  shapes.erase("transformer.scale_shift_table");
  shapes["transformer.blocks.1.norm2.bias"] = {33};
  shapes["transformer.blocks.0.attn2.add_k_proj.weight"] = {32, 32};
  write_weights(shapes);
  const WanWeights opened = open_wan_weights(folder_.path());
  test::SingleMesh one;
  sharding::ShardedNetwork network("teacher", wan_units(opened.config), one.mesh, at::kFloat, false,
                                   one.buffers);

  const Error error = error_of([&] {
    load_weights(network, opened.files, [&](const std::string& name) { return opened.spelling.of(name); });
  });

  test::expect_bad_data(
      error, {weights().string() + " does not fit the teacher",
              "transformer.blocks.1.attn1.norm_q.weight is missing",
              "transformer.scale_shift_table is missing", "transformer.blocks.1.norm2.bias is [33], not [32]",
              "transformer.blocks.0.attn2.add_k_proj.weight is not in the model"});
}

}  // namespace
}  // namespace tmd::model
