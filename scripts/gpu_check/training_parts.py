"""The parts iteration, checkpoint and overhead: a model of 1.3 billion parameters at 480p, with random weights and data."""
import json
import re
import shutil
import statistics
import time

import context as contexts
import machine
from build_part import device_line
from commands import Failed, Skipped, TooLate, tail_of

CONFIG = "configs/wan1.3b-tmd.ini"
LATENT, TEXT, TOKENS = (16, 21, 60, 104), (512, 4096), 21 * 30 * 52
PHASES = ("stage1", "critic", "student")
PLAN_NAMES = {"stage1": "stage-1 step", "critic": "critic step", "student": "student step"}
# Iterations of each phase; after the second one the run makes its plan of the memory once more.
WARM_UP, MEASURED = 2, 2
SAVE_STEP = 4 * WARM_UP  # phases take turns, so two of each are left to compare with


def job_words(context):
    """Of `tmd train` and `tmd plan` alike: one sample a device, and every sample of stage 1 with its finite difference."""
    return [f"--train.global_batch={context.ranks}", "--train.micro_batch=1", "--stage1.flow_matching=0", "--stage2.student_every=2",
            "--preview.every=-1"]


def numbers(values):
    return ",".join(map(str, values))


def latents(context):
    file = context.scratch / context.part / "latents.h5"
    file.parent.mkdir(parents=True, exist_ok=True)
    context.run([context.program("e2e_synthetic_latents"), file, 2 * context.ranks, numbers(LATENT), numbers(TEXT)])
    return file


def plan(context):
    """Phases and sizes of saves of a rank as `tmd plan` finds them; what is recomputed is counted."""
    output, _ = context.run([*context.mpi(1), context.tmd, "plan", CONFIG, "--ranks", context.ranks, "--latent", numbers(LATENT),
                             *job_words(context)], expect=(0, 2))
    return parse_plan(output)


def parse_plan(output):
    """{phase: (TFLOP, GB at the peak)}, and {stage: GB of a checkpoint, at most}."""
    table = output[output.index("per rank at the peak of"):]
    headings = re.split(r"\s{2,}", table.split("\n")[1].strip())
    scale = {"GB": 1, "MB": 1e-3, "kB": 1e-6}[re.search(r"^(\w+) per rank at the peak", output, re.MULTILINE)[1]]

    def row(item):
        found = re.search(rf"^  {item} +([\d. ]+)$", table, re.MULTILINE)
        values = [scale * float(value) for value in found[1].split()] if found else [0.0] * len(headings)
        return dict(zip(headings, values))

    phases, peaks = {}, row("all")
    for phase, name in PLAN_NAMES.items():
        times = re.search(rf"^  {name} +(.*)$", output, re.MULTILINE)
        phases[phase] = (float(times[1].split()[4]), peaks[name])
    saved = [row(item) for item in ("weights", "optimizer moments", "weight average", "discriminator")]
    return phases, {stage: sum(values[f"{stage} checkpoint"] for values in saved) for stage in ("stage1", "stage2")}


def train_words(context, folder, data, *words):
    return [*context.mpi(context.ranks), context.tmd, "train", "--config", CONFIG, "--run", folder, f"--data.files={data}",
            f"--device.kind={context.device}", *job_words(context), *words]


def read_lines(folder):
    """Whole lines of metrics.jsonl so far."""
    try:
        text = (folder / "metrics.jsonl").read_text()
    except OSError:
        return []
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]


def watch(context, job, is_done):
    """Asks `is_done` again and again while the job runs; the job is ended when it says so, since its end would write a
    checkpoint that nobody wants."""
    while not is_done():
        if job.has_ended():
            raise Failed(f"the run has ended with {job.process.returncode} before it was measured", tail_of(context.log))
        if context.clock.left() <= 0:
            raise TooLate("the run was not measured in time", tail_of(context.log))
        time.sleep(0.05)


def free_gb(context):
    context.scratch.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(context.scratch).free / 1e9


def need_space(context, saved_gb):
    """A run refuses to begin without room for two checkpoints of all ranks."""
    wanted = 2.1 * saved_gb * context.ranks
    if free_gb(context) < wanted:
        raise Skipped(f"{context.scratch} has {free_gb(context):.0f} GB free, and a run of this size wants room for {wanted:.0f} GB of "
                      "checkpoints: name another folder with --scratch")


