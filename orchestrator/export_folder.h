#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/wan_names.h"
#include "orchestrator/export_info.h"
#include "orchestrator/prompt_file.h"
#include "sharding/sharded_network.h"

namespace tmd::orchestrator {

/// Whom an export is for (`--for`).
enum class ExportTarget {
  kTmd,        ///< this program and tmd_wan.py: any student
  kWan,        ///< the original code: what follows is for stock Wan transformers only
  kDiffusers,  ///< WanTransformer3DModel and a scheduler
  kComfyUi,    ///< one file
};
/// "tmd", "wan", "diffusers", "comfyui". Throws kUsage for another word.
ExportTarget parse_target(const std::string& word);

struct ExportRequest {
  ExportTarget target = ExportTarget::kTmd;
  std::string dtype = "BF16";  ///< "F32", "F16" or "BF16"
  model::WanConfig config;
  std::optional<ExportInfo> info;  ///< empty: a published model without metadata of ours
  std::optional<Prompts> prompts;  ///< that travel with the export
};

/// Writes `network` as a new folder `output` for `request.target` (docs/formats/export.md): weights, sizes,
/// sampler, prompts, loader and a README.md. The folder appears as a whole. Rank 0 writes. Throws, on all
/// ranks: kUsage when `output` exists and is not an empty folder, or when the network has a flow head and the
/// target is stock Wan; kIo. Collective over: the network's world, which is its state group.
void write_export(sharding::ShardedNetwork& network, const ExportRequest& request,
                  const std::filesystem::path& output);

/// Throws kUsage when `output` exists and is not an empty folder.
void require_new_folder(const std::filesystem::path& output);

/// Throws kUsage when the network that `info` describes (empty: a published model) cannot be written for
/// `target`: stock Wan has no flow head, and "tmd" is for students.
void require_target(ExportTarget target, const std::optional<ExportInfo>& info);

/// Name of the embeddings file in an export.
inline constexpr const char* kEmbeddingsFile = "embeddings.h5";

/// The embeddings file of the export that `weights` is: its folder, the folder `transformer` in it, or a file
/// in one of these. Nothing where there is none.
std::optional<std::filesystem::path> embeddings_of(const std::filesystem::path& weights);

}  // namespace tmd::orchestrator
