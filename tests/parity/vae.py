"""`tmd vae` against diffusers' AutoencoderKLWan, with random weights of the published architecture at a smaller width."""
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file

from table import largest

LARGEST = 1e-4  # float32, largest absolute difference
WIDTH = 16      # of the first level; 96 in the published model


def random_vae():
    torch.manual_seed(7)
    vae = AutoencoderKLWan(base_dim=WIDTH).eval()
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name.endswith("gamma"):
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
    return vae


def normalise(vae, latents, inverse=False):
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return latents * std + mean if inverse else (latents - mean) / std


def run_tmd(tmd, folder, direction, tensors, *switches):
    inputs, out = folder / "vae_in.safetensors", folder / "vae_out.safetensors"
    save_file(tensors, inputs)
    tmd.call(["vae", direction, "--weights", folder / "diffusion_pytorch_model.safetensors", "--inputs", inputs, "--output", out,
              *switches])
    return load_file(out)


def compare_vae(table, tmd, folder):
    vae = random_vae()
    vae.save_pretrained(folder)
    torch.manual_seed(8)
    latents = 1.5 * torch.randn(1, 16, 4, 6, 10)
    video = torch.rand(1, 3, 13, 48, 80) * 2 - 1
    with torch.no_grad():
        decoded = vae.decode(normalise(vae, latents, inverse=True)).sample
        encoded = normalise(vae, vae.encode(video).latent_dist.mean)
    for what, switches in (("whole clip", ()), ("streaming", ("--streaming",))):
        ours = run_tmd(tmd, folder, "decode", {"latents": latents}, *switches)["video"]
        table.below("vae", "diffusers", "f32", f"decode, {what} (max abs)", largest(ours, decoded), LARGEST)
        ours = run_tmd(tmd, folder, "encode", {"video": video}, *switches)["latents"]
        table.below("vae", "diffusers", "f32", f"encode, {what} (max abs)", largest(ours, encoded), LARGEST)
