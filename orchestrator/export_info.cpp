#include "orchestrator/export_info.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/strict_json.h"
#include "method/grids.h"

namespace tmd::orchestrator {
namespace {

using nlohmann::json;
using workers::MethodName;
using Solver = configs::SamplerOptions::Solver;

constexpr const char* kVersion = "1";
constexpr const char* kTeacher = "teacher";

// Names of enum values in the metadata.
template <class Enum>
using Names = std::vector<std::pair<Enum, const char*>>;

const Names<MethodName>& method_names() {
  static const Names<MethodName> names = {
      {MethodName::kTmd, "tmd"}, {MethodName::kTm, "tm"}, {MethodName::kDmd2v, "dmd2v"}};
  return names;
}

const Names<model::Fusion>& fusion_names() {
  static const Names<model::Fusion> names = {{model::Fusion::kGated, "gated"},
                                             {model::Fusion::kConcat, "concat"}};
  return names;
}

const Names<Solver>& solver_names() {
  static const Names<Solver> names = {{Solver::kEuler, "euler"}, {Solver::kUniPc, "unipc"}};
  return names;
}

const Names<method::SigmaGrid>& grid_names() {
  static const Names<method::SigmaGrid> names = {{method::SigmaGrid::kWan, "wan"},
                                                 {method::SigmaGrid::kDiffusers, "diffusers"}};
  return names;
}

const Names<method::ModelTime>& time_names() {
  static const Names<method::ModelTime> names = {{method::ModelTime::kInteger, "integer"},
                                                 {method::ModelTime::kExact, "exact"}};
  return names;
}

template <class Enum>
std::string name_of(const Names<Enum>& names, Enum value) {
  const auto found = std::ranges::find(names, value, [](const auto& pair) { return pair.first; });
  ensure(found != names.end(), "every value has a name in the metadata");
  return found->second;
}

json model_json(const model::WanConfig& wan) {
  return {{"heads", wan.heads},   {"head_dim", wan.head_dim}, {"ffn", wan.ffn},
          {"layers", wan.layers}, {"channels", wan.channels}, {"text_dim", wan.text_dim},
          {"eps", wan.epsilon},   {"freq_dim", wan.freq_dim}, {"text_length", wan.text_length}};
}

std::vector<double> inner_grid(const ExportInfo& info) {
  return method::student_grid(static_cast<int>(info.method.inner_steps), info.method.inner_shift);
}

json sampler_json(const ExportInfo& info) {
  if (info.is_teacher) {
    const configs::SamplerOptions& s = info.sampler;
    json sampler = {{"solver", name_of(solver_names(), s.solver)},
                    {"steps", s.steps},
                    {"shift", s.shift},
                    {"guidance_scale", s.cfg},
                    {"grid", name_of(grid_names(), s.grid)},
                    {"model_time", name_of(time_names(), s.model_time)}};
    if (s.skip_block >= 0) sampler["skip_block"] = s.skip_block;
    return sampler;
  }
  const workers::MethodOptions& m = info.method;
  json sampler = {{"outer_steps", m.outer_steps},
                  {"outer_grid", outer_grid(info)},
                  {"outer_shift", m.outer_shift},
                  {"guidance_scale", 1.0}};
  if (!workers::is_decoupled(m.name)) return sampler;
  sampler.update({{"inner_steps", m.inner_steps},
                  {"inner_grid", inner_grid(info)},
                  {"inner_shift", m.inner_shift},
                  {"head_blocks", info.student.head_blocks},
                  {"fusion", name_of(fusion_names(), info.student.fusion)},
                  {"inner_velocity", m.name == MethodName::kTm ? "instantaneous" : "average"}});
  return sampler;
}

json latents_json(const data::LatentHeader& h) {
  return {{"shape", h.latent_shape},        {"codec", h.codec},
          {"mean", h.latent_mean},          {"std", h.latent_std},
          {"video_frames", h.video_frames}, {"video_height", h.video_height},
          {"video_width", h.video_width},   {"fps", h.fps},
          {"text_encoder", h.text_encoder}};
}

// A JSON object in the metadata, whose entries are asked for by name and type.
class Object {
 public:
  Object(const SafetensorsMetadata& metadata, const std::string& key, const std::filesystem::path& file)
      : where_(file.string() + " metadata " + key) {
    const auto found = metadata.find(key);
    check(found != metadata.end(), ErrorKind::kData, where_ + " is missing");
    json_ = parse_strict_json(found->second, where_);
    check(json_.is_object(), ErrorKind::kData, where_ + " is not an object");
  }

  template <class T>
  T get(const std::string& key) const {
    try {
      return json_.at(key).get<T>();
    } catch (const json::exception&) {
      throw Error(ErrorKind::kData, fmt::format("{}: \"{}\" is missing or of another type", where_, key));
    }
  }
  template <class T>
  T get_or(const std::string& key, const T& otherwise) const {
    return json_.contains(key) ? get<T>(key) : otherwise;
  }
  template <class Enum>
  Enum get(const std::string& key, const Names<Enum>& names) const {
    const auto text = get<std::string>(key);
    const auto found =
        std::ranges::find(names, text, [](const auto& pair) { return std::string(pair.second); });
    check(found != names.end(), ErrorKind::kData, fmt::format("{}: unknown {} \"{}\"", where_, key, text));
    return found->first;
  }
  int64_t count(const std::string& key, int64_t most = std::numeric_limits<int64_t>::max()) const {
    const auto value = get<int64_t>(key);
    check(value >= 1 && value <= most, ErrorKind::kData, fmt::format("{}: \"{}\" is {}", where_, key, value));
    return value;
  }
  double at_least(double least, const std::string& key) const {
    const auto value = get<double>(key);
    check(std::isfinite(value) && value >= least, ErrorKind::kData,
          fmt::format("{}: \"{}\" is {}", where_, key, value));
    return value;
  }
  void expect(bool holds, const std::string& what) const {
    check(holds, ErrorKind::kData, where_ + ": " + what);
  }

