"""Exported students: `tmd sample` of a run against tmd_wan.py, and against diffusers' own pipeline for DMD2-v."""
import importlib.util

import h5py
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file

from runs import ROOT
from table import largest

SAME_SAMPLES = 1e-4  # largest absolute difference of float32 samples from the same noise
TIMES = 1.5e-3       # of diffusers' scheduler against those of training: it starts at 1, and training times are whole thousandths
MOVED = 0.1
SETTINGS = """
[model]
heads = 4
head_dim = 16
ffn = 96
layers = 4
channels = 16
text_dim = 384
text_length = 16
[train]
global_batch = 2
[method]
discriminator_hidden = 16
[teacher]
iterations = 10
lr = 1e-2
[stage1]
iterations = 5
lr = 1e-3
[stage2]
iterations = 5
lr = 1e-3
[preview]
every = -1
"""
STUDENTS = {
    "tmd gated": ["--run.stages=teacher,stage1,stage2"],
    "tmd concat": ["--run.stages=teacher,stage1,stage2", "--method.fusion=concat", "--method.inner_steps=3"],
    "tm": ["--method.name=tm", "--run.stages=teacher,stage1", "--method.inner_steps=4"],
    "dmd2v": ["--method.name=dmd2v", "--run.stages=teacher,stage2", "--method.outer_steps=4"],
}


def train(tmd, folder, name, words):
    config, run = folder / "student.ini", folder / f"run {name}"
    config.write_text(SETTINGS)
    tmd.call(["train", "--config", config, "--run", run, f"--data.files={ROOT / 'tests/golden/clips_slice.h5'}", *words])
    return run


def sample(tmd, weights, folder):
    """(samples, noise, embeddings) of `tmd sample`."""
    out, noise = folder / "samples", folder / "noise.safetensors"
    tmd.call(["sample", "--weights", weights, "--count", 3, "--seed", 11, "--output", out, "--write-noise", noise])
    with h5py.File(out / "samples.h5") as file:
        return torch.tensor(file["latents"][:]), load_file(noise), torch.tensor(file["text"][:]).float()


def require_movement(table, name, samples, noise):
    """A network that answers zero leaves the noise as it is, and every sampler would agree on that."""
    table.above("students", name, "f32", "rms of samples - noise", (samples - noise["noise"]).square().mean().sqrt().item(), MOVED)


def module_of(export):
    """The module that lies in the export, not the one of the source tree."""
    spec = importlib.util.spec_from_file_location("tmd_wan", export / "tmd_wan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare_python(table, name, export, samples, noise, text):
    student = module_of(export).load_student(export)
    theirs = student.sample(text, noise=noise["noise"], inner_noise=noise.get("inner_noise"))
    table.below("students", name, "f32", "tmd sample vs tmd_wan.py (max abs)", largest(theirs, samples), SAME_SAMPLES)


def compare_pipeline(table, name, export, samples, noise, text):
    """The README of the export: diffusers with exactly the times of training, and with the scheduler that it carries."""
    transformer = WanTransformer3DModel.from_pretrained(export, subfolder="transformer", torch_dtype=torch.float32)
    times = module_of(export).load_student(export).export.outer_grid[:0:-1]
    exact = FlowMatchEulerDiscreteScheduler(shift=1.0)
    set_timesteps = exact.set_timesteps
    exact.set_timesteps = lambda steps, device=None, **_: set_timesteps(sigmas=times, device=device)
    pipe = WanPipeline(tokenizer=None, text_encoder=None, vae=None, transformer=transformer, scheduler=exact)
    pipe.set_progress_bar_config(disable=True)
    frames, height, width = noise["noise"].shape[2:]
    theirs = pipe(prompt_embeds=text, latents=times[0] * noise["noise"], num_inference_steps=len(times), guidance_scale=1.0,
                  num_frames=4 * (frames - 1) + 1, height=8 * height, width=8 * width, output_type="latent").frames
    table.below("students", name, "f32", "tmd sample vs WanPipeline, times of training (max abs)", largest(theirs, samples),
                SAME_SAMPLES)
    carried = FlowMatchEulerDiscreteScheduler.from_pretrained(export, subfolder="scheduler")
    carried.set_timesteps(len(times))
    table.below("students", name, "scheduler", "times of the exported scheduler vs training (max abs)",
                largest(carried.sigmas[:-1], torch.tensor(times)), TIMES)


def compare_students(table, tmd, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in STUDENTS.items():
        run = train(tmd, folder, name, words)
        targets = ["diffusers", "wan"] if name == "dmd2v" else ["tmd"]
        found = sample(tmd, run, folder)
        require_movement(table, name, found[0], found[1])
        for target in targets:
            export = folder / f"export {name} for {target}"
            tmd.call(["export", run, "--for", target, "--dtype", "f32", "--output", export])
            compare_python(table, name if target == targets[0] else f"{name}, for {target}", export, *found)
            if target == "diffusers":
                compare_pipeline(table, name, export, *found)
