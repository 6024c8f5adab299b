"""Writes tests/golden/wan-tiny: a random model in diffusers' layout and what diffusers makes of it. The tests in C++ read
it, so that they need no Python.

    "$(scripts/python-env | tail -n 1)" tests/parity/make_golden.py [FOLDER]

    model/             weights in two shards with index and config.json, as save_pretrained writes them; bfloat16, and
                       float32 where diffusers keeps float32
    case.safetensors   latents, timestep, text, output_gradient: the input
                       output, block.I, grad.NAME: of the model in float32; NAME in the original layout
                       output.bf16: of the model loaded in bfloat16
"""
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import diffusers
import torch
from safetensors.torch import save_file

import models
import runs
import shapes

FOLDER = runs.ROOT / "tests/golden/wan-tiny"
# Times that bfloat16 rounds to 936 and 832.
SHAPE = replace(shapes.TINY_A, times=(937.0, 833.0))
GRADIENTS = ("latents", "text", "patch_embedding.weight", "text_embedding.0.weight", "time_embedding.0.bias",
             "time_projection.1.bias", "blocks.0.modulation", "blocks.0.self_attn.norm_q.weight",
             "blocks.0.self_attn.q.weight", "blocks.0.norm3.weight", "blocks.1.cross_attn.k.weight",
             "blocks.1.cross_attn.norm_k.weight", "blocks.1.ffn.2.bias", "head.modulation", "head.head.weight")


def mixed_model(seed):
    """In bfloat16, but for the tensors that diffusers keeps in float32: those show whether they are rounded."""
    model = models.random_model(SHAPE, seed)
    for name, parameter in model.named_parameters():
        if not set(name.split(".")) & set(model._keep_in_fp32_modules):
            parameter.data = parameter.data.bfloat16()
    return model


def references(model_folder, inputs):
    """What diffusers makes of the weights in `model_folder`."""
    exact = runs.run_model(runs.load_diffusers(model_folder, torch.float32), inputs, range(SHAPE.layers), gradients=True)
    kept = {"output", *(f"block.{i}" for i in range(SHAPE.layers)), *(f"grad.{name}" for name in GRADIENTS)}
    rounded = runs.run_model(runs.load_diffusers(model_folder, torch.bfloat16), inputs)
    return {name: exact[name] for name in sorted(kept)} | {"output.bf16": rounded["output"]}


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    diffusers.utils.logging.disable_progress_bar()
    model = mixed_model(seed=11)
    model.save_pretrained(folder / "model", max_shard_size="200KB")
    inputs = models.random_inputs(SHAPE, seed=12)
    tensors = inputs | references(folder / "model", inputs)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "case.safetensors",
              metadata={"format": "pt"})
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {total / 1e3:.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
