#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/safetensors.h"
#include "configs/config.h"
#include "data/latent_header.h"

namespace tmd::orchestrator {

/// What the metadata of exported weights say beside the weights (docs/formats/export.md): enough to sample
/// from them without the run that made them.
struct ExportInfo {
  bool is_teacher = false;          ///< sampled by `sampler`; else a student of `method`
  workers::MethodOptions method;    ///< names, steps and shifts of a student
  configs::SamplerOptions sampler;  ///< of a teacher
  model::TmdStudentConfig student;  ///< sizes; head blocks and fusion count for students with a flow head
  data::LatentHeader latents;  ///< shape, codec, mean and std, video sizes; `samples` and text are not said
  std::string source = "{}";   ///< JSON: run, step, whether averaged weights

  bool is_student() const { return !is_teacher; }
  /// Whether the network has more than a stock Wan transformer.
  bool has_flow_head() const { return is_student() && workers::is_decoupled(method.name); }
};

/// The most steps of a student and of a teacher's sampler that a user or a file may ask for, as the options
/// `method.outer_steps`, `method.inner_steps` and `sampler.steps` bound them.
inline constexpr int64_t kMostStudentSteps = 100, kMostTeacherSteps = 10'000;

/// The keys "format" and "tmd.*" of an export.
SafetensorsMetadata to_metadata(const ExportInfo& info);

/// The inverse; nothing for weights without "tmd.export". `config`: sizes of the network that the metadata
/// stand in. Throws kData that names `file` and the key: another version, a key that is missing or of another
/// type, steps, shifts or guidance outside the bounds of the options, an unknown method, grids that this
/// version does not make from the steps and shifts beside them.
std::optional<ExportInfo> from_metadata(const SafetensorsMetadata& metadata, const model::WanConfig& config,
                                        const std::filesystem::path& file);

/// The outer grid 0 = t_0 < ... < t_M of a student.
std::vector<double> outer_grid(const ExportInfo& info);

}  // namespace tmd::orchestrator
