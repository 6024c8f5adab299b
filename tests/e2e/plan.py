#!/usr/bin/env python3
"""`tmd plan` against what runs take, its refusals, and runs that the host gives too little memory."""
import itertools
import re
import resource
import subprocess
import sys
import time

from jobs import CLIPS, MPI_ENV, TMD, Workplace, check, main, os, records, some

SHORT = ["--teacher.iterations=2", "--stage1.iterations=2", "--stage2.iterations=10"]
ALL = ["--run.stages=teacher,stage1,stage2", *SHORT]

# Ranks, and what differs from the tiny configuration: shards, replicas, types, micro-batches, methods, networks.
RUNS = {
    "one_rank": (1, ALL),
    "two_shards": (2, ALL),
    "three_shards": (3, [*ALL, "--data.prefetch=1"]),
    "replicas": (2, [*ALL, "--mesh.replicate=2", "--stage2.ema=0.9", "--teacher.ema=0.9"]),
    "two_levels": (2, [*ALL, "--mesh.replicate=2", "--mesh.two_level=true", "--stage2.ema=0.9"]),
    "data_worker": (2, [*ALL, "--mesh.data_workers=1", "--train.micro_batch=5"]),
    "fp64": (2, [*ALL, "--train.precision=fp64", "--train.micro_batch=4", "--method.fusion=concat"]),
    "dmd2v": (2, ["--run.stages=stage2", *SHORT, "--method.name=dmd2v", "--stage2.r1_weight=1"]),
    "no_gan": (1, ["--run.stages=stage2", *SHORT, "--stage2.gan_weight=0", "--method.inner_steps=4"]),
    "conv1d_2d": (2, ["--run.stages=stage2", *SHORT, "--method.discriminator=conv1d_2d",
                      "--method.discriminator_conv_widths=16,24"]),
    "attention": (2, ["--run.stages=stage2", *SHORT, "--method.discriminator=attention", "--mesh.sequence=2",
                      "--method.discriminator_attention_width=32", "--method.discriminator_attention_heads=4"]),
    "tm": (2, ["--run.stages=stage1", *SHORT, "--method.name=tm", "--stage1.cfg=1"]),
    "perceptron": (2, [*ALL, "--model.kind=mlp", "--stage2.gan_weight=0", "--stage1.cfg=1", "--model.mlp_width=256"]),
}
PHASES = {"teacher": ["teacher"], "stage1": ["stage1"], "stage2": ["critic", "student"]}
UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


def plan(*words, expect=0):
    result = subprocess.run([str(TMD), "plan", *map(str, words)], env={**os.environ, **MPI_ENV}, capture_output=True,
                            text=True, timeout=300)
    output = result.stdout + result.stderr
    check(result.returncode == expect, f"exit code {result.returncode}, expected {expect}: {words}\n{output[-3000:]}")
    return output


def planned_peak(output):
    number, unit = re.search(r"^([\d.]+) (kB|MB|GB) of .* a rank at the peak", output, re.M).groups()
    return float(number) * UNITS[unit]


def measured():
    """What runs take is what was planned for them, to 5 percent in every phase."""
    for name, (ranks, words) in some(list(RUNS.items()), 3):
        with Workplace() as place:
            run = place.path / "run"
            output = place.run(ranks, run, *words)
            stages = re.search(r"stages=([\w,]+)", words[0])[1].split(",")
            wanted = [phase for stage in stages for phase in PHASES[stage]]
            lines = re.findall(r"memory of (\w+) iterations: plan ([\d.]+) (\w+), measured ([\d.]+) (\w+), ratio ([\d.]+)",
                               output)
            check([line[0] for line in lines] == wanted, f"{name}: phases {lines}, not {wanted}\n{output[-3000:]}")
            tensors = [record["mem"]["tensors"] for record in records(run)]
            for phase, planned, plan_unit, taken, unit, ratio in lines:
                check(0.95 < float(ratio) < 1.05, f"{name}: {phase} iterations took {ratio} of the plan\n{output[-3000:]}")
                check(any(abs(t / (float(taken) * UNITS[unit]) - 1) < 0.06 for t in tensors),
                      f"{name}: metrics.jsonl says {tensors}, the console {taken} {unit}")
            # The verb says the same of the worst phase.
            verb = plan(place.config, "--ranks", ranks, "--device", "cpu", f"--data.files={CLIPS}", *words)
            worst = max(float(line[1]) * UNITS[line[2]] for line in lines)
            check(abs(planned_peak(verb) / worst - 1) < 0.02, f"{name}: {worst:.4g} B in the run\n{verb}")
            print(f"    {name}: " + ", ".join(f"{line[0]} {line[5]}" for line in lines))


