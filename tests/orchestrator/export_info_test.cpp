#include "orchestrator/export_info.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "method/grids.h"

namespace tmd::orchestrator {
namespace {

ExportInfo example() {
  ExportInfo info;
  info.method = {.name = workers::MethodName::kTmd,
                 .outer_steps = 4,
                 .inner_steps = 3,
                 .outer_shift = 5,
                 .inner_shift = 7,
                 .form = {}};
  info.student.wan.layers = 6;
  info.student.head_blocks = 2;
  info.student.fusion = model::Fusion::kConcat;
  info.latents.latent_shape = {2, 3, 4, 6};
  info.latents.codec = "pixels-2x2";
  info.latents.latent_mean = {0.1F, -1.0F / 3};
  info.latents.latent_std = {1, 2};
  info.latents.fps = 12.5;
  return info;
}

std::optional<ExportInfo> again(const SafetensorsMetadata& metadata) {
  return from_metadata(metadata, example().student.wan, "file");
}

void expect_refused(SafetensorsMetadata metadata, const std::string& text) {
  try {
    again(metadata);
    ADD_FAILURE() << "accepted: " << text;
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
  }
}

// The metadata of the example with one entry of one object changed, or removed for null.
SafetensorsMetadata changed(const std::string& key, const std::string& entry, const nlohmann::json& value) {
  SafetensorsMetadata metadata = to_metadata(example());
  nlohmann::json object = nlohmann::json::parse(metadata.at(key));
  value.is_null() ? static_cast<void>(object.erase(entry)) : static_cast<void>(object[entry] = value);
  metadata[key] = object.dump();
  return metadata;
}

TEST(ExportInfo, a_student_comes_back_as_it_went) {
  for (const workers::MethodName name :
       {workers::MethodName::kTmd, workers::MethodName::kTm, workers::MethodName::kDmd2v}) {
    ExportInfo info = example();
    info.method.name = name;
    const ExportInfo read = again(to_metadata(info)).value();
    EXPECT_FALSE(read.is_teacher);
    EXPECT_EQ(read.method.name, name);
    EXPECT_EQ(read.method.outer_steps, 4);
    EXPECT_EQ(read.method.outer_shift, 5);
    EXPECT_EQ(outer_grid(read), method::student_grid(4, 5));
    if (workers::is_decoupled(name)) {
      EXPECT_EQ(read.method.inner_steps, 3);
      EXPECT_EQ(read.method.inner_shift, 7);
      EXPECT_EQ(read.student.head_blocks, 2);
      EXPECT_EQ(read.student.fusion, model::Fusion::kConcat);
    }
    EXPECT_EQ(read.latents, info.latents);
  }
}

TEST(ExportInfo, a_teacher_comes_back_with_its_sampler) {
  ExportInfo info = example();
  info.is_teacher = true;
  info.sampler = {.solver = configs::SamplerOptions::Solver::kUniPc,
                  .steps = 30,
                  .shift = 8,
                  .cfg = 6,
                  .grid = method::SigmaGrid::kDiffusers,
                  .model_time = method::ModelTime::kExact,
                  .skip_block = 5};
  const ExportInfo read = again(to_metadata(info)).value();
  EXPECT_TRUE(read.is_teacher);
  EXPECT_EQ(read.sampler.solver, info.sampler.solver);
  EXPECT_EQ(read.sampler.steps, 30);
  EXPECT_EQ(read.sampler.shift, 8);
  EXPECT_EQ(read.sampler.cfg, 6);
  EXPECT_EQ(read.sampler.grid, info.sampler.grid);
  EXPECT_EQ(read.sampler.model_time, info.sampler.model_time);
  EXPECT_EQ(read.sampler.skip_block, 5);
  info.sampler.skip_block = -1;
  const SafetensorsMetadata plain = to_metadata(info);
  EXPECT_EQ(plain.at("tmd.sampler").find("skip_block"), std::string::npos) << "as earlier versions wrote it";
  EXPECT_EQ(again(plain)->sampler.skip_block, -1);
}

TEST(ExportInfo, a_teachers_sampler_keeps_within_the_bounds_of_the_options) {
  ExportInfo info = example();
  info.is_teacher = true;
  const SafetensorsMetadata good = to_metadata(info);
  EXPECT_TRUE(again(good).has_value());
  const auto refuse = [&](const std::string& entry, const nlohmann::json& value) {
    SafetensorsMetadata metadata = good;
    nlohmann::json sampler = nlohmann::json::parse(metadata.at("tmd.sampler"));
    sampler[entry] = value;
    metadata["tmd.sampler"] = sampler.dump();
    expect_refused(metadata, entry);
  };
  refuse("steps", 0);
  refuse("steps", kMostTeacherSteps + 1);
  refuse("steps", int64_t{1} << 32);
  refuse("shift", 0);
  refuse("guidance_scale", -1);
  refuse("skip_block", 6);
  refuse("skip_block", -2);
  // The options have the same bounds.
  configs::Config config;
  const auto table = configs::declare_options(config);
  const auto set = [&](const std::string& name, int64_t value) {
    table->assign(name, std::to_string(value), "test");
  };
  EXPECT_NO_THROW(set("sampler.steps", kMostTeacherSteps));
  EXPECT_THROW(set("sampler.steps", kMostTeacherSteps + 1), Error);
  EXPECT_NO_THROW(set("method.outer_steps", kMostStudentSteps));
  EXPECT_THROW(set("method.outer_steps", kMostStudentSteps + 1), Error);
}

TEST(ExportInfo, a_flow_head_belongs_to_students_of_two_methods) {
  ExportInfo info = example();
  EXPECT_TRUE(info.has_flow_head());
  info.method.name = workers::MethodName::kTm;
  EXPECT_TRUE(info.has_flow_head());
  info.is_teacher = true;
  EXPECT_FALSE(info.has_flow_head());
  info.is_teacher = false;
  info.method.name = workers::MethodName::kDmd2v;
  EXPECT_FALSE(info.has_flow_head());
}

TEST(ExportInfo, weights_of_others_have_none) {
  EXPECT_FALSE(again({{"format", "pt"}}).has_value());
  EXPECT_FALSE(again({}).has_value());
}

TEST(ExportInfo, what_cannot_be_obeyed_is_refused) {
  SafetensorsMetadata later = to_metadata(example());
  later["tmd.export"] = "2";
  expect_refused(later, "version 2");
  SafetensorsMetadata method = to_metadata(example());
  method["tmd.method"] = "dmd3";
  expect_refused(method, "dmd3");
  SafetensorsMetadata missing = to_metadata(example());
  missing.erase("tmd.sampler");
  expect_refused(missing, "tmd.sampler is missing");
  SafetensorsMetadata broken = to_metadata(example());
  broken["tmd.latents"] = "{";
  expect_refused(broken, "tmd.latents");
  expect_refused(changed("tmd.sampler", "outer_grid", {0, 0.5, 0.7, 0.8, 0.9}), "outer_grid");
  expect_refused(changed("tmd.sampler", "inner_grid", {0, 1}), "inner_grid");
  expect_refused(changed("tmd.sampler", "guidance_scale", 5), "without guidance");
  expect_refused(changed("tmd.sampler", "head_blocks", 7), "head_blocks");
  expect_refused(changed("tmd.sampler", "head_blocks", nullptr), "\"head_blocks\" is missing");
  expect_refused(changed("tmd.sampler", "inner_velocity", "instantaneous"), "inner_velocity");
  expect_refused(changed("tmd.sampler", "outer_steps", "four"), "outer_steps");
  for (const int64_t steps : {int64_t{0}, int64_t{101}, int64_t{1} << 40}) {
    expect_refused(changed("tmd.sampler", "outer_steps", steps), "outer_steps");
    expect_refused(changed("tmd.sampler", "inner_steps", steps), "inner_steps");
  }
  expect_refused(changed("tmd.sampler", "outer_shift", 0.5), "outer_shift");
  expect_refused(changed("tmd.sampler", "inner_shift", -1), "inner_shift");
  expect_refused(changed("tmd.sampler", "fusion", "sum"), "fusion \"sum\"");
  expect_refused(changed("tmd.latents", "shape", {2, 3, 0, 6}), "shape");
  expect_refused(changed("tmd.latents", "mean", {1}), "mean and std");
}

}  // namespace
}  // namespace tmd::orchestrator
