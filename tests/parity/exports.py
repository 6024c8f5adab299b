"""Round trip through `tmd export`: original -> another layout -> original, and diffusers reads what we wrote."""
import torch
from safetensors import safe_open

import models
import runs
from table import differing, largest

SAME_OUTPUT = 1e-6


def weight_files(folder):
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise RuntimeError(f"no safetensors in {folder}")
    return files


def tensors_of(folder):
    found = {}
    for file in weight_files(folder):
        with safe_open(file, "pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys()}
    return found


def folder_of_transformer(folder):
    inner = folder / "transformer"
    return inner if inner.is_dir() else folder


def bits_that_differ(found, expected):
    return sum(differing(found[name], expected[name]) for name in expected)


def back_to_original(table, tmd, shape, source, folder, through):
    """wan -> `through` -> wan gives every tensor back."""
    there, back = folder / f"to-{through}", folder / f"from-{through}"
    tmd.call(["export", source, "--for", through, "--dtype", "f32", "--output", there])
    tmd.call(["export", folder_of_transformer(there), "--for", "wan", "--dtype", "f32", "--output", back])
    first, last = tensors_of(source), tensors_of(back)
    where = (shape.name, "original", "export, f32")
    table.below(*where, f"tensors too few or many, wan -> {through} -> wan", len(first.keys() ^ last.keys()), 0)
    if first.keys() == last.keys():
        table.below(*where, f"bits that differ, wan -> {through} -> wan", bits_that_differ(last, first), 0)


def compare_export(table, tmd, shape, folder):
    model = models.random_model(shape, seed=5)
    source = models.write_layouts(model, shape, folder)["original"]
    for through in ("diffusers", "comfyui"):
        back_to_original(table, tmd, shape, source, folder, through)
    tmd.call(["export", source, "--for", "diffusers", "--dtype", "bf16", "--output", folder / "to-bf16"])
    rounded = models.random_model(shape, seed=5, dtype=torch.bfloat16).float()
    inputs = models.random_inputs(shape, seed=6)
    for dtype, export, reference in (("f32", "to-diffusers", model), ("bf16", "to-bf16", rounded)):
        theirs = runs.run_model(runs.load_diffusers(folder_of_transformer(folder / export), torch.float32), inputs)
        table.below(shape.name, "diffusers", f"export, {dtype}", "from_pretrained's output vs source model (max abs)",
                    largest(theirs["output"], runs.run_model(reference, inputs)["output"]), SAME_OUTPUT)
