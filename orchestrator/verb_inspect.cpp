#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <map>

#include "base/error.h"
#include "checkpoint/manifest.h"
#include "comm/agree.h"
#include "configs/config.h"
#include "data/data_set.h"
#include "orchestrator/arguments.h"
#include "orchestrator/describe_weights.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHelp =
    R"(tmd inspect FILE|DIR...    says what a file or folder is: data set, weights, checkpoint, run
tmd inspect options        lists every configuration key with default, legal values and meaning

  tmd inspect clips.h5 runs/clips runs/clips/checkpoints/step_00000400 Wan2.1-T2V-1.3B exported
)";

std::string shape_text(const auto& shape) {
  std::string text;
  for (int64_t extent : shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text;
}

void describe_data(const fs::path& file) {
  const data::DataSet set({file});
  const data::LatentHeader& h = set.header();
  std::cout << fmt::format("{}: tmd-latents, {} samples{}\n", file.string(), h.samples,
                           h.has_latents ? "" : " (prompts only)");
  if (h.has_latents) {
    std::cout << fmt::format("  latents {} (codec {}), video {} frames of {} x {}\n",
                             shape_text(h.latent_shape), h.codec, h.video_frames, h.video_height,
                             h.video_width);
  }
  std::cout << fmt::format("  text {} ({}), negative prompt: {}, checksums: {}\n", shape_text(h.text_shape),
                           h.text_encoder, h.has_negative_text ? "'" + h.negative_prompt + "'" : "none",
                           h.has_checksum ? "yes" : "no");
}

void describe_checkpoint(const fs::path& folder) {
  const checkpoint::Manifest manifest = checkpoint::read_manifest(folder);
  const checkpoint::Description& d = manifest.description;
  uint64_t bytes = 0;
  std::map<std::string, uint64_t> by_network;
  for (const checkpoint::Part& part : manifest.parts) {
    bytes += part.size_bytes;
    by_network[part.key.substr(0, part.key.find('.'))] += part.size_bytes;
  }
  std::cout << fmt::format("{}: checkpoint of step {}, {:.1f} MB, mesh {}, written by {}\n", folder.string(),
                           d.step, static_cast<double>(bytes) / 1e6, d.mesh.to_string(), d.code_version);
  for (const auto& [network, size] : by_network) {
    std::cout << fmt::format("  {}: {:.1f} MB\n", network, static_cast<double>(size) / 1e6);
  }
  std::cout << "  state: " << d.state.dump() << "\n";
}

void describe_run(const fs::path& folder) {
  std::cout << folder.string() << ": run\n";
  const fs::path checkpoints = folder / "checkpoints";
  if (!fs::exists(checkpoints)) return;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    if (fs::exists(entry.path() / checkpoint::kManifestName)) describe_checkpoint(entry.path());
  }
}

void describe(const std::string& word) {
  if (word == "options") {
    configs::Config config;
    std::cout << configs::declare_options(config)->help();
    return;
  }
  const fs::path path = word;
  check(fs::exists(path), ErrorKind::kData, "no such file: " + word);
  if (fs::exists(path / checkpoint::kManifestName)) return describe_checkpoint(path);
  if (fs::exists(path / "config.ini")) return describe_run(path);
  if (is_weights(path)) {
    std::cout << describe_weights(path);
    return;
  }
  check(fs::is_regular_file(path), ErrorKind::kData, word + " is neither a run, a checkpoint nor weights");
  describe_data(path);
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Arguments arguments("inspect", words, {});
  check(!arguments.plain().empty(), ErrorKind::kUsage, "tmd inspect: name a file or folder",
        "tmd inspect --help");
  comm::run_agreed(world, [&] {
    if (world.rank() != 0) return;
    for (const std::string& word : arguments.plain()) describe(word);
  });
  return 0;
}

}  // namespace

const Verb kInspectVerb{"inspect", "say what a file or folder is", kHelp, run};

}  // namespace tmd::orchestrator
