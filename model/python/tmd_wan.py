#!/usr/bin/env python3
"""Loads a few-step text-to-video student that `tmd export` wrote, and samples from it.

    from tmd_wan import load_student

    student = load_student("export", dtype=torch.bfloat16, device="cuda")
    latents = student.sample(text)      # text [B, S, E]: umT5 embeddings, rows behind the text's end are zero

or from the command line, with the embeddings in a tmd-latents file:

    python tmd_wan.py export --embeddings prompts.h5 --output latents.safetensors --seed 0

Needs torch, diffusers and safetensors; the command line also h5py. The latents are normalised, as everywhere in tmd:
multiply by `std` and add `mean` of student.export.latents, per channel, before they go to the decoder.

Equation numbers are those of "Transition Matching Distillation for Fast Video Generation" (TMD, arXiv 2601.09881). In all
shapes B is the batch, [C, T, H, W] the latent, N its tokens (T H/2 W/2), D the width of the transformer, S x E the text.
Times are 0 (data) to 1 (noise); the network sees 1000 times that.
"""
import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Sequence, Union

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

FORMAT_VERSION = "1"
NETWORK_TIME = 1000.0  # network time units in one unit of flow time
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
_STEM = "diffusion_pytorch_model.safetensors"  # weights of the original code and of diffusers
EXIT_USAGE, EXIT_DATA, EXIT_IO = 64, 65, 74  # as the exit codes of tmd

Times = Union[float, Tensor]


class ExportError(ValueError):
    """The folder or file is not an export that this module can load; the message lists everything that is wrong."""


class Export(NamedTuple):
    """What the metadata of an export says; the format page docs/formats/export.md describes every key."""

    method: str     # "tmd", "tm" or "dmd2v"
    model: dict     # heads, head_dim, ffn, layers, channels, text_dim, text_length, freq_dim, eps
    sampler: dict   # outer_grid and, unless dmd2v, inner_grid, head_blocks, fusion, inner_velocity
    latents: dict   # shape [C, T, H, W], codec, mean, std

    @property
    def outer_grid(self) -> list:
        """0 = t_0 < ... < t_M."""
        return self.sampler["outer_grid"]

    @property
    def inner_grid(self) -> list:
        """0 = s_0 < ... < s_N; not for dmd2v."""
        return self.sampler["inner_grid"]

    @property
    def has_inner_flow(self) -> bool:
        return self.method != "dmd2v"


class MainFeature(NamedTuple):
    """What the backbone hands to the flow head."""

    tokens: Tensor   # [B, N, D], the main feature m
    context: Tensor  # [B, S, D], the embedded text


# ---------------------------------------------------------------------------------------------------------- network parts


