"""What is compared for each shape, against the limits of docs/parity.md."""
import torch
from safetensors.torch import load_file

import make_golden
import models
import runs
from table import cosine, differing, largest, relative, worst

# Relative L2 unless it says otherwise.
FP32_LARGEST = 5e-6          # tiny models against float64: largest absolute difference
FP32_LARGEST_SINUSOID = 3e-5  # the same against diffusers, whose time sinusoid is float32
FP32 = 1e-5
GRADIENT = 1e-4
BF16_WIDE_STREAM = 8e-3      # bfloat16 products, float32 residual stream, against float32
BF16_DIFFUSERS = 2.5e-2      # rounding as diffusers does, against diffusers in bfloat16
BF16_COSINE = 0.9995
BF16_GRADIENT_RATIO = 1.1    # our gradient error over that of diffusers in bfloat16
RANKS_FP32, RANKS_BF16 = 1e-5, 6e-3
MESH_GRADIENTS_FP32, MESH_GRADIENTS_BF16 = 1e-5, 4e-2
STORED = 1e-5                # what diffusers says today against what it said when the golden was made

# A gradient that is smaller than this share of all gradients together is held against that share instead of itself.
SMALLEST_SHARE = 1e-6


def gradients_of(run):
    return {name: tensor.double() for name, tensor in run.items() if name.startswith("grad.")}


def whole(gradients):
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


def worst_gradient(run, reference):
    """(relative L2 of the worst tensor, its name)."""
    mine, theirs = gradients_of(run), gradients_of(reference)
    if mine.keys() != theirs.keys():
        raise ValueError(f"not the same tensors have gradients: {sorted(mine.keys() ^ theirs.keys())}")
    least = SMALLEST_SHARE * whole(theirs).norm()
    return worst(((mine[name] - theirs[name]).norm().item() / max(theirs[name].norm(), least).item(), name)
                 for name in theirs)


