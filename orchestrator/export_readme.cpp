#include "orchestrator/export_readme.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "model/wan_dit.h"
#include "orchestrator/diffusers_scheduler.h"

namespace tmd::orchestrator {
namespace {

// The times of a student, noise side first, without the last 0.
std::vector<double> times_of(const ExportInfo& info) {
  std::vector<double> times = outer_grid(info);
  times.erase(times.begin());
  std::ranges::reverse(times);
  return times;
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
           fmt::format("\nSampled with {} steps, shift {}, guidance {}.\n", info.sampler.steps,
                       info.sampler.shift, info.sampler.cfg);
  }
  const bool has_head = workers::is_decoupled(info.method.name);
  text += fmt::format(
      "\nA student that makes a sample in {} step{}, at the times {}. **Guidance is part of its weights: "
      "guidance_scale 1 (CFG off), no negative prompt.**\n",
      info.method.outer_steps, info.method.outer_steps == 1 ? "" : "s", fmt::join(times_of(info), ", "));
  if (has_head) {
    text += fmt::format("Each step runs the backbone once and the last {} blocks as a flow head {} time{}.\n",
                        info.student.head_blocks, info.method.inner_steps,
                        info.method.inner_steps == 1 ? "" : "s");
  }
  return (has_head ? "# TMD student\n\n" : "# DMD2-v student\n\n") + text;
}

std::string for_python(const char* path) {
  return fmt::format(
      "\nPython (torch and diffusers), with exactly the times of training:\n\n"
      "    python tmd_wan.py {} --embeddings embeddings.h5 --output latents.safetensors --seed 0\n",
      path);
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
  const bool is_teacher = request.info->is_teacher;
  text += fmt::format(
      "    scheduler = {}.from_pretrained(\"THIS FOLDER\", subfolder=\"scheduler\")\n"
      "    pipe = WanPipeline.from_pretrained(\"Wan-AI/Wan2.1-T2V-1.3B-Diffusers\", "
      "transformer=transformer, scheduler=scheduler)\n",
      is_teacher ? "UniPCMultistepScheduler" : "FlowMatchEulerDiscreteScheduler");
  if (is_teacher) {
    return text + fmt::format("    pipe(prompt, num_inference_steps={}, guidance_scale={})\n",
                              request.info->sampler.steps, request.info->sampler.cfg);
  }
  const nlohmann::json config = nlohmann::json::parse(euler_scheduler_json(outer_grid(*request.info)));
  const auto steps = static_cast<int>(request.info->method.outer_steps);
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
             steps,
             fmt::join(euler_scheduler_times(steps, config["shift"], config.value("shift_terminal", 0.0)),
                       ", "),
             fmt::join(times_of(*request.info), ", "), fmt::join(times_of(*request.info), ", "));
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
  const bool is_student = request.info && !request.info->is_teacher;
  std::string text = what_it_is(request);
  text +=
      "\ntmd, with nothing but this folder and an embeddings file:\n\n"
      "    tmd sample --weights . --prompts embeddings.h5 --output samples\n";
  if (is_student && request.target != ExportTarget::kComfyUi) text += for_python(".");
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