def measure_phases(context, data, name, *words):
    """Lines of metrics after the warm-up, by phase, and what the run has printed."""
    folder = context.folder(name)
    each = WARM_UP + MEASURED
    wanted = len(PHASES) * each
    lengths = [f"--stage1.iterations={each}", "--stage2.iterations=1000", "--checkpoint.every=100000"]
    with context.job(train_words(context, folder, data, *lengths, *words)) as job:
        watch(context, job, lambda: len(read_lines(folder)) >= wanted)
        output = job.output()
    lines = read_lines(folder)[:wanted]
    shutil.rmtree(folder, ignore_errors=True)
    return {phase: [line for line in lines if line["phase"] == phase][WARM_UP:] for phase in PHASES}, output


def report_phases(context, label, by_phase, planned):
    rate, source = machine.bf16_rate(context.devices[0].name if context.devices else "the processor")
    for phase, lines in by_phase.items():
        if len(lines) != MEASURED:
            raise Failed(f"{len(lines)} iterations of {phase} were measured, not {MEASURED}")
        seconds = statistics.mean(line["time"]["total"] - line["time"]["checkpoint"] for line in lines)
        tflop, peak = planned[phase]
        fastest = min(line["time"]["total"] for line in lines)
        context.figure(f"{phase}{label}: seconds", seconds, f"mean of {MEASURED}, from {fastest:.3g} s")
        context.figure(f"{phase}{label}: tokens/s", TOKENS * context.ranks / seconds,
                       f"samples of {TOKENS} tokens, {context.ranks} at once")
        context.figure(f"{phase}{label}: hardware FLOP utilisation", tflop / seconds / rate,
                       f"{tflop:.0f} TFLOP a device by tmd plan, recompute counted; of {source}")
        measured = max(line["mem"]["tensors"] for line in lines) / 1e9
        context.figure(f"{phase}{label}: peak of tensors", measured, f"GB; plan {peak:.2f} GB, ratio {measured / peak:.3f}")
        parts = [f"{name} {statistics.mean(line['time'][name] for line in lines):.3f} s"
                 for name in ("data", "gather_exposed", "reduce_exposed", "exchange_exposed", "optimizer", "other")]
        context.figure(f"{phase}{label}: of it", ", ".join(parts))


def iteration(context):
    planned, saved = plan(context)
    need_space(context, saved["stage1"])
    data = latents(context)
    by_phase, output = measure_phases(context, data, "run")
    context.figure("device", device_line(output))
    report_phases(context, "", by_phase, planned)
    text = ""
    used = contexts.PART_SECONDS - context.clock.left()
    if context.clock.left() > 1.2 * used:
        by_phase, _ = measure_phases(context, data, "fastest", "--device.deterministic=false")
        report_phases(context, ", not deterministic", by_phase, planned)
    else:
        text = "; not measured again with device.deterministic = false: too little time was left"
    context.clean()
    return (f"{CONFIG}, bfloat16, random weights, one sample of 81 x 480 x 832 a device; stage 1 with the finite difference" + text)


class SaveWatch:
    """When the lines of a run and its first checkpoint have appeared."""

    def __init__(self, folder, step):
        self.folder, self.step = folder, step
        self.line_times, self.committed = [], None

    def look(self):
        now = time.monotonic()
        lines = len(read_lines(self.folder))
        self.line_times += [now] * (lines - len(self.line_times))
        if self.committed is None and (self.folder / f"checkpoints/step_{self.step:08}").exists():
            self.committed = now
        begun = len(self.line_times) >= self.step
        # What the save has held up stands in the line of the iteration that came after its end.
        return begun and self.committed is not None and self.line_times[-1] > self.committed and lines >= self.step + 3

    def while_writing(self, lines):
        """Those iterations that lay wholly between the save's begin and its commit, and those before it."""
        begin = self.line_times[self.step - 1]
        during = [line for line, end in zip(lines[self.step:], self.line_times[self.step:]) if end <= self.committed]
        return during, self.committed - begin