def time_sinusoid(time: Tensor, size: int) -> Tensor:
    """Sinusoid of network times [B] -> [B, size] float64: cosines first, frequencies 10000^(-i / (size / 2)).

    In float64, because diffusers' own one rounds the angles to float32 and a time that was rounded to bfloat16 is another
    time (999 would be 1000). On the CPU, because not every device has float64.
    """
    half = size // 2
    frequencies = 10000.0 ** (torch.arange(half, dtype=torch.float64) / -half)
    angles = time.to("cpu", torch.float64)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def patchify(latent: Tensor) -> Tensor:
    """[B, C, T, H, W] -> [B, N, 4 C]; a patch is ordered (channel, row, column), as the patch embedding's weight."""
    batch, channels, frames, height, width = latent.shape
    patches = latent.reshape(batch, channels, frames, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 3, 5, 1, 4, 6).reshape(batch, frames * (height // 2) * (width // 2), channels * 4)


def unpatchify(patches: Tensor, frames: int, height: int, width: int) -> Tensor:
    """[B, N, 4 C] -> [B, C, T, H, W]; here a patch is ordered (row, column, channel)."""
    batch, channels = patches.shape[0], patches.shape[2] // 4
    patches = patches.reshape(batch, frames, height // 2, width // 2, 2, 2, channels)
    return patches.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, channels, frames, height, width)


def _normal(name: str, given: Optional[Tensor], shape: tuple, generator: Optional[torch.Generator]) -> Tensor:
    if given is None:
        return torch.randn(shape, generator=generator, device=generator.device if generator else "cpu")
    if tuple(given.shape) != shape:
        raise ValueError(f"{name} has shape {list(given.shape)}, expected {list(shape)}")
    return given.float()


class GatedFusion(nn.Module):
    """A modulated feed-forward layer on the patches of y_s, then one gate between it and m (TMD App. A.1)."""

    def __init__(self, width: int, ffn: int, eps: float):
        super().__init__()
        self.eps = eps
        self.ffn = nn.Sequential(nn.Linear(width, ffn), nn.GELU(approximate="tanh"), nn.Linear(ffn, width))
        self.modulation = nn.Parameter(torch.zeros(1, 3, width))
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, m: Tensor, patches: Tensor, e6: Tensor) -> Tensor:
        """m, patches [B, N, D]; e6 [B, 6, D] of s alone -> [B, N, D]. Sums and the norm are in float32."""
        shift, scale, gate = (self.modulation + e6[:, 3:6].float()).split(1, dim=1)  # [B, 1, D] each
        normed = F.layer_norm(patches.float(), patches.shape[-1:], eps=self.eps) * (1 + scale) + shift
        z = patches.float() + gate * self.ffn(normed.to(patches.dtype)).float()
        return torch.lerp(m.float(), z, torch.sigmoid(self.gate)).to(m.dtype)


class ConcatFusion(nn.Module):
    """One linear layer on m and the patches of y_s, side by side (TMD App. B.3)."""

    def __init__(self, width: int):
        super().__init__()
        self.concat = nn.Linear(2 * width, width)

    def forward(self, m: Tensor, patches: Tensor, e6: Tensor) -> Tensor:
        return self.concat(torch.cat([m, patches], dim=2))


class FlowHeadParts(nn.Module):
    """The tensors `tmd.*`: what a TMD student has beyond a Wan transformer. Attribute names are tensor names."""

    def __init__(self, model: dict, fusion: str):
        super().__init__()
        width = model["heads"] * model["head_dim"]
        self.delta_embedding = nn.Sequential(nn.Linear(model["freq_dim"], width), nn.SiLU(), nn.Linear(width, width))
        self.delta_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.fusion = ConcatFusion(width) if fusion == "concat" else GatedFusion(width, model["ffn"], model["eps"])


class Student(nn.Module):
    """A few-step student. load_student makes it; `export` holds its metadata, `wan` its Wan transformer."""

    def __init__(self, export: Export, wan: WanTransformer3DModel):
        super().__init__()
        self.export = export
        self.wan = wan
        self.tmd = FlowHeadParts(export.model, export.sampler["fusion"]) if export.has_inner_flow else None
        self.backbone_blocks = export.model["layers"] - export.sampler.get("head_blocks", 0)

    # -- the network

    def backbone(self, x_t: Tensor, t: Times, text: Tensor) -> MainFeature:
        """m_theta(x_t, t, c): the blocks in front of the flow head. x_t [B, C, T, H, W], t [B], text [B, S, E]."""
        self._need_head()
        x_t, text = self._checked_latent(x_t), self._checked_text(text, x_t.shape[0])
        _, e6 = self._embed_time(self._batch_of(t, x_t))
        context = self.wan.condition_embedder.text_embedder(text)
        tokens = self._run_blocks(0, self.backbone_blocks, self._embed_patches(x_t), e6, context, x_t)
        return MainFeature(tokens, context)

    def head(self, y_s: Tensor, s: Times, r: Times, main: MainFeature) -> Tensor:
        """head_theta(y_s, s, r; m, c): an estimate of y = x_1 - x, [B, C, T, H, W] (TMD Eq. 14, App. A.1).

        y_s [B, C, T, H, W], s and r [B] with r <= s. The blocks see the time s plus a learned function of s - r; the fusion
        sees s alone.
        """
        self._need_head()
        y_s = self._checked_latent(y_s)
        s, r = self._batch_of(s, y_s), self._batch_of(r, y_s)
        temb, e6 = self._embed_time(s)
        delta = self.tmd.delta_embedding(self._waves(s - r))
        tokens = self.tmd.fusion(main.tokens, self._embed_patches(y_s), e6)
        e6 = e6 + self._project(self.tmd.delta_projection, delta)
        tokens = self._run_blocks(self.backbone_blocks, len(self.wan.blocks), tokens, e6, main.context, y_s)
        return self._output(tokens, temb + delta, y_s)

    def velocity(self, x_t: Tensor, t: Times, text: Tensor, inner_noise: Optional[Tensor] = None) -> Tensor:
        """The student's x_1 - x at x_t, [B, C, T, H, W] float32: what an outer step moves along (TMD Eq. 4).

        For dmd2v the transformer itself (TMD Eq. 17). Otherwise the backbone once and then the inner flow from `inner_noise`,
        [B, C, T, H, W] (TMD Algorithm 1).
        """
        if self.export.has_inner_flow:
            if inner_noise is None:
                raise ValueError(f"a student of the method {self.export.method} needs inner_noise for its inner flow")
            return self.inner_flow(self.backbone(x_t, t, text), inner_noise.to(self._device, torch.float32))
        if inner_noise is not None:
            raise ValueError("a student of the method dmd2v has no inner flow and takes no inner_noise")
        x_t, text = self._checked_latent(x_t), self._checked_text(text, x_t.shape[0])
        temb, e6 = self._embed_time(self._batch_of(t, x_t))
        context = self.wan.condition_embedder.text_embedder(text)
        tokens = self._run_blocks(0, len(self.wan.blocks), self._embed_patches(x_t), e6, context, x_t)
        return self._output(tokens, temb, x_t).float()

    # -- sampling

    def inner_flow(self, main: MainFeature, y_1: Tensor, observe: Optional[Callable] = None) -> Tensor:
        """Rolls the flow head out from noise y_1 to an estimate of y, both [B, C, T, H, W] (TMD Eq. 12 to 15).

        "average":        y <- y - (s_j - s_{j-1}) (y_1 - head(y, s_j, s_{j-1}))      for j = N .. 1
        "instantaneous":  y <- y - (s_j - s_{j-1}) (y - head(y, s_j, s_j)) / s_j
        The minus sign follows from Eq. 5, 7 and 8; Eq. 13 prints plus. observe(head, y) is called after each step.
        """
        grid, y = self.export.inner_grid, y_1
        for j in range(len(grid) - 1, 0, -1):
            step = grid[j] - grid[j - 1]
            if self.export.sampler["inner_velocity"] == "average":
                head = self.head(y, grid[j], grid[j - 1], main).float()
                y = y - step * (y_1 - head)
            else:
                head = self.head(y, grid[j], grid[j], main).float()
                y = y - step / grid[j] * (y - head)
            if observe:
                observe(head, y)
        return y

    @torch.no_grad()
    def sample_from(self, x: Tensor, text: Tensor, inner_noise: Optional[Tensor] = None,
                    observe: Optional[Callable] = None) -> Tensor:
        """The outer steps from the state x at t_M: x <- x - (t_i - t_{i-1}) velocity(x, t_i), i = M .. 1 (TMD Eq. 4).

        x [B, C, T, H, W]; inner_noise [M, B, C, T, H, W], row i - 1 for outer step i. Steps are in float64, states in
        float32. observe(x) is called after each step.
        """
        grid, x = self.export.outer_grid, x.to(self._device, torch.float32)
        for i in range(len(grid) - 1, 0, -1):
            y = self.velocity(x, grid[i], text, None if inner_noise is None else inner_noise[i - 1])
            x = (x.double() - (grid[i] - grid[i - 1]) * y.double()).float()
            if observe:
                observe(x)
        return x

    @torch.no_grad()
    def sample(self, text: Tensor, noise: Optional[Tensor] = None, inner_noise: Optional[Tensor] = None,
               generator: Optional[torch.Generator] = None, shape: Optional[Sequence[int]] = None) -> Tensor:
        """Samples normalised latents [B, C, T, H, W] float32 for text [B, S, E] (TMD Algorithm 1).

        noise [B, C, T, H, W] and inner_noise [M, B, C, T, H, W] (row i - 1 for outer step i; not for dmd2v) are standard
        normal. What is not given is drawn from `generator`, noise first. They are PyTorch's numbers, not those of
        `tmd sample`: to repeat its samples pass its noise. `shape` [C, T, H, W] asks for another size than the trained one.
        """
        text = self._checked_text(text, text.shape[0])
        noise, inner_noise = self.noise_for(text.shape[0], noise, inner_noise, generator, shape)
        return self.sample_from(self.export.outer_grid[-1] * noise, text, inner_noise)

    def noise_for(self, batch: int, noise: Optional[Tensor] = None, inner_noise: Optional[Tensor] = None,
                  generator: Optional[torch.Generator] = None, shape: Optional[Sequence[int]] = None) -> tuple:
        """noise and inner_noise of sample(), float32: those given, once their shapes are right, or new ones."""
        full = (batch, *(shape or self.export.latents["shape"]))
        noise = _normal("noise", noise, full, generator)
        if self.export.has_inner_flow:
            inner_noise = _normal("inner_noise", inner_noise, (len(self.export.outer_grid) - 1, *full), generator)
        return noise, inner_noise

    # -- parts of the passes above

    @property
    def _dtype(self) -> torch.dtype:
        return self.wan.patch_embedding.weight.dtype

    @property
    def _device(self) -> torch.device:
        return self.wan.patch_embedding.weight.device

    def _need_head(self) -> None:
        if self.tmd is None:
            raise ValueError("a student of the method dmd2v has no flow head; call velocity")

    def _checked_latent(self, latent: Tensor) -> Tensor:
        """In the network's type and on its device."""
        channels = self.export.model["channels"]
        if latent.dim() != 5 or latent.shape[1] != channels or latent.shape[3] % 2 or latent.shape[4] % 2:
            raise ValueError(f"the latent has shape {list(latent.shape)}, expected [B, {channels}, T, H, W], H and W even")
        return latent.to(self._device, self._dtype)

    def _checked_text(self, text: Tensor, batch: int) -> Tensor:
        """The same, padded with zero rows to the length of the training: the zero rows are keys of the cross-attention
        like all others, so their number matters."""
        model = self.export.model
        if text.dim() != 3 or text.shape[0] != batch or text.shape[2] != model["text_dim"]:
            raise ValueError(f"the text has shape {list(text.shape)}, expected [{batch}, S, {model['text_dim']}]")
        missing = model["text_length"] - text.shape[1]
        if missing < 0:
            raise ValueError(f"the text has {text.shape[1]} rows, the student takes {model['text_length']}")
        return F.pad(text.to(self._device, self._dtype), (0, 0, 0, missing))

    @staticmethod
    def _batch_of(time: Times, latent: Tensor) -> Tensor:
        """A time or a [B] of them as [B] float64 on the CPU."""
        return torch.as_tensor(time, dtype=torch.float64, device="cpu").expand(latent.shape[0])

    def _waves(self, time: Tensor) -> Tensor:
        """[B] of flow time -> [B, freq_dim] float32."""
        return time_sinusoid(NETWORK_TIME * time, self.export.model["freq_dim"]).to(self._device, torch.float32)

    def _embed_time(self, time: Tensor) -> tuple:
        """[B] -> temb [B, D] float32 and e6 [B, 6, D]."""
        embedder = self.wan.condition_embedder
        temb = embedder.time_embedder(self._waves(time))
        return temb, self._project(nn.Sequential(embedder.act_fn, embedder.time_proj), temb)

    def _project(self, projection: nn.Module, temb: Tensor) -> Tensor:
        return projection(temb.to(self._dtype)).unflatten(1, (6, -1))

    def _embed_patches(self, latent: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, N, D]. The convolution as a linear layer, which no device computes in TF32 by default."""
        embedding = self.wan.patch_embedding
        return F.linear(patchify(latent), embedding.weight.flatten(1), embedding.bias)

    def _run_blocks(self, first: int, last: int, tokens: Tensor, e6: Tensor, context: Tensor, latent: Tensor) -> Tensor:
        """Blocks first .. last - 1. All rows of the context are keys, those behind the text's end too: Wan has no mask."""
        rotations = self.wan.rope(latent)
        for block in self.wan.blocks[first:last]:
            tokens = block(tokens, context, e6, rotations)
        return tokens

    def _output(self, tokens: Tensor, temb: Tensor, latent: Tensor) -> Tensor:
        shift, scale = (self.wan.scale_shift_table + temb[:, None]).split(1, dim=1)
        normed = self.wan.norm_out(tokens.float()) * (1 + scale) + shift
        return unpatchify(self.wan.proj_out(normed.to(tokens.dtype)), *latent.shape[2:])


# ---------------------------------------------------------------------------------------------------------------- loading

# diffusers' module -> the name in Wan's original files, outside the blocks and inside them
_OUTSIDE = {
    "patch_embedding": "patch_embedding",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0", "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0", "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "scale_shift_table": "head.modulation", "proj_out": "head.head",
}
_IN_BLOCK = {
    "scale_shift_table": "modulation",
    "norm2": "norm3",  # the norm in front of the cross-attention; the two others have no tensors
    "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2",
}
_ATTENTION = {"attn1": "self_attn", "attn2": "cross_attn"}
_IN_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o", "norm_q": "norm_q", "norm_k": "norm_k"}
_IN_BLOCK.update({f"{a}.{p}": f"{original_a}.{original_p}"
                  for a, original_a in _ATTENTION.items() for p, original_p in _IN_ATTENTION.items()})

# Parts of a name whose tensors stay in float32: what diffusers keeps so in a Wan transformer, and the same of the flow head.
_FLOAT32_PARTS = {"time_embedder", "scale_shift_table", "norm1", "norm2", "norm3", "delta_embedding", "modulation", "gate"}


def original_name(name: str) -> str:
    """Tensor name of diffusers' WanTransformer3DModel -> name in Wan's original files."""
    block, rest, kind = re.fullmatch(r"(blocks\.\d+\.)?(.*?)(\.weight|\.bias)?", name).groups()
    table = _IN_BLOCK if block else _OUTSIDE
    return (block or "") + table[rest] + (kind or "")


def load_student(path: Union[str, Path], dtype: torch.dtype = torch.float32, device: Union[str, torch.device] = "cpu"
                 ) -> Student:
    """Loads a student of `tmd export`: its folder, or a safetensors file or index with Wan's original names.

    A folder holds student.safetensors or, for dmd2v, what the original code or (in `transformer`) diffusers reads. `dtype` is
    that of the large matrices; time embedding, modulation tables and norms stay in float32. Throws OSError, and ExportError
    that lists all tensors that are missing, unexpected, or of another shape.
    """
    if dtype not in DTYPES.values():
        raise ValueError(f"dtype is {dtype}, expected float32, bfloat16 or float16: norms and residual sums are in float32")
    files, config_file = _find_weights(Path(path))
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file; an export holds student.safetensors, or config.json and {_STEM}")
    export = _read_export(files[0])
    config = json.loads(config_file.read_text()) if config_file else {}
    if config and export.has_inner_flow:
        raise ExportError(f"{path}: a student of the method {export.method} is not a stock Wan transformer")
    is_diffusers = config.get("_class_name") == "WanTransformer3DModel"
    wrong = [f"{key} = {config.get(key)}, the metadata says {value}"
             for key, value in _config_from(export.model, is_diffusers).items() if config and config.get(key) != value]
    if wrong:
        raise ExportError(f"{config_file}: " + "; ".join(wrong))
    # On the meta device nothing is allocated or drawn for weights that the files replace.
    with torch.device("meta"):
        student = Student(export, WanTransformer3DModel.from_config(_config_from(export.model, is_diffusers=True)))
    wan = student.wan
    wan.rope = type(wan.rope)(wan.config.attention_head_dim, wan.config.patch_size, wan.config.rope_max_seq_len).to(device)
    _load_tensors(student, files, is_diffusers, dtype, device)
    return student.eval().requires_grad_(False)


def _find_weights(path: Path) -> tuple:
    """Safetensors files, the first shard first, and config.json where the layout has one."""
    folder = path / "transformer" if (path / "transformer" / "config.json").exists() else path
    config = folder / "config.json"
    if path.is_dir() and config.exists():
        index = folder / f"{_STEM}.index.json"
        return _shards(index if index.exists() else folder / _STEM), config
    return _shards(path / "student.safetensors" if path.is_dir() else path), None


def _shards(file: Path) -> list:
    if not file.name.endswith(".index.json") or not file.exists():
        return [file]
    try:
        return [file.parent / name for name in sorted(set(json.loads(file.read_text())["weight_map"].values()))]
    except (KeyError, AttributeError, TypeError) as error:
        raise ExportError(f"{file}: not an index of safetensors files: no object weight_map") from error


def _config_from(model: dict, is_diffusers: bool) -> dict:
    """What config.json of diffusers or of the original code says of the model."""
    sizes = {"ffn_dim": model["ffn"], "num_layers": model["layers"], "freq_dim": model["freq_dim"], "eps": model["eps"]}
    heads, head_dim, channels = model["heads"], model["head_dim"], model["channels"]
    if is_diffusers:
        return sizes | {"num_attention_heads": heads, "attention_head_dim": head_dim, "in_channels": channels,
                        "out_channels": channels, "text_dim": model["text_dim"]}
    return sizes | {"num_heads": heads, "dim": heads * head_dim, "in_dim": channels, "out_dim": channels,
                    "text_len": model["text_length"]}


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ExportError(f"{file}: not a safetensors file, or damaged: {error}") from error


def _read_export(file: Path) -> Export:
    with _opened(file) as weights:
        metadata = weights.metadata() or {}
    version = metadata.get("tmd.export")
    if version is None:
        raise ExportError(f"{file}: no 'tmd.export' in its metadata: these are not the weights of an exported student")
    if version != FORMAT_VERSION:
        raise ExportError(f"{file}: export format version {version}; this loader knows version {FORMAT_VERSION}")
    method = metadata.get("tmd.method")
    if method not in ("tmd", "tm", "dmd2v"):
        raise ExportError(f"{file}: tmd.method is {method!r}, expected tmd, tm or dmd2v")
    needed = {"tmd.model": ["heads", "head_dim", "ffn", "layers", "channels", "text_dim", "text_length", "freq_dim", "eps"],
              "tmd.sampler": ["outer_steps", "outer_grid", "guidance_scale"], "tmd.latents": ["shape"]}
    if method != "dmd2v":
        needed["tmd.sampler"] += ["inner_steps", "inner_grid", "head_blocks", "fusion", "inner_velocity"]
    objects, problems = {}, []
    for name, keys in needed.items():
        try:
            objects[name] = json.loads(metadata.get(name, ""))
            problems += [f"{name} has no {key!r}" for key in keys if key not in objects[name]]
        except ValueError:
            problems.append(f"{name} is missing or no JSON")
    if not problems:
        problems = _sampler_problems(method, objects["tmd.sampler"], objects["tmd.model"]["layers"])
    if problems:
        raise ExportError(f"{file}: " + "; ".join(problems))
    return Export(method, objects["tmd.model"], objects["tmd.sampler"], objects["tmd.latents"])


def _sampler_problems(method: str, sampler: dict, layers: int) -> list:
    problems = []
    for name in ["outer"] + (["inner"] if method != "dmd2v" else []):
        grid, steps = sampler[f"{name}_grid"], sampler[f"{name}_steps"]
        if len(grid) != steps + 1 or grid[0] != 0 or any(b <= a for a, b in zip(grid, grid[1:])):
            problems.append(f"{name}_grid {grid} is not 0 and {steps} ascending times")
    if sampler["guidance_scale"] != 1:
        problems.append(f"guidance_scale is {sampler['guidance_scale']}; a student is sampled without guidance")
    if method == "dmd2v":
        return problems
    for name, known in {"fusion": ("gated", "concat"), "inner_velocity": ("average", "instantaneous")}.items():
        if sampler[name] not in known:
            problems.append(f"{name} is {sampler[name]!r}, expected {' or '.join(known)}")
    if not 1 <= sampler["head_blocks"] <= layers:
        problems.append(f"head_blocks is {sampler['head_blocks']}, the model has {layers} blocks")
    return problems


def _load_tensors(student: Student, files: list, is_diffusers: bool, dtype: torch.dtype, device) -> None:
    """Fills the student; every tensor of the files is used once, or ExportError lists what does not fit."""
    expected = {}  # name in the files -> name in the module
    for key in student.state_dict():
        name = key.removeprefix("wan.")
        expected[name if is_diffusers or key.startswith("tmd.") else original_name(name)] = key
    shapes = {key: list(value.shape) for key, value in student.state_dict().items()}
    state, problems = {}, []
    for file in files:
        with _opened(file) as weights:
            for name in weights.keys():
                key, found = expected.get(name), weights.get_slice(name)
                if key is None or key in state:
                    problems.append(f"unexpected {name}" if key is None else f"{name} stands there twice")
                elif found.get_shape() != shapes[key]:
                    problems.append(f"{name} has shape {found.get_shape()}, expected {shapes[key]}")
                elif found.get_dtype() not in ("F32", "F16", "BF16"):
                    problems.append(f"{name} is {found.get_dtype()}, expected F32, F16 or BF16")
                else:
                    kept = not _FLOAT32_PARTS.isdisjoint(key.split("."))
                    state[key] = weights.get_tensor(name).to(device=device, dtype=torch.float32 if kept else dtype)
                    continue
                if key is not None:
                    state.setdefault(key, None)
    problems += [f"missing {name}" for name, key in expected.items() if key not in state]
    if problems:
        raise ExportError(f"{files[0].parent}: the tensors do not fit the model: " + "; ".join(problems))
    student.load_state_dict(state, assign=True)


# ------------------------------------------------------------------------------------------------------------ command line


def read_embeddings(file: Path) -> Tensor:
    """/text of a tmd-latents file, [N, S, E] float32."""
    import h5py
    import numpy as np

    try:
        stored = h5py.File(file, "r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{file}: not HDF5, or damaged: {error}") from error
    with stored:
        if stored.attrs.get("format") != "tmd-latents" or stored.attrs.get("version") != 1 or "text" not in stored:
            raise ValueError(f"{file}: not a tmd-latents file of version 1 with /text")
        text = stored["text"]
        rows = text[:]
        if text.dtype == np.uint16:  # bfloat16: the upper half of a float32
            rows = (rows.astype(np.uint32) << 16).view(np.float32)
        return torch.from_numpy(rows.astype(np.float32))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            self.print_usage(sys.stderr)
            self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")

    parser = Parser(description="Samples latents from an exported few-step student.")
    parser.add_argument("folder", type=Path, help="folder of tmd export, or a safetensors file or index of it")
    parser.add_argument("--embeddings", type=Path, required=True, help="tmd-latents file with /text")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file for the latents [N, C, T, H, W]")
    parser.add_argument("--noise", type=Path, help="safetensors file with `noise` [N, C, T, H, W] and, unless dmd2v, "
                                                   "`inner_noise` [M, N, C, T, H, W]; default: drawn from the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1, help="samples at once; does not change what is drawn")
    options = parser.parse_args(arguments)
    if options.batch < 1:
        parser.error("--batch must be at least 1")
    return options


def _sample_file(options: argparse.Namespace) -> None:
    from safetensors.torch import load_file, save_file

    if not options.output.parent.is_dir():  # refused before the work, not after it
        raise NotADirectoryError(f"{options.output.parent}: no such folder")
    text = read_embeddings(options.embeddings)
    student = load_student(options.folder, DTYPES[options.dtype], options.device)
    given = load_file(options.noise) if options.noise else {}
    for name in ["noise"] + ["inner_noise"] * student.export.has_inner_flow:
        if options.noise and name not in given:  # rather than that other noise is drawn
            raise ExportError(f"{options.noise}: no tensor {name}; it holds {', '.join(sorted(given)) or 'none'}")
    generator = torch.Generator().manual_seed(options.seed)
    # All noise at once, so that a sample does not depend on the batch it is made in.
    noise, inner_noise = student.noise_for(text.shape[0], given.get("noise"), given.get("inner_noise"), generator)
    parts = []
    for begin in range(0, text.shape[0], options.batch):
        rows = slice(begin, begin + options.batch)
        inner = None if inner_noise is None else inner_noise[:, rows]
        parts.append(student.sample(text[rows], noise[rows], inner).cpu())
        print(f"{min(begin + options.batch, text.shape[0])} of {text.shape[0]} samples", file=sys.stderr)
    partial = options.output.with_name(f"{options.output.name}.tmp-{os.getpid()}")
    save_file({"latents": torch.cat(parts).contiguous()}, partial,
              {"format": "pt", "tmd.latents": json.dumps(student.export.latents)})
    os.replace(partial, options.output)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        _sample_file(options)
    except (ValueError, SafetensorError, FileNotFoundError) as error:
        print(f"tmd_wan: {error}", file=sys.stderr)
        return EXIT_DATA
    except OSError as error:
        print(f"tmd_wan: {error}", file=sys.stderr)
        return EXIT_IO
    return 0


if __name__ == "__main__":
    sys.exit(main())
