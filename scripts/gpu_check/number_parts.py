"""The parts golden, parity and demo: the numbers of the device against those that are known."""
import json
import math
import shutil

import tensors
from build_part import TINY, device_line
from commands import Failed

# docs/parity.md: what two right implementations may differ by.
FP32, FP32_LARGEST, GRADIENT, BF16, BF16_DIFFUSERS, BF16_COSINE = 1e-5, 3e-5, 1e-4, 8e-3, 2.5e-2, 0.9995

# Relative. Runs like this one on a CPU whose products add in another order (MKL_CBWR) differ by 8e-7 in losses and 4e-7 in
# gradient norms at most. A device adds in another order everywhere and has its own exp, so an order of magnitude more; norms see
# every weight, and Adam divides by their size.
LOSS_TOLERANCE, NORM_TOLERANCE = 1e-5, 1e-4

PARITY = TINY.replace("stages = teacher", "stages = teacher,stage1,stage2").replace("iterations = 2\n", """iterations = 7
lr = 1e-3
[method]
discriminator_hidden = 16
[stage1]
iterations = 6
lr = 1e-3
[stage2]
iterations = 7
student_every = 2
lr = 1e-4
lr_fake = 1e-4
lr_discriminator = 1e-4
""")


class Limits:
    """Adds figures, and remembers what is beyond its limit."""

    def __init__(self, context):
        self.context, self.broken = context, []

    def below(self, name, value, limit):
        self.context.figure(name, float(value), f"limit {limit:g}")
        if not value <= limit:
            self.broken.append(f"{name} is {value:.3g}, limit {limit:g}")

    def end(self):
        if self.broken:
            raise Failed("; ".join(self.broken))


def forward(context, dtype, *words):
    case, out = context.root / "tests/golden/wan-tiny", context.scratch / context.part / f"{dtype}.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    context.run([*context.mpi(1), context.tmd, "forward", "--weights", case / "model", "--inputs", case / "case.safetensors",
                 "--output", out, "--dtype", dtype, "--device", context.device, *words])
    return tensors.read(out)


def golden(context):
    expected = tensors.read(context.root / "tests/golden/wan-tiny/case.safetensors")
    limits = Limits(context)
    exact = forward(context, "f32", "--gradients", "--blocks", "0,1")
    for name in ("output", "block.0", "block.1"):
        limits.below(f"float32 {name}, relative", tensors.relative(exact[name], expected[name]), FP32)
    limits.below("float32 output, largest", tensors.largest(exact["output"], expected["output"]), FP32_LARGEST)
    gradients = [name for name in expected if name.startswith("grad.")]
    worst, place = max((tensors.relative(exact[in_file(name)], expected[name]), name) for name in gradients)
    limits.below(f"float32 gradients, worst of {len(gradients)} ({place[5:]})", worst, GRADIENT)
    narrow = forward(context, "bf16")["output"]
    limits.below("bfloat16 output against float32", tensors.relative(narrow, expected["output"]), BF16)
    rounded = forward(context, "bf16-diffusers")["output"]
    limits.below("bfloat16 as diffusers rounds, against diffusers", tensors.relative(rounded, expected["output.bf16"]),
                 BF16_DIFFUSERS)
    limits.below("the same, 1 - cosine", 1 - tensors.cosine(rounded, expected["output.bf16"]), 1 - BF16_COSINE)
    limits.end()
    context.clean()
    return "Wan transformer against diffusers' stored outputs, float32 without TF32"


# The case names parameters as the original code does, the program as the file that it has read: as diffusers.
SPELLINGS = [("patch_embedding", "patch_embedding"), ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
             ("time_embedding.0", "condition_embedder.time_embedder.linear_1"), ("time_projection.1", "condition_embedder.time_proj"),
             ("head.modulation", "scale_shift_table"), ("head.head", "proj_out"), ("modulation", "scale_shift_table"),
             ("self_attn.q", "attn1.to_q"), ("self_attn.norm_q", "attn1.norm_q"), ("cross_attn.k", "attn2.to_k"),
             ("cross_attn.norm_k", "attn2.norm_k"), ("norm3", "norm2"), ("ffn.2", "ffn.net.2")]


def in_file(name):
    for original, diffusers in SPELLINGS:
        if f".{original}" in name:
            return name.replace(original, diffusers)
    return name