class ShapeComparison:
    """All comparisons of one shape that has gradients; `folders` are those of models.write_layouts."""

    def __init__(self, table, tmd, shape, model, folders):
        self.table, self.tmd, self.shape, self.folders = table, tmd, shape, folders
        self.inputs = models.random_inputs(shape, seed=2)
        self.blocks = (0, shape.layers - 1)
        self.theirs = self._run_model(model)
        self.ours = self._run("f32")
        self.exact = self._run("f64")
        self.is_tiny = shape.layers * shape.width < 1000

    def _run_model(self, model):
        return runs.run_model(model, self.inputs, self.blocks, gradients=True)

    def _run(self, dtype, layout="original", ranks=None, gradients=True, mesh=()):
        return self.tmd.forward(self.folders[layout], self.inputs, dtype, self.blocks, gradients, ranks, mesh)

    def below(self, mode, what, error, limit, layout="original", detail=""):
        self.table.below(self.shape.name, layout, mode, what, error, limit, detail)

    def gradients(self, mode, reference_name, run, reference, limit=GRADIENT):
        error, tensor = worst_gradient(run, reference)
        self.below(mode, f"worst gradient vs {reference_name}", error, limit, detail=tensor[len("grad."):])

    def note(self, mode, what, value):
        self.table.note(self.shape.name, "original", mode, what, value)

    def float32(self, model):
        out, exact, theirs = self.ours["output"], self.exact["output"], self.theirs["output"]
        self.table.above(self.shape.name, "original", "f32", "root mean square of the output",
                         theirs.square().mean().sqrt().item(), 0.1)
        if self.is_tiny:
            self.below("f32", "output vs ours in f64 (max abs)", largest(out, exact), FP32_LARGEST)
            self.below("f32", "output vs diffusers (max abs)", largest(out, theirs), FP32_LARGEST_SINUSOID)
        self.below("f32", "output vs ours in f64", relative(out, exact), FP32)
        self.below("f32", "output vs diffusers", relative(out, theirs), FP32)
        for i in self.blocks:
            self.below("f32", f"block {i} vs diffusers", relative(self.ours[f"block.{i}"], self.theirs[f"block.{i}"]), FP32)
        sinusoid, model.condition_embedder.timesteps_proj = (model.condition_embedder.timesteps_proj,
                                                             runs.Sinusoid64(self.shape.freq_dim))
        corrected = self._run_model(model)
        model.condition_embedder.timesteps_proj = sinusoid
        limit, measure = (FP32_LARGEST, largest) if self.is_tiny else (FP32, relative)
        self.below("f64", "output vs diffusers, f64 sinusoid" + (" (max abs)" if self.is_tiny else ""),
                   measure(exact, corrected["output"]), limit)
        for mode, run, name, reference in (("f32", self.ours, "diffusers", self.theirs),
                                           ("f32", self.ours, "ours in f64", self.exact),
                                           ("f64", self.exact, "diffusers, f64 sinusoid", corrected)):
            self.gradients(mode, name, run, reference)

    def integer_times(self, model):
        inputs = models.random_inputs(self.shape, seed=3, integer_times=True)
        ours = self.tmd.forward(self.folders["original"], inputs)["output"]
        self.below("f32", "output vs diffusers, times as int64",
                   relative(ours, runs.run_model(model, inputs)["output"]), FP32)

    def rounded_times(self):
        """937 -> 936 in bfloat16: the largest error there is; if it stayed within the limits they would be worth nothing."""
        inputs = self.inputs | {"timestep": self.inputs["timestep"].bfloat16().float()}
        rounded = self.tmd.forward(self.folders["original"], inputs)["output"]
        self.table.above(self.shape.name, "original", "f32", "output with times rounded to bf16 vs ours",
                         relative(rounded, self.ours["output"]), BF16_DIFFUSERS)

    def bfloat16(self):
        theirs = self._run_model(runs.load_diffusers(self.folders["diffusers"], torch.bfloat16))
        wide, narrow, exact = self._run("bf16"), self._run("bf16-diffusers"), self.exact
        self.below("bf16", "output vs ours in f32", relative(wide["output"], self.ours["output"]), BF16_WIDE_STREAM)
        self.below("bf16", "output vs diffusers in f32", relative(wide["output"], self.theirs["output"]), BF16_WIDE_STREAM)
        self.below("bf16-diffusers", "output vs diffusers in bf16", relative(narrow["output"], theirs["output"]),
                   BF16_DIFFUSERS)
        self.table.above(self.shape.name, "original", "bf16-diffusers", "cosine of the output vs diffusers in bf16",
                         cosine(narrow["output"], theirs["output"]), BF16_COSINE)
        self.note("bf16-diffusers", "output vs ours in f64", relative(narrow["output"], exact["output"]))
        self.note("diffusers bf16", "output vs ours in f64", relative(theirs["output"], exact["output"]))
        self._bfloat16_gradients({"bf16": wide, "bf16-diffusers": narrow}, theirs)

    def _bfloat16_gradients(self, ours, theirs):
        exact = whole(gradients_of(self.exact))
        error = relative(whole(gradients_of(theirs)), exact)
        self.note("diffusers bf16", "all gradients vs ours in f64", error)
        for mode, run in ours.items():
            mine = relative(whole(gradients_of(run)), exact)
            self.note(mode, "all gradients vs ours in f64", mine)
            self.below(mode, "  over the error of diffusers in bf16", mine / error, BF16_GRADIENT_RATIO)

    def layouts(self):
        for layout in ("diffusers", "sharded"):
            run = self._run("f32", layout)
            self.below("f32", "output, bits that differ from original", differing(run["output"], self.ours["output"]), 0,
                       layout)
            gradients = sum(differing(run[name], self.ours[name]) for name in self.ours if name.startswith("grad."))
            self.below("f32", "gradients, bits that differ from original", gradients, 0, layout)
        outputs = [self._run("bf16", layout, gradients=False)["output"] for layout in models.LAYOUTS]
        for layout, output in zip(models.LAYOUTS[1:], outputs[1:]):
            self.below("bf16", "output, bits that differ from original", differing(output, outputs[0]), 0, layout)

    def ranks(self, counts=(1, 2, 3)):
        for dtype, single, limit in (("f32", self.ours, RANKS_FP32), ("bf16", self._run("bf16"), RANKS_BF16)):
            for count in counts:
                run = self._run(dtype, ranks=count)
                other = f"one process, {count} rank{'s' * (count > 1)}"
                self.below(dtype, f"output vs {other}", relative(run["output"], single["output"]), limit)
                self.gradients(dtype, other, run, single, limit)

    def meshes(self):
        """Tokens and heads over ranks (Wan 9.4)."""
        meshes = [(2, (("sequence", 2),)), (2, (("tensor", 2),)), (4, (("sequence", 2), ("tensor", 2))), (4, (("tensor", 4),))]
        for dtype, single, limit, gradient_limit in (("f32", self.ours, RANKS_FP32, MESH_GRADIENTS_FP32),
                                                     ("bf16", self._run("bf16"), RANKS_BF16, MESH_GRADIENTS_BF16)):
            for count, mesh in meshes:
                if self.shape.heads % count:
                    continue
                run = self._run(dtype, ranks=count, mesh=mesh)
                other = f"one process, {' x '.join(f'{axis} {extent}' for axis, extent in mesh)}"
                self.below(dtype, f"output vs {other}", relative(run["output"], single["output"]), limit)
                self.gradients(dtype, other, run, single, gradient_limit)