def recipes():
    """Every recipe of the real models can be planned, and what is advised fits."""
    for model, part in some(list(itertools.product(("wan1.3b", "wan14b"), ("tmd", "dmd2v", "stage1"))), 2):
        output = plan(f"configs/{model}-{part}.ini", "--ranks", 8, "--device", "4TB")
        check("GB per rank" in output and "all iterations" in output, output)
    for ranks, replicas in some(((8, 1), (16, 1), (32, 1), (64, 2)), 2):  # the meshes that the recipes name
        large = plan("configs/wan14b-tmd.ini", "--ranks", ranks, "--device", "h100", f"--mesh.replicate={replicas}")
        check(planned_peak(large) < 80e9, large)
    plan("configs/wan14b-tmd.ini", "--ranks", 8, "--device", "h100", "--mesh.sequence=1", expect=2)
    small = plan("configs/wan1.3b-tmd.ini", "--ranks", 8, "--device", "h100")
    check(planned_peak(small) < 80e9 and "replica  0 | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 |" in small, small)


def advice():
    with Workplace() as place:
        data = f"--data.files={CLIPS}"
        fits = plan(place.config, "--ranks", 2, "--device", "1GB", data)
        limit = int(0.7 * planned_peak(fits))
        output = plan(place.config, "--ranks", 2, "--device", limit, data, expect=2)
        found = re.findall(r"^  (--.*): [\d.]+ \wB a rank, [\d.e+-]+ rank hours$", output, re.M)
        check("does not fit" in output and 1 <= len(found) <= 3, output)
        for words in found:
            words = words.split()
            ranks = words[words.index("--ranks") + 1] if "--ranks" in words else 2
            rest = [word for word in words if "." in word]
            again = plan(place.config, "--ranks", ranks, "--device", limit, data, *rest)
            check(planned_peak(again) <= limit, f"{words} does not fit:\n{again}")
        check("none of the changes" in plan(place.config, "--ranks", 2, "--device", "2kB", data, expect=2), "2 kB suffice")


def refusals():
    with Workplace() as place:
        config, data = place.config, f"--data.files={CLIPS}"
        plan(expect=64)
        plan(config, expect=64)
        plan(config, "--ranks", 2, "--device", "a100", data, expect=64)
        plan(config, "--ranks", 0, data, expect=64)
        plan(config, "--ranks", 2, "--latent", "16,4,8", expect=64)
        plan("no.ini", "--ranks", 2, expect=78)
        check("global_batch" in plan(config, "--ranks", 5, data, expect=78), "the batch is not named")
        plan(config, "--ranks", 2, "--train.micro_match=1", data, expect=78)
        plan(config, "--ranks", 2, "--mesh.shard=3", data, expect=78)
        plan(config, "--ranks", 2, "--run.stages=stage1", "--stage1.iterations=0", data, expect=78)
        plan(config, "--ranks", 2, "--data.files=missing.h5", expect=65)
        plan(config, "--ranks", 2, "--latent", "8,4,8,12", expect=65)
        plan(config, "--ranks", 2, "--latent", "16,4,7,12", expect=65)


def peak_address_space(process):
    """VmPeak in bytes of a process until it ends."""
    peak = 0
    while process.poll() is None:
        try:
            status = open(f"/proc/{process.pid}/status").read()
            peak = max([peak, *(1024 * int(size) for size in re.findall(r"VmPeak:\s+(\d+) kB", status))])
        except OSError:
            pass
        time.sleep(0.02)
    return peak


def too_little_memory():
    """The host refuses an allocation in the middle of an iteration: who asked, for what, and what was planned."""
    wide = ["--run.stages=teacher", "--teacher.iterations=1", "--model.ffn=30000", "--train.global_batch=24"]
    with Workplace() as place:
        process = place.start(0, place.path / "small", *wide, "--model.ffn=48")
        program = peak_address_space(process)  # with tensors of a few megabytes
        check(process.wait() == 0, process.communicate()[0][-3000:])
        needed = planned_peak(plan(place.config, "--ranks", 1, "--device", "cpu", f"--data.files={CLIPS}", *wide))
        command = place.command(0, place.path / "short", *wide)
        limit = int(program + 0.7 * needed)
        result = subprocess.run(command, env={**os.environ, **MPI_ENV}, capture_output=True, text=True, timeout=240,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        output = result.stdout + result.stderr
        check(result.returncode == 2, f"exit code {result.returncode}, not 2\n{output[-3000:]}")
        for text in (r"iteration 1 \(teacher\): the host gives no [\d.]+ MB for temporaries \(teacher blocks\.\d \w+ward\)",
                     r"are in use: ", r"the plan had said [\d.]+ \wB at the peak", r"tmd plan"):
            check(re.search(text, output), f"'{text}' is not in the output:\n{output[-3000:]}")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (measured, recipes, advice, refusals, too_little_memory)}, sample=3))
