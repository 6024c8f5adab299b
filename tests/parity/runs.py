"""One network, one input, run there (diffusers) and here (`tmd forward`). Both give the same dictionary:

    output        [B, C, T, H, W]
    block.I       [B, N, D], of the blocks that were asked for
    grad.latents, grad.text, grad.NAME    gradients of sum(output * output_gradient), NAME in the original layout
"""
import json
import os
import subprocess
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from models import original_name

ROOT = Path(__file__).resolve().parents[2]


class Sinusoid64(torch.nn.Module):
    """The time sinusoid in float64 instead of diffusers' float32, for comparisons of all the rest."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, time):
        half = self.size // 2
        angles = time.double()[:, None] * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        return torch.cat([angles.cos(), angles.sin()], 1).float()


def load_diffusers(folder, dtype):
    """As a user loads it: with bfloat16 diffusers keeps some parts in float32."""
    return WanTransformer3DModel.from_pretrained(folder, torch_dtype=dtype).eval()


def run_model(model, inputs, blocks=(), gradients=False):
    dtype = model.patch_embedding.weight.dtype
    latents, text = (inputs[name].to(dtype, copy=True).requires_grad_(gradients) for name in ("latents", "text"))
    found = {}
    hooks = [model.blocks[i].register_forward_hook(
        lambda _module, _arguments, result, i=i: found.update({f"block.{i}": result.detach()})) for i in blocks]
    with torch.set_grad_enabled(gradients):
        output = model(latents, inputs["timestep"], text, return_dict=False)[0]
    for hook in hooks:
        hook.remove()
    found["output"] = output.detach()
    if gradients:
        model.zero_grad()
        (output.float() * inputs["output_gradient"]).sum().backward()
        found |= {"grad.latents": latents.grad, "grad.text": text.grad}
        found |= {f"grad.{original_name(name)}": p.grad for name, p in model.named_parameters()}
    return found


class Tmd:
    """`tmd` with a folder for the files that go in and out."""

    def __init__(self, program, folder, threads):
        self.program, self.folder, self.threads = Path(program).resolve(), Path(folder), threads

    def call(self, arguments, ranks=None):
        """Its output; `ranks`: under mpirun."""
        words = [str(self.program), *map(str, arguments)]
        if ranks:
            words = ["bash", "-c", '. scripts/mpi-env; mpi "$@"', "mpi", str(ranks), *words]
        threads = self.threads if not ranks else 1
        result = subprocess.run(words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode:
            raise RuntimeError(f"{' '.join(words)}\nended with {result.returncode}:\n{result.stdout}")
        return result.stdout

    def forward(self, weights, inputs, dtype="f32", blocks=(), gradients=False, ranks=None, mesh=()):
        out = self.folder / "out.safetensors"
        self.report(weights, inputs, out, dtype, blocks, gradients, ranks, mesh)
        found = load_file(out)
        out.unlink()
        return {self._original(name): tensor for name, tensor in found.items()}

    def report(self, weights, inputs, out, dtype="f32", blocks=(), gradients=False, ranks=None, mesh=()):
        """Runs `tmd forward` and returns what --report says. `mesh`: ("sequence", 2), ..."""
        in_file, report = self.folder / "in.safetensors", self.folder / "report.json"
        save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, in_file)
        words = ["forward", "--weights", weights, "--inputs", in_file, "--output", out, "--dtype", dtype, "--report", report]
        words += ["--blocks", ",".join(map(str, blocks))] if blocks else []
        words += ["--gradients"] if gradients else []
        words += [f"--mesh.{axis}={extent}" for axis, extent in mesh]
        self.call(words, ranks)
        return json.loads(report.read_text())

    @staticmethod
    def _original(name):
        """Gradients come under the names of the file."""
        kind, _, parameter = name.partition("grad.")
        is_diffusers = parameter.startswith(("condition_embedder", "proj_out", "scale_shift")) or any(
            part in parameter for part in (".attn1.", ".attn2.", ".scale_shift_table", ".norm2.", ".ffn.net"))
        return f"grad.{original_name(parameter)}" if kind == "" and is_diffusers else name
