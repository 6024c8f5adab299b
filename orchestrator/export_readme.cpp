#include "orchestrator/export_readme.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/wan_dit.h"
#include "orchestrator/diffusers_scheduler.h"

namespace tmd::orchestrator {
namespace {

// Students always are.
bool is_euler(const ExportInfo& info) {
  return info.is_student() || info.sampler.solver == configs::SamplerOptions::Solver::kEuler;
}

double largest_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

std::string what_it_is(const ExportRequest& request) {
  const model::WanConfig& c = request.config;
  std::string text = fmt::format(
      "A Wan text-to-video transformer: {} blocks, width {} ({} heads of {}), FFN {}, {} latent channels, "
      "text {} x {}; "
      "{}.\n",
      c.layers, c.width(), c.heads, c.head_dim, c.ffn, c.channels, c.text_length, c.text_dim, request.dtype);
  if (!request.info) return "# Wan transformer\n\n" + text;
  const ExportInfo& info = *request.info;
  if (info.is_teacher) {
    return "# Wan teacher\n\n" + text +
           fmt::format("\nSampled with {} {} steps, shift {}, guidance {}.\n", info.sampler.steps,
                       is_euler(info) ? "Euler" : "UniPC", info.sampler.shift, info.sampler.cfg);
  }
  const bool has_head = info.has_flow_head();
  text += fmt::format(
      "\nA student that makes a sample in {} step{}, at the times {}. **Guidance is part of its weights: "
      "guidance_scale 1 (CFG off), no negative prompt.**\n",
      info.method.outer_steps, info.method.outer_steps == 1 ? "" : "s",
      fmt::join(sampling_times(info), ", "));
  if (has_head) {
    text += fmt::format("Each step runs the backbone once and the last {} blocks as a flow head {} time{}.\n",
                        info.student.head_blocks, info.method.inner_steps,
                        info.method.inner_steps == 1 ? "" : "s");
  }
  return (has_head ? "# TMD student\n\n" : "# DMD2-v student\n\n") + text;
}

// Embeddings that a reader of the README has.
const char* prompts_file(const ExportRequest& request) {
  return request.prompts ? kEmbeddingsFile : "PROMPTS.h5";
}

std::string for_python(const ExportRequest& request) {
  return fmt::format(
      "\nPython (torch and diffusers), with exactly the times of training:\n\n"
      "    python tmd_wan.py . --embeddings {} --output latents.safetensors --seed 0\n",
      prompts_file(request));
}

std::string for_diffusers(const ExportRequest& request) {
  std::string text =
      "\ndiffusers: put it into a Wan pipeline, whose VAE and text encoder it shares.\n\n"
      "    transformer = WanTransformer3DModel.from_pretrained(\"THIS FOLDER\", subfolder=\"transformer\", "
      "torch_dtype=torch.bfloat16)\n";
  if (!request.info) {
    return text +
           "    pipe = WanPipeline.from_pretrained(\"Wan-AI/Wan2.1-T2V-1.3B-Diffusers\", "
           "transformer=transformer)\n";
  }
  const ExportInfo& info = *request.info;
  text += fmt::format(
      "    scheduler = {}.from_pretrained(\"THIS FOLDER\", subfolder=\"scheduler\")\n"
      "    pipe = WanPipeline.from_pretrained(\"Wan-AI/Wan2.1-T2V-1.3B-Diffusers\", "
      "transformer=transformer, scheduler=scheduler)\n",
      is_euler(info) ? "FlowMatchEulerDiscreteScheduler" : "UniPCMultistepScheduler");
  if (info.is_teacher) {
    return text +
           fmt::format(
               "    pipe(prompt, num_inference_steps={}, guidance_scale={})\n\n"
               "In these steps the scheduler's times differ by up to {:.4f} from those of tmd sample.\n",
               info.sampler.steps, info.sampler.cfg,
               largest_distance(diffusers_times(info), sampling_times(info)));
  }
  const auto steps = static_cast<int>(info.method.outer_steps);
  return text +
         fmt::format(
             "    pipe(prompt, num_inference_steps={}, guidance_scale=1.0)\n\n"
             "This scheduler can only start at 1: it visits {:.4f}, where the student was trained at {}. For "
             "exactly "
             "those:\n\n"
             "    exact = FlowMatchEulerDiscreteScheduler(shift=1.0)\n"
             "    set_timesteps = exact.set_timesteps\n"
             "    exact.set_timesteps = lambda steps, device=None, **_: set_timesteps(sigmas=[{}], "
             "device=device)\n"
             "    pipe.scheduler = exact\n",
             steps, fmt::join(diffusers_times(info), ", "), fmt::join(sampling_times(info), ", "),
             fmt::join(sampling_times(info), ", "));
}

std::string for_comfyui(const ExportRequest& request, const std::string& file) {
  std::string text = fmt::format(
      "\nComfyUI: put `{}` into `models/diffusion_models` and load it with the node Load "
      "Diffusion Model.\n",
      file);
  if (!request.info || request.info->is_teacher) return text;
  return text +
         fmt::format(
             "KSampler: {} steps, cfg 1.0, sampler euler, scheduler simple; before it ModelSamplingSD3 with "
             "shift {}.\n",
             request.info->method.outer_steps, request.info->method.outer_shift);
}

}  // namespace

std::string export_readme(const ExportRequest& request, const std::string& weights_file) {
  const bool is_student = request.info && request.info->is_student();
  std::string text = what_it_is(request);
  text += fmt::format(
      "\ntmd, with nothing but this folder and an embeddings file{}:\n\n"
      "    tmd sample --weights . --prompts {} --output samples\n",
      request.prompts ? "" : " (tmd's scripts/embed_prompts.py makes one)", prompts_file(request));
  if (is_student && request.target != ExportTarget::kComfyUi) text += for_python(request);
  if (request.target == ExportTarget::kDiffusers) text += for_diffusers(request);
  if (request.target == ExportTarget::kComfyUi) text += for_comfyui(request, weights_file);
  if (request.target == ExportTarget::kWan) {
    text +=
        "\nThe original Wan code: name this folder where it expects the model's folder (config.json and "
        "diffusion_pytorch_model*.safetensors).\n";
  }
  if (request.prompts) {
    text += fmt::format(
        "\n`embeddings.h5`: {} prompts with their embeddings{} (a tmd-latents file without latents).\n",
        request.prompts->rows.size(), request.prompts->negative ? " and the negative prompt's" : "");
  }
  return text;
}

}  // namespace tmd::orchestrator