 private:
  std::string where_;
  json json_;
};

void read_sampler(ExportInfo& info, const Object& sampler) {
  workers::MethodOptions& m = info.method;
  m.outer_steps = sampler.count("outer_steps", kMostStudentSteps);
  m.outer_shift = sampler.at_least(1, "outer_shift");
  sampler.expect(sampler.get<double>("guidance_scale") == 1, "a student is sampled without guidance");
  sampler.expect(sampler.get<std::vector<double>>("outer_grid") == outer_grid(info),
                 "outer_grid is not that of outer_steps and outer_shift");
  if (!workers::is_decoupled(m.name)) return;
  m.inner_steps = sampler.count("inner_steps", kMostStudentSteps);
  m.inner_shift = sampler.at_least(1, "inner_shift");
  info.student.head_blocks = sampler.count("head_blocks");
  info.student.fusion = sampler.get("fusion", fusion_names());
  sampler.expect(info.student.head_blocks <= info.student.wan.layers, "more head_blocks than layers");
  sampler.expect(sampler.get<std::vector<double>>("inner_grid") == inner_grid(info),
                 "inner_grid is not that of inner_steps and inner_shift");
  sampler.expect(
      sampler.get<std::string>("inner_velocity") == (m.name == MethodName::kTm ? "instantaneous" : "average"),
      "inner_velocity is not that of the method");
}

void read_teacher_sampler(configs::SamplerOptions& s, const Object& sampler) {
  s.solver = sampler.get("solver", solver_names());
  s.steps = sampler.count("steps", kMostTeacherSteps);
  s.shift = sampler.at_least(1, "shift");
  s.cfg = sampler.at_least(0, "guidance_scale");
  s.grid = sampler.get("grid", grid_names());
  s.model_time = sampler.get("model_time", time_names());
  s.skip_block = sampler.get_or<int64_t>("skip_block", -1);
}

void read_latents(data::LatentHeader& header, const Object& latents) {
  header.latent_shape = latents.get<std::array<int64_t, 4>>("shape");
  for (const int64_t extent : header.latent_shape)
    latents.expect(extent >= 1, "shape holds no positive sizes");
  header.codec = latents.get<std::string>("codec");
  header.latent_mean = latents.get<std::vector<float>>("mean");
  header.latent_std = latents.get<std::vector<float>>("std");
  const auto channels = static_cast<size_t>(header.latent_shape[0]);
  latents.expect(header.latent_mean.size() == channels && header.latent_std.size() == channels,
                 "mean and std have not one number per channel");
  header.video_frames = latents.get_or<int64_t>("video_frames", 0);
  header.video_height = latents.get_or<int64_t>("video_height", 0);
  header.video_width = latents.get_or<int64_t>("video_width", 0);
  header.fps = latents.get_or<double>("fps", 0);
  header.text_encoder = latents.get_or<std::string>("text_encoder", "");
}

}  // namespace

std::vector<double> outer_grid(const ExportInfo& info) {
  return method::student_grid(static_cast<int>(info.method.outer_steps), info.method.outer_shift);
}

SafetensorsMetadata to_metadata(const ExportInfo& info) {
  return {{"format", "pt"},
          {"tmd.export", kVersion},
          {"tmd.method", info.is_teacher ? kTeacher : name_of(method_names(), info.method.name)},
          {"tmd.model", model_json(info.student.wan).dump()},
          {"tmd.sampler", sampler_json(info).dump()},
          {"tmd.latents", latents_json(info.latents).dump()},
          {"tmd.source", info.source}};
}

std::optional<ExportInfo> from_metadata(const SafetensorsMetadata& metadata, const model::WanConfig& config,
                                        const std::filesystem::path& file) {
  const auto version = metadata.find("tmd.export");
  if (version == metadata.end()) return {};
  check(version->second == kVersion, ErrorKind::kData,
        fmt::format("{} is an export of version {}; this program reads version {}", file.string(),
                    version->second, kVersion));
  ExportInfo info;
  info.student.wan = config;
  const auto method = metadata.find("tmd.method");
  check(method != metadata.end(), ErrorKind::kData, file.string() + " metadata tmd.method is missing");
  const Object sampler(metadata, "tmd.sampler", file);
  info.is_teacher = method->second == kTeacher;
  if (info.is_teacher) {
    read_teacher_sampler(info.sampler, sampler);
    sampler.expect(info.sampler.skip_block >= -1 && info.sampler.skip_block < config.layers,
                   fmt::format("skip_block {} is no block of the model", info.sampler.skip_block));
  } else {
    const auto found = std::ranges::find(method_names(), method->second,
                                         [](const auto& pair) { return std::string(pair.second); });
    check(found != method_names().end(), ErrorKind::kData,
          fmt::format("{} metadata tmd.method: unknown method \"{}\"", file.string(), method->second));
    info.method.name = found->first;
    read_sampler(info, sampler);
  }
  read_latents(info.latents, Object(metadata, "tmd.latents", file));
  if (metadata.contains("tmd.source")) info.source = metadata.at("tmd.source");
  return info;
}

}  // namespace tmd::orchestrator
