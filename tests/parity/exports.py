"""Round trip through `tmd export`: original -> diffusers -> original, and diffusers reads what we wrote."""
import shutil

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


def compare_export(table, tmd, shape, folder):
    if not tmd.has("export"):
        table.skip("export", "this tmd has no verb export")
        return
    model = models.random_model(shape, seed=5)
    source = models.write_layouts(model, shape, folder)["original"]
    export = {name: folder / f"export-{name}" for name in ("diffusers", "wan", "bf16")}
    tmd.call(["export", source, "--for", "diffusers", "--dtype", "f32", "--output", export["diffusers"]])
    tmd.call(["export", folder_of_transformer(export["diffusers"]), "--for", "wan", "--dtype", "f32", "--output",
              export["wan"]])
    first, last = tensors_of(source), tensors_of(export["wan"])
    table.below(shape.name, "original", "export, f32", "tensors too few or many, wan -> diffusers -> wan",
                len(first.keys() ^ last.keys()), 0)
    table.below(shape.name, "original", "export, f32", "bits that differ, wan -> diffusers -> wan",
                sum(differing(last[name], first[name]) for name in first.keys() & last.keys()), 0)
    inputs = models.random_inputs(shape, seed=6)
    tmd.call(["export", source, "--for", "diffusers", "--dtype", "bf16", "--output", export["bf16"]])
    rounded = models.random_model(shape, seed=5, dtype=torch.bfloat16).float()
    for name, reference in (("diffusers", model), ("bf16", rounded)):
        theirs = runs.run_model(runs.load_diffusers(folder_of_transformer(export[name]), torch.float32), inputs)
        what = "f32" if name == "diffusers" else "bf16"
        table.below(shape.name, "diffusers", f"export, {what}", "from_pretrained's output vs source model (max abs)",
                    largest(theirs["output"], runs.run_model(reference, inputs)["output"]), SAME_OUTPUT)
    for path in export.values():
        shutil.rmtree(path)
