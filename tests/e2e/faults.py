#!/usr/bin/env python3
"""What a run survives: kills, stops, exceptions, full disks, damage, signals. Prints a table.

python3 tests/e2e/faults.py [--full] [--seed S] [--report FILE] [KIND ...]: all tries of the table, or a sample of them.
"""
import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from jobs import Failure, ROOT, Workplace, check, losses, records, wait_for_iteration
from resume import ranks_of, weights

WORDS = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=8", "--stage1.iterations=8", "--stage2.iterations=12",
         "--checkpoint.every=3", "--teacher.ema=0.9", "--stage2.ema=0.9"]
LAST = 28
# Ranks, words: data workers, replicas, two levels, tensor and sequence.
SHAPES = [(2, []), (3, ["--mesh.data_workers=1"]), (3, []), (4, ["--mesh.replicate=2", "--mesh.two_level=true"]),
          (4, ["--mesh.sequence=2", "--mesh.shard=2"]), (4, ["--mesh.tensor=2", "--mesh.data_workers=0"]),
          (4, ["--mesh.data_workers=2"])]
DEADLINE = "--watchdog.deadline_s=4"


class Tries:
    """The tries of all kinds in one workplace; unbroken runs are made once for each shape."""

    def __init__(self, place, rng):
        self.place, self.rng, self.unbroken, self.count = place, rng, {}, 0

    def shape(self):
        return self.rng.choice(SHAPES)

    def folder(self):
        self.count += 1
        return self.place.path / f"run{self.count}"

    def reference(self, ranks, words):
        key = (ranks, *words)
        if key not in self.unbroken:
            self.unbroken[key] = self.folder()
            self.place.run(ranks, self.unbroken[key], *WORDS, *words)
        return self.unbroken[key]

    def expect_equal(self, run, ranks, words, what):
        whole = self.reference(ranks, words)
        check(losses(whole) == losses(run), f"{what}: losses differ from those of the unbroken run")
        check(weights(whole) == weights(run), f"{what}: weights, moments or averages differ from those of the unbroken run")
        samples = [[r["samples"] for r in records(folder)] for folder in (whole, run)]
        check(samples[0] == samples[1], f"{what}: samples differ from those of the unbroken run")

    def restart(self, run, ranks, words, what, expect_resumed=True):
        had_checkpoint = any((run / "checkpoints").glob("step_*[0-9]"))
        output = self.place.run(ranks, run, *WORDS, *words)
        if had_checkpoint and expect_resumed:
            check("RESUMED step" in output and "FRESH" not in output, f"{what}: not resumed:\n{output[-2000:]}")
            check("bit for bit" in output or "nothing to compare" in output or f"RESUMED step {LAST}" in output,
                  f"{what}: the first losses are not those before:\n{output[-2000:]}")
        self.expect_equal(run, ranks, words, what)


def lost_iterations(run, output):
    """Iterations that a restart repeats."""
    resumed = re.search(r"RESUMED step (\d+)", output)
    return records(run)[-1]["iteration"] - int(resumed[1]) if resumed else 0


def kill(tries, i):
    ranks, words = tries.shape()
    run = tries.folder()
    process = tries.place.start(ranks, run, *WORDS, *words)
    if i % 3 == 0:  # while a checkpoint is being written
        target = tries.rng.randint(1, 8)
        deadline = time.time() + 120
        seen = set()
        while len(seen) < target and process.poll() is None and time.time() < deadline:
            seen |= {p.name for p in (run / "checkpoints").glob("*.partial")}
    else:
        wait_for_iteration(run, tries.rng.randint(1, LAST - 2), process)
        time.sleep(tries.rng.uniform(0, 0.1))
    victims = ranks_of(process)
    if victims:
        os.kill(tries.rng.choice(victims), signal.SIGKILL)
    process.communicate(timeout=180)
    tries.restart(run, ranks, words, f"kill {i}")


