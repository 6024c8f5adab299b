#include "orchestrator/export_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "model/tmd_wan_module.h"
#include "model/wan_weights.h"
#include "model/weights_file.h"
#include "orchestrator/diffusers_scheduler.h"
#include "orchestrator/export_readme.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLargestFile = 5'000'000'000;  // as the published models are cut
constexpr const char* kPublishedStem = "diffusion_pytorch_model";

// Where the weights of a target lie and what surrounds them.
struct Layout {
  fs::path folder;  // of the weights, inside the export
  std::string stem;
  model::WanNaming naming = model::WanNaming::kOriginal;
  uint64_t largest_file = 0;
};

Layout layout_of(ExportTarget target, const fs::path& output) {
  switch (target) {
    case ExportTarget::kTmd:
      return {"", "student"};
    case ExportTarget::kWan:
      return {"", kPublishedStem, model::WanNaming::kOriginal, kLargestFile};
    case ExportTarget::kDiffusers:
      return {"transformer", kPublishedStem, model::WanNaming::kDiffusers, kLargestFile};
    case ExportTarget::kComfyUi:
      return {"", output.filename().string()};  // users put it among others, so it carries a name of its own
  }
  return {};
}

void write_beside_weights(const fs::path& folder, const Layout& layout, const ExportRequest& request,
                          const std::string& file_name) {
  const bool has_config = request.target == ExportTarget::kWan || request.target == ExportTarget::kDiffusers;
  if (has_config)
    publish_file(folder / layout.folder / "config.json", model::config_json(request.config, layout.naming));
  if (request.target == ExportTarget::kDiffusers && request.info) {
    create_folders(folder / "scheduler");
    publish_file(folder / "scheduler" / "scheduler_config.json", diffusers_scheduler_json(*request.info));
  }
  const bool is_student = request.info && request.info->is_student();
  if (is_student && request.target != ExportTarget::kComfyUi)
    publish_file(folder / "tmd_wan.py", model::tmd_wan_module());
  if (request.prompts) write_prompts(folder / kEmbeddingsFile, *request.prompts);
  publish_file(folder / "README.md", export_readme(request, file_name));
}

}  // namespace

ExportTarget parse_target(const std::string& word) {
  if (word == "tmd") return ExportTarget::kTmd;
  if (word == "wan") return ExportTarget::kWan;
  if (word == "diffusers") return ExportTarget::kDiffusers;
  if (word == "comfyui") return ExportTarget::kComfyUi;
  throw Error(ErrorKind::kUsage, "tmd export: --for " + word + " is not known",
              "take tmd, wan, diffusers or comfyui");
}

void require_new_folder(const fs::path& output) {
  check(!fs::exists(output) || (fs::is_directory(output) && fs::is_empty(output)), ErrorKind::kUsage,
        fmt::format("{} exists already", output.string()), "name a new folder with --output, or remove it");
}

void require_target(ExportTarget target, const std::optional<ExportInfo>& info) {
  if (info && info->is_student()) {
    const workers::MethodOptions& m = info->method;
    check(m.name != workers::MethodName::kMeanFlow && m.form == method::InnerForm{} &&
              m.outer_step == method::OuterStep::kDeterministic,
          ErrorKind::kUsage,
          "students of MeanFlow, of another method.inner_target, method.head_output or method.outer_sampler "
          "are "
          "not exported",
          "`tmd sample` and `tmd eval` take the run itself");
  }
  check(!(info && info->has_flow_head()) || target == ExportTarget::kTmd, ErrorKind::kUsage,
        "this student has a flow head, which no stock Wan transformer has",
        "--for tmd writes it with tmd_wan.py, a Python module that loads and samples it");
  check((info && info->is_student()) || target != ExportTarget::kTmd, ErrorKind::kUsage,
        "--for tmd is for students; this is a stock Wan transformer", "take --for wan, diffusers or comfyui");
}

std::optional<fs::path> embeddings_of(const fs::path& weights) {
  const fs::path given = plain_path(weights);
  const fs::path folder = fs::is_directory(given) ? given : given.parent_path();
  for (const fs::path& place : {folder, folder.filename() == "transformer" ? folder.parent_path() : folder}) {
    if (fs::exists(place / kEmbeddingsFile)) return place / kEmbeddingsFile;
  }
  return {};
}

void write_export(sharding::ShardedNetwork& network, const ExportRequest& request, const fs::path& given) {
  comm::Communicator& world = network.mesh().world();
  const bool writes = world.rank() == 0;
  const fs::path output = plain_path(given);
  const fs::path temporary = output.string() + fmt::format(".tmp-{}", getpid());
  const Layout layout = layout_of(request.target, output);
  comm::run_agreed(world, [&] {
    require_target(request.target, request.info);
    require_new_folder(output);
    if (writes) create_folders(temporary / layout.folder);
  });
  try {
    comm::run_agreed(world, [&] {
      const model::SaveOptions options{
          .dtype = request.dtype,
          .name_in_file = [&](const std::string& name) { return model::name_in(layout.naming, name); },
          .metadata = request.info ? to_metadata(*request.info) : SafetensorsMetadata{{"format", "pt"}},
          .largest_file = layout.largest_file};
      model::save_weights(network, temporary / layout.folder, layout.stem, options);
    });
    comm::run_agreed(world, [&] {
      if (!writes) return;
      write_beside_weights(temporary, layout, request, layout.stem + ".safetensors");
      publish_folder(temporary, output);
    });
  } catch (...) {
    try {
      if (writes) remove_tree(temporary);
    } catch (const Error& leftover) {
      log_warning("{}", leftover.what());  // what went wrong first is what is thrown
    }
    throw;
  }
}

}  // namespace tmd::orchestrator