def compare_shape(table, tmd, shape, folder):
    """Random weights in all layouts below `folder`, and every comparison of them."""
    model = models.random_model(shape, seed=1)
    comparison = ShapeComparison(table, tmd, shape, model, models.write_layouts(model, shape, folder))
    comparison.float32(model)
    comparison.integer_times(model)
    comparison.rounded_times()
    comparison.bfloat16()
    comparison.layouts()
    comparison.ranks()
    comparison.meshes()


def compare_golden(table, tmd):
    """The committed reference: diffusers still says so, and we agree with it."""
    case, model, name = load_file(make_golden.FOLDER / "case.safetensors"), make_golden.FOLDER / "model", "golden"
    inputs = {key: case[key] for key in ("latents", "timestep", "text", "output_gradient")}
    now = make_golden.references(model, inputs)
    error, key = worst((relative(now[key], case[key]), key) for key in now if key != "output.bf16")
    table.below(name, "sharded", "f32", "worst stored tensor vs diffusers now", error, STORED, key)
    table.below(name, "sharded", "diffusers bf16", "stored output vs diffusers now",
                relative(now["output.bf16"], case["output.bf16"]), BF16_DIFFUSERS)
    ours = {mode: tmd.forward(model, inputs, mode)["output"] for mode in ("f32", "bf16", "bf16-diffusers")}
    table.below(name, "sharded", "f32", "output vs stored", relative(ours["f32"], case["output"]), FP32)
    table.below(name, "sharded", "bf16", "output vs stored", relative(ours["bf16"], case["output"]), BF16_WIDE_STREAM)
    table.below(name, "sharded", "bf16-diffusers", "output vs stored",
                relative(ours["bf16-diffusers"], case["output.bf16"]), BF16_DIFFUSERS)


def compare_full_size(table, tmd, shape, folder):
    """Forward passes of a model that is too large for all of the above, one after the other in memory."""
    name, inputs = shape.name, models.random_inputs(shape, seed=2)
    theirs = {}
    for mode, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        theirs[mode] = runs.run_model(runs.load_diffusers(folder, dtype), inputs)["output"]
    ours = {mode: tmd.forward(folder, inputs, mode)["output"] for mode in ("f32", "bf16", "bf16-diffusers")}
    table.above(name, "diffusers", "f32", "root mean square of the output", theirs["f32"].square().mean().sqrt().item(), 0.1)
    table.below(name, "diffusers", "f32", "output vs diffusers", relative(ours["f32"], theirs["f32"]), FP32)
    for reference, source in (("ours", ours), ("diffusers", theirs)):
        table.below(name, "diffusers", "bf16", f"output vs {reference} in f32", relative(ours["bf16"], source["f32"]),
                    BF16_WIDE_STREAM)
    narrow = ours["bf16-diffusers"]
    table.below(name, "diffusers", "bf16-diffusers", "output vs diffusers in bf16", relative(narrow, theirs["bf16"]),
                BF16_DIFFUSERS)
    table.above(name, "diffusers", "bf16-diffusers", "cosine of the output vs diffusers in bf16",
                cosine(narrow, theirs["bf16"]), BF16_COSINE)
    table.note(name, "diffusers", "bf16-diffusers", "output vs ours in f32", relative(narrow, ours["f32"]))
    table.note(name, "diffusers", "diffusers bf16", "output vs diffusers in f32", relative(theirs["bf16"], theirs["f32"]))