def stop(tries, i):
    ranks, words = tries.shape()
    phases = ["batch", "compute", "reduce", "update", "metrics", "write", "commit"]
    phase = phases[i % len(phases)]
    trainers = ranks - sum(int(w.split("=")[1]) for w in words if "data_workers" in w)
    rank = 0 if phase == "commit" else tries.rng.randrange(trainers)
    step = 3 * tries.rng.randint(1, 7)
    run = tries.folder()
    output = tries.place.run(ranks, run, *WORDS, *words, DEADLINE, f"--fault=stop:{rank}:{phase}:{step}", expect=76)
    verdict = json.loads((run / "verdict.json").read_text())
    check(verdict["late_ranks"] == [rank] and verdict["exit_code"] == 76, f"stop in {phase}: verdict {verdict}\n{output[-2000:]}")
    tries.restart(run, ranks, words, f"stop in {phase}")


def throw_or_nan(tries, i):
    ranks, words = tries.shape()
    run = tries.folder()
    trainers = ranks - sum(int(w.split("=")[1]) for w in words if "data_workers" in w)
    rank, step = tries.rng.randrange(trainers), tries.rng.randint(2, LAST - 2)
    if i % 2 == 0:
        phase = ["batch", "compute", "reduce", "update", "metrics"][i // 2 % 5]
        output = tries.place.run(ranks, run, *WORDS, *words, f"--fault=throw:{rank}:{phase}:{step}", expect=70)
        check(f"fault in phase {phase} of step {step}" in output, f"throw in {phase}: not named:\n{output[-2000:]}")
        tries.restart(run, ranks, words, f"throw in {phase}")
        return
    tries.place.run(ranks, run, *WORDS, *words, f"--fault=nan:{rank}:update:{step}")
    whole = losses(tries.reference(ranks, words))
    found = losses(run)
    check([r["iteration"] for r in records(run)] == list(range(1, LAST + 1)), "nan: iterations are missing")
    check(whole[:step] == found[:step], "nan: losses before the fault differ")
    check(all(value == value for _, _, loss in found for value in loss.values()), "nan: it has spread")
    check(whole != found, "nan: the update was not left out")


def disk(tries, i):
    ranks, words = 2, []
    run = tries.folder()
    kind = ["write", "commit", "size", "blocked", "write", "commit"][i % 6]
    what = f"disk {kind}"
    if kind in ("write", "commit"):
        rank = 1 if kind == "write" else 0
        output = tries.place.run(ranks, run, *WORDS, f"--fault=enospc:{rank}:{kind}:9")
        check("checkpoint of step 9 failed, training goes on" in output, f"{what}: no warning:\n{output[-2000:]}")
    elif kind == "size":  # in KiB; a part file is larger, everything else is smaller
        command = tries.place.command(ranks, run, *WORDS, "--run.stages=teacher,stage1", "--teacher.iterations=6")
        limit = ["bash", "-c", 'ulimit -f 100; exec "$@"', "limited", *command]
        result = subprocess.run(limit, env={**os.environ, **jobs_environment()}, cwd=ROOT, capture_output=True, text=True)
        check(result.returncode == 74 and "training goes on" in result.stdout + result.stderr,
              f"{what}: exit code {result.returncode}:\n{(result.stdout + result.stderr)[-2000:]}")
        shutil.rmtree(run)  # nothing was saved; the unlimited run begins anew
        tries.place.run(ranks, run, *WORDS)
    else:  # a file lies where checkpoints are put together, for a while
        process = tries.place.start(ranks, run, *WORDS)
        wait_for_iteration(run, 4, process)
        folder = run / "checkpoints"
        folder.rename(run / "aside")
        folder.write_text("in the way")
        wait_for_iteration(run, 9, process)  # a stage begins meanwhile
        folder.unlink()
        (run / "aside").rename(folder)
        output, _ = process.communicate(timeout=180)
        check(process.returncode == 0 and "training goes on" in output, f"{what}: {process.returncode}\n{output[-2000:]}")
    tries.expect_equal(run, ranks, words, what)
    check(f"step_{LAST:08d}" in {p.name for p in (run / "checkpoints").iterdir()}, f"{what}: no later save succeeded")


def jobs_environment():
    from jobs import MPI_ENV
    return MPI_ENV


def damage(tries, i):
    ranks, words = 2, []
    run = tries.folder()
    tries.place.run(ranks, run, *WORDS, "--stage2.iterations=6")
    steps = sorted((run / "checkpoints").glob("step_*"))
    kind = ["flip", "truncate", "missing", "swap", "manifest"][i % 5]

    def hurt(folder):
        files = sorted(folder.glob("rank_*.safetensors"))
        victim = tries.rng.choice(files)
        if kind == "flip":
            data = bytearray(victim.read_bytes())
            data[tries.rng.randrange(len(data) // 2, len(data) - 256)] ^= 1 << tries.rng.randrange(8)
            victim.write_bytes(data)
        elif kind == "truncate":
            os.truncate(victim, victim.stat().st_size // 2)
        elif kind == "missing":
            victim.unlink()
        elif kind == "swap":
            other = folder / victim.name.replace("rank_00000", "rank_X").replace("rank_00001", "rank_00000").replace("rank_X", "rank_00001")
            a, b = victim.read_bytes(), other.read_bytes()
            victim.write_bytes(b)
            other.write_bytes(a)
        else:
            victim = folder / "manifest.json"
            text = victim.read_text()
            at = tries.rng.randrange(len(text))
            victim.write_text(text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1:])
        return victim

    victim = hurt(steps[-1])
    longer = ["--allow-change", "stage2.iterations"]
    output = tries.place.run(ranks, run, *WORDS, *longer)
    check(f"checkpoint {steps[-1].name} cannot be used" in output, f"{kind}: the damage is not named:\n{output[-2000:]}")
    check(victim.name in output or kind == "swap", f"{kind}: the file {victim.name} is not named:\n{output[-2000:]}")
    check(f"RESUMED step {int(steps[-2].name[5:])}" in output, f"{kind}: the older one was not taken:\n{output[-2000:]}")
    tries.expect_equal(run, ranks, words, kind)
    for folder in (run / "checkpoints").glob("step_*"):
        hurt(folder)
    before = sorted(p.name for p in (run / "checkpoints").iterdir())
    output = tries.place.run(ranks, run, *WORDS, *longer, expect=74)
    check("FRESH" not in output and before == sorted(p.name for p in (run / "checkpoints").iterdir()),
          f"{kind}: with none left it did not only say so:\n{output[-2000:]}")


def ask_to_stop(tries, i):
    ranks, words = tries.shape()
    run = tries.folder()
    kind = ["TERM", "USR1", "USR2", "minutes", "TERM", "USR1", "USR2", "end time"][i % 8]
    if kind in ("minutes", "end time"):
        slow = ["--fault=slow:0:batch:7"]
        limit = ["--run.max_minutes=0.05"] if kind == "minutes" else []
        environment = {"TMD_END_TIME": str(int(time.time() + 3))} if kind == "end time" else {}
        os.environ.update(environment)
        try:
            output = tries.place.run(ranks, run, *WORDS, *words, *limit, *slow, "--run.stop_margin_s=0.5", expect=75)
        finally:
            os.environ.pop("TMD_END_TIME", None)
        reason = "wall_limit"
    else:
        iteration = tries.rng.randint(1, LAST - 6)
        process = tries.place.start(ranks, run, *WORDS, *words, f"--fault=slow:0:batch:{iteration + 1}")
        wait_for_iteration(run, iteration, process)
        os.kill(tries.rng.choice(ranks_of(process)), getattr(signal, f"SIG{kind}"))  # data workers too
        output, _ = process.communicate(timeout=180)
        check(process.returncode == 75, f"{kind}: exit code {process.returncode}:\n{output[-3000:]}")
        reason = "signal"
    verdict = json.loads((run / "verdict.json").read_text())
    check(verdict["exit_code"] == 75 and verdict["reason"] == reason, f"{kind}: verdict {verdict}")
    saved = records(run)[-1]["iteration"]
    check((run / "checkpoints" / f"step_{saved:08d}").is_dir(), f"{kind}: iteration {saved} is not saved")
    output = tries.place.run(ranks, run, *WORDS, *words)
    check(f"RESUMED step {saved}" in output, f"{kind}: not resumed from {saved}:\n{output[-2000:]}")
    tries.expect_equal(run, ranks, words, kind)


def resume_twice(tries, i):
    """12 samples an iteration of a data set of 24: an epoch is two iterations; three starts cross several."""
    ranks, words = tries.shape()
    run = tries.folder()
    stages = [["--stage1.iterations=3"], ["--stage1.iterations=5"]] if i % 2 else [["--stage2.iterations=3"], ["--stage2.iterations=8"]]
    only = ["--run.stages=teacher,stage1"] if i % 2 else []
    for change in stages:
        tries.place.run(ranks, run, *WORDS, *words, *change, *only, "--allow-change", change[0].split("=")[0][2:], "run.stages")
    tries.place.run(ranks, run, *WORDS, *words, "--allow-change", stages[0][0].split("=")[0][2:], "run.stages")
    whole = tries.reference(ranks, words)
    samples = [[r["samples"] for r in records(folder)] for folder in (whole, run)]
    check(samples[0] == samples[1], "resumed twice: other samples")
    tries.expect_equal(run, ranks, words, "resumed twice")


def pairs(tries, i):
    """Every pair of meshes: the state after a load is that which was saved, bit for bit."""
    program = ROOT / "build/release/tests/orchestrator_training_state_mpi_test"
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "4", str(program)]
    result = subprocess.run(command, env={**os.environ, **jobs_environment(), "TMD_TEST_FULL": "1", "OMP_NUM_THREADS": "1"},
                            cwd=ROOT, capture_output=True, text=True)
    check(result.returncode == 0, f"pairs of meshes: {result.stdout[-2000:]}")


# Name, function, what is asked, tries of the whole table, tries of the sample.
KINDS = [
    ("kill", kill, "kill -9 of a random rank at a random moment, data workers and saves included", 50, 2),
    ("stop", stop, "SIGSTOP of a rank in each phase: named, exit code 76", 10, 1),
    ("throw", throw_or_nan, "exception or NaN on one rank: all act alike", 10, 1),
    ("disk", disk, "full disk, file-size limit, blocked folder while saving: training goes on", 6, 1),
    ("damage", damage, "flipped bit, truncated, missing, swapped part, manifest: named, older one taken", 10, 1),
    ("signal", ask_to_stop, "SIGTERM, SIGUSR1, SIGUSR2, limit of time: saved, exit code 75", 8, 1),
    ("twice", resume_twice, "resumed twice within an epoch and across epochs: same samples", 4, 1),
    ("pairs", pairs, "all pairs of meshes of 1 to 4 ranks: same bits after a load", 1, 0),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=int(time.time()) // 86400)
    parser.add_argument("--report")
    parser.add_argument("kinds", nargs="*")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    rows, failed = [], 0
    with Workplace() as place:
        tries = Tries(place, rng)
        for name, action, what, full, sample in KINDS:
            if arguments.kinds and name not in arguments.kinds:
                continue
            count = full if arguments.full else sample
            first = 0 if arguments.full else rng.randrange(full)
            recovered, began, problems = 0, time.time(), []
            for i in range(first, first + count):
                try:
                    action(tries, i)
                    recovered += 1
                except Failure as failure:
                    problems.append(f"try {i}: {failure}")
                    print(f"FAILED  {name} {problems[-1]}", flush=True)
            failed += count - recovered
            rows.append(f"| {what} | {count} | {recovered} | {'nothing' if recovered == count else '; '.join(problems)[:200]} |")
            print(f"{name}: {recovered} of {count} in {time.time() - began:.0f} s", flush=True)
    table = "\n".join(["| fault | tried | recovered | lost |", "|---|---|---|---|", *rows])
    print(f"seed {arguments.seed}\n{table}")
    if arguments.report:
        with open(arguments.report, "w") as file:
            file.write(f"seed {arguments.seed}\n\n{table}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
