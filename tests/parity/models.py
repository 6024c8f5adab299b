"""Random Wan transformers as files in the layouts that are published, and inputs for them.

The mapping of names is written down here once more, from the key table of the two layouts, so that the one of tmd is held
against something.
"""
import json
import math
import re
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

LAYOUTS = ("original", "diffusers", "sharded")

# (diffusers, original); the norms 2 and 3 change names: see norm_names.
_OUTER = {"condition_embedder.text_embedder.linear_1": "text_embedding.0",
          "condition_embedder.text_embedder.linear_2": "text_embedding.2",
          "condition_embedder.time_embedder.linear_1": "time_embedding.0",
          "condition_embedder.time_embedder.linear_2": "time_embedding.2",
          "condition_embedder.time_proj": "time_projection.1",
          "patch_embedding": "patch_embedding", "proj_out": "head.head"}
_BLOCK = {"norm2": "norm3", "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2"}
for _diffusers, _original in (("attn1", "self_attn"), ("attn2", "cross_attn")):
    for _part, _name in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "o"), ("norm_q", "norm_q"),
                         ("norm_k", "norm_k")):
        _BLOCK[f"{_diffusers}.{_part}"] = f"{_original}.{_name}"


def original_name(name):
    """The name that the original layout gives a tensor of the diffusers layout."""
    if name == "scale_shift_table":
        return "head.modulation"
    block = re.fullmatch(r"(blocks\.\d+)\.(.+)", name)
    if block and block[2] == "scale_shift_table":
        return f"{block[1]}.modulation"
    module, kind = (block[2] if block else name).rsplit(".", 1)
    return f"{block[1]}.{_BLOCK[module]}.{kind}" if block else f"{_OUTER[module]}.{kind}"


def empty_model(shape):
    with torch.device("meta"):
        return WanTransformer3DModel(**shape.diffusers_config())


def random_values(name, shape, generator):
    """One tensor of a random model. The head is as large as the rest: Wan starts it at zero, and then every comparison
    of outputs would be zero against zero. Linear layers keep the size of what goes through them, so that time, text and
    all sub-layers matter."""
    draw = torch.randn(shape, generator=generator)
    if "scale_shift_table" in name:
        return draw / math.sqrt(shape[-1])
    if name.endswith(("norm_q.weight", "norm_k.weight", "norm2.weight")):
        return 1 + 0.2 * draw
    if name.endswith(".bias"):
        return 0.1 * draw
    return draw / math.sqrt(math.prod(shape[1:]))


def random_model(shape, seed, dtype=torch.float32):
    """A diffusers model of random weights, every one of which has the element type `dtype`."""
    generator = torch.Generator().manual_seed(seed)
    model = empty_model(shape)
    state = {name: random_values(name, tuple(like.shape), generator).to(dtype)
             for name, like in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    rope = type(model.rope)(shape.head_dim, (1, 2, 2), 1024)  # its tables are no part of the state
    model.rope = rope
    return model.eval()


def write_original(model, shape, folder):
    """The original layout; returns its file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {original_name(name): tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    assert len(tensors) == len(model.state_dict()), "two tensors got one name"
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(shape.original_config(), indent=2))
    return folder / "diffusion_pytorch_model.safetensors"


def write_layouts(model, shape, folder, shards=5):
    """The model in all three layouts below `folder`: {layout: its folder}."""
    folders = {layout: Path(folder) / layout for layout in LAYOUTS}
    write_original(model, shape, folders["original"])
    model.save_pretrained(folders["diffusers"], max_shard_size="100GB")
    total = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    model.save_pretrained(folders["sharded"], max_shard_size=max(total // shards, 1))
    if not (folders["sharded"] / "diffusion_pytorch_model.safetensors.index.json").exists():
        raise RuntimeError(f"{folders['sharded']} was not cut into shards")
    return folders


def random_inputs(shape, seed, integer_times=False):
    """What `tmd forward` reads: latents, timestep, text with zero rows behind its end, output_gradient."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(shape.latents_shape(), generator=generator)
    text = torch.randn((len(shape.times), shape.text_rows, shape.text_dim), generator=generator)
    for row, length in zip(text, shape.text_lengths):
        row[length:] = 0
    output_gradient = torch.randn(shape.latents_shape(), generator=generator)
    times = torch.tensor(shape.times)
    return {"latents": latents, "timestep": times.round().to(torch.int64) if integer_times else times, "text": text,
            "output_gradient": output_gradient}
