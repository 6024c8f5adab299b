#include <chrono>
#include <fmt/format.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/error.h"
#include "base/input_file.h"
#include "base/log.h"
#include "comm/agree.h"
#include "model/taew.h"
#include "model/wan_vae.h"
#include "orchestrator/arguments.h"
#include "orchestrator/job.h"
#include "orchestrator/tensor_file.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd vae decode|encode --weights FILE --inputs IN.safetensors --output OUT.safetensors [--dtype f32|f64] [--streaming]

Runs the VAE of Wan2.1 between normalised latents and videos, on one rank. FILE is its safetensors file in original or
diffusers names, or, to decode only, that of the small substitute TAEW2.1.

  decode    IN holds `latents` [B, 16, T, h, w], normalised; OUT gets `video` [B, 3, 4T - 3, 8h, 8w], RGB in [-1, 1]
  encode    IN holds `video`, F = 4k + 1 frames, height and width multiples of 8; OUT gets `latents`: the normalised mean

--streaming computes one latent frame after the other: the same numbers, with memory that does not grow with the clip. It is
refused with TAEW2.1, which always does.

  tmd vae decode --weights Wan2.1_VAE.safetensors --inputs latents.safetensors --output video.safetensors --streaming
)";

// TAEW2.1 numbers its layers; the VAE names them.
bool is_taew(const SafetensorsFile& weights) { return weights.find("decoder.1.weight") != nullptr; }

NamedTensors run_network(const std::string& direction, const SafetensorsFile& weights,
                         const SafetensorsFile& inputs, at::ScalarType type, bool streaming) {
  const at::NoGradGuard no_grad;
  if (direction == "decode") {
    const at::Tensor latents = read_tensor(inputs, "latents", 5, "[B, 16, T, h, w]").to(type);
    if (is_taew(weights)) return {{"video", model::TaewDecoder::load(weights, type).decode(latents)}};
    const model::WanVae vae = model::WanVae::load(weights, type);
    return {{"video", streaming ? vae.decode_by_frames(latents) : vae.decode(latents)}};
  }
  check(!is_taew(weights), ErrorKind::kUsage, "tmd vae encode: TAEW2.1 is read for decoding only",
        "name the weights of the VAE");
  const at::Tensor video = read_tensor(inputs, "video", 5, "[B, 3, F, H, W]").to(type);
  const model::WanVae vae = model::WanVae::load(weights, type);
  return {{"latents", streaming ? vae.encode_by_frames(video) : vae.encode(video)}};
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Arguments arguments("vae", words, {"weights", "inputs", "output", "dtype"}, {"streaming"});
  const std::string direction = arguments.plain().size() == 1 ? arguments.plain().front() : "";
  check(direction == "decode" || direction == "encode", ErrorKind::kUsage, "tmd vae: say decode or encode",
        "tmd vae --help shows an example");
  check(world.size() == 1, ErrorKind::kUsage, "tmd vae runs on one rank");
  const std::string dtype = arguments.value_or("dtype", "f32");
  check(dtype == "f32" || dtype == "f64", ErrorKind::kUsage, "tmd vae: there is no --dtype " + dtype,
        "take f32 or f64");
  set_compute_threads(world, 0);
  const std::string output = arguments.required("output");
  require_folder_of(output);
  const SafetensorsFile weights(input_file(arguments.required("weights")));
  const SafetensorsFile inputs(input_file(arguments.required("inputs")));
  check(direction == "encode" || !is_taew(weights) || !arguments.has("streaming"), ErrorKind::kUsage,
        "tmd vae decode: TAEW2.1 has no --streaming", "it decodes one frame after the other anyway");
  const auto start = std::chrono::steady_clock::now();
  const NamedTensors out = run_network(direction, weights, inputs, dtype == "f64" ? at::kDouble : at::kFloat,
                                       arguments.has("streaming"));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  write_tensors(output, out);
  log_info("wrote {} after {:.2f} s", output, took.count());
  return 0;
}

}  // namespace

const Verb kVaeVerb{"vae", "decode or encode latents of Wan's VAE", kHelp, run};

}  // namespace tmd::orchestrator