def checkpoint(context):
    _, saved = plan(context)
    stage = "stage2" if free_gb(context) > 2.1 * saved["stage2"] * context.ranks else "stage1"
    need_space(context, saved[stage])
    data, folder = latents(context), context.folder("run")
    saves = SaveWatch(folder, SAVE_STEP)
    with context.job(train_words(context, folder, data, f"--run.stages={stage}", f"--{stage}.iterations=1000",
                                 f"--checkpoint.every={SAVE_STEP}")) as job:
        watch(context, job, saves.look)
    report_save(context, saves, read_lines(folder))
    size = sum(file.stat().st_size for file in (folder / f"checkpoints/step_{SAVE_STEP:08}").rglob("*") if file.is_file())
    context.figure("checkpoint", size / 1e9, "GB")
    context.figure("written", size / 1e9 / context.figures["begin to commit"]["value"], f"GB/s, to {context.scratch}")
    context.clean()
    return f"{stage} of {CONFIG}, saved while it trains"


def report_save(context, saves, lines):
    during, duration = saves.while_writing(lines)
    step = saves.step
    held = sum(line["time"]["checkpoint"] for line in lines[step:])
    context.figure("training held by a save", held, "s")
    context.figure("begin to commit", duration, "s")
    context.figure("iterations wholly while it is written", len(during))
    for phase in PHASES:
        alone = [line["time"]["total"] - line["time"]["checkpoint"] for line in lines[step // 2:step] if line["phase"] == phase]
        beside = [line["time"]["total"] - line["time"]["checkpoint"] for line in during if line["phase"] == phase]
        if alone:
            context.figure(f"{phase}: seconds alone", statistics.mean(alone))
        if alone and beside:
            context.figure(f"{phase}: seconds while it is written", statistics.mean(beside),
                           f"ratio {statistics.mean(beside) / statistics.mean(alone):.3f}")
    if not during:
        context.figure("note", "the save was over before an iteration was")


def bench(context, mode, preset, dtype, *words):
    file = context.scratch / context.part / f"{mode}-{preset}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    context.run([*context.mpi(1), context.tmd, "bench", "step", "--device", context.device, "--mode", mode, "--preset", preset,
                 "--dtype", dtype, "--json", file, *words])
    return json.loads(file.read_text())


def plain_tflop(tokens, width=1536, ffn=8960, layers=30, text=512):
    """A forward pass, its recomputation, and a backward pass of twice the products and 2.5 times the attention."""
    n, d = tokens, width
    attention = layers * (4 * n * n * d + 4 * n * text * d)
    products = layers * (n * (12 * d * d + 4 * d * ffn) + 4 * text * d * d)
    return (4 * products + 4.5 * attention) * 1e-12


REPEATS = 3


def overhead(context):
    for preset in ("small", "wide"):
        fastest = {"plain": [], "bare": []}
        for _ in range(REPEATS):  # in turns: a device that gets warmer does so for both
            for mode, words in (("bare", ()), ("plain", ("--keep_blocks", 1000))):
                result = bench(context, mode, preset, "fp32", "--warmup", 3, "--iterations", 10, *words)
                if result["device"] != context.device:
                    raise Failed(f"bench step has computed on {result['device']}")
                fastest[mode].append(result["step_s"]["passes"]["min"])
        plain, bare = min(fastest["plain"]), min(fastest["bare"])
        context.figure(f"{preset}, float32: engine over bare blocks", plain / bare,
                       f"{plain:.4g} s over {bare:.4g} s, forward and backward, fastest of {REPEATS} x 10")
        turns = zip(fastest["plain"], fastest["bare"])
        context.figure(f"{preset}: the same of each turn", ", ".join(f"{p / b:.3f}" for p, b in turns))
    result = bench(context, "plain", "wan1.3b", "bf16", "--warmup", 1, "--iterations", 3)
    seconds = result["iteration_s"]["median"]
    rate, source = machine.bf16_rate(context.devices[0].name if context.devices else "the processor")
    tflop = plain_tflop(result["tokens_per_sample"])
    context.figure("wan1.3b, bfloat16, one network: seconds", seconds, "forward, recomputation, backward, AdamW; median of 3")
    context.figure("wan1.3b: tokens/s", result["tokens_per_sample"] / seconds)
    context.figure("wan1.3b: hardware FLOP utilisation", tflop / seconds / rate, f"{tflop:.0f} TFLOP with recompute; of {source}")
    context.figure("wan1.3b: memory of the device that is taken", result["device_mib"] / 1024, "GiB")
    context.clean()
    return ""