def trained(context, device):
    folder = context.folder(device)
    (folder / "parity.ini").write_text(PARITY)
    output, _ = context.run([*context.mpi(1), context.tmd, "train", "--config", folder / "parity.ini", "--run", folder / "run",
                             f"--data.files={context.root / 'tests/golden/clips_slice.h5'}", f"--device.kind={device}"])
    context.figure(f"run on {device}", device_line(output))
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


# Functions of the draws and the data alone: any other number drawn shows in them.
DRAWN = ("t", "r_equals_s")


def compare_runs(context, host, device):
    """Losses and gradient norms of every iteration, and that both have drawn the same."""
    limits = Limits(context)
    if [(r["iteration"], r["phase"]) for r in host] != [(r["iteration"], r["phase"]) for r in device] or len(host) != 20:
        raise Failed(f"{len(host)} iterations on the host, {len(device)} on the device")
    for a, b in zip(host, device):
        drawn = {name: (a["diag"][name], b["diag"].get(name)) for name in DRAWN if name in a["diag"]}
        if a["samples"] != b["samples"] or any(x != y for x, y in drawn.values()):
            raise Failed(f"iteration {a['iteration']} has other draws: {drawn}")
    for kind, limit in (("loss", LOSS_TOLERANCE), ("grad_norm", NORM_TOLERANCE)):
        by_phase = {}
        for a, b in zip(host, device):
            for name, value in a[kind].items():
                distance = abs(value - b[kind][name]) / max(abs(value), 1e-30)
                if not math.isfinite(distance):
                    distance = math.inf  # a NaN is larger than nothing
                by_phase[a["phase"]] = max(by_phase.get(a["phase"], (0, "")), (distance, f"{name}, iteration {a['iteration']}"))
        for phase, (distance, place) in by_phase.items():
            limits.below(f"{kind} of {phase} iterations, worst relative ({place})", distance, limit)
    context.figure("samples and draws", "identical")
    limits.end()


def compare_bits(context, first, second):
    """A second run on the same device has the same bits: metrics are printed so that they can be read back."""
    for a, b in zip(first, second):
        if (a["loss"], a["grad_norm"], a["diag"]) != (b["loss"], b["grad_norm"], b["diag"]):
            raise Failed(f"iteration {a['iteration']} has other bits when the run is repeated: {a['loss']} and {b['loss']}")
    context.figure("bits of a second run", "identical")


def parity(context):
    first = trained(context, context.device)
    compare_bits(context, first, trained(context, context.device))
    compare_runs(context, trained(context, "cpu"), first)
    context.clean()
    return "20 iterations of teacher, stage 1 and stage 2 in float32"


def demo(context):
    # The demo has no words for the device; its configurations have.
    configs = context.out / "demo-configs"
    shutil.rmtree(configs, ignore_errors=True)
    configs.mkdir(parents=True)
    for file in (context.root / "configs").glob("demo-*"):
        text = file.read_text() if file.suffix == ".ini" else None
        if text is None:
            shutil.copy(file, configs / file.name)
        else:
            (configs / file.name).write_text(f"{text}\n[device]\nkind = {context.device}\n")
    ranks = 3 if len(context.devices) >= 2 else 1  # from three ranks on the last one reads data
    # One that was too late goes on where it was; one that has ended begins anew.
    folder, ended = context.out / "demo", context.out / "demo/gpu-check-ended"
    if ended.exists():
        shutil.rmtree(folder)
    output, code = context.run([*context.mpi(ranks), context.tmd, "demo", "--only", "shapes", "--configs", configs, "--run", folder],
                               expect=(0, 1))
    ended.touch()
    context.figure("device", device_line(output))
    context.figure("ranks", ranks)
    rows = json.loads((folder / "demo.json").read_text())["parts"]["shapes"]
    for row, values in rows.items():
        for name, value in values.items():
            if isinstance(value, (int, float)) and name in ("joint", "frechet", "coverage", "seconds_per_sample"):
                context.figure(f"{row}: {name}", value)
    missed = [line for line in output.split("\n") if line.startswith("MISSED")]
    if code:
        raise Failed("the demo missed what it promises: " + "; ".join(missed), output[-3000:])
    return f"tables and pictures: {folder.name}/report.html"
