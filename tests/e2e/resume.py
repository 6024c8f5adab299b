#!/usr/bin/env python3
"""Kill -9 of a rank and a new start of the same command: the losses equal those of the unbroken run, bit for bit."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from jobs import Failure, Workplace, after_iteration, check, losses, main, only_in_full, records, some, wait_for_iteration

WORDS = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=8", "--stage1.iterations=8", "--stage2.iterations=12",
         "--checkpoint.every=5", "--teacher.ema=0.9", "--stage2.ema=0.9", "--mesh.data_workers=1"]


def ranks_of(process):
    """Process ids of the ranks that mpirun started."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in children if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "tmd"]


def weights(run):
    """Name and content of every part file of the newest checkpoint: weights, moments and averages of all networks."""
    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    return {p.name: p.read_bytes() for p in newest.glob("rank_*.safetensors")}


def kill_and_resume():
    with Workplace() as place:
        unbroken, broken = place.path / "unbroken", place.path / "broken"
        place.run(3, unbroken, *WORDS)
        # inside the teacher stage, inside stage 1, inside stage 2; trainers and the data worker
        starts = {}
        for at_iteration, rank in ((7, 0), (13, 2), (23, 1)):
            process = place.start(3, broken, *WORDS)
            wait_for_iteration(broken, at_iteration, process)
            victims = ranks_of(process)
            if len(victims) != 3:  # it was faster than we are; then there is nothing to break
                raise Failure(f"expected 3 ranks, found {victims}")
            os.kill(victims[rank], signal.SIGKILL)
            starts[at_iteration], _ = process.communicate(timeout=120)
            check(process.returncode != 0, "a killed job ends with an error")
        starts["last"] = place.run(3, broken, *WORDS)
        check("FRESH start" in starts[7], "the first start is not called fresh")
        # A rank may have run on for some iterations before it was killed.
        for start, oldest in ((13, 5), (23, 10), ("last", 20)):
            resumed = re.search(r"RESUMED step (\d+)", starts[start])
            check(resumed and int(resumed[1]) >= oldest and "FRESH" not in starts[start],
                  f"not resumed from step {oldest} or later:\n{starts[start][-2000:]}")
        check(losses(unbroken) == losses(broken), "the losses of the broken run differ")
        check(weights(unbroken) == weights(broken), "weights, moments or averages of the broken run differ")
        samples = [r["samples"] for r in records(unbroken)]
        check(samples == [r["samples"] for r in records(broken)], "the samples of the broken run differ")


def replicas_resume():
    """What replicas hold alike is written once and read by all of them; on two levels every rank has pieces of its own."""
    for words in some(([], ["--mesh.two_level=true", "--train.precision=bf16"]), 1):
        with Workplace() as place:
            whole, halves = place.path / "whole", place.path / "halves"
            words = [*(w for w in WORDS if "data_workers" not in w), "--mesh.replicate=2", "--checkpoint.every=9", *words]
            place.run(4, whole, *words)
            place.run(4, halves, *words, "--stage2.iterations=3")
            output = place.run(4, halves, *words, "--allow-change", "stage2.iterations")
            check("RESUMED step 19" in output, f"not resumed:\n{output[-2000:]}")
            check(losses(whole) == losses(halves), f"{words}: the losses after the restart differ")
            check(weights(whole) == weights(halves), f"{words}: weights, moments or averages differ")
            ranks = {name.split(".")[0] for name in weights(whole)}
            writers = 4 if "--mesh.two_level=true" in words else 2
            check(len(ranks) == writers, f"{words}: written by {sorted(ranks)}")


@only_in_full  # a sample of the same is in faults.py
def stopped_rank_is_named():
    """A rank that stops without dying: its peers say who, where it is and what they wait for, and end the run."""
    with Workplace() as place:
        unbroken, run = place.path / "unbroken", place.path / "run"
        place.run(3, unbroken, *WORDS)
        process = place.start(3, run, *WORDS, "--watchdog.deadline_s=3")
        wait_for_iteration(run, 13, process)
        victims = ranks_of(process)
        os.kill(victims[1], signal.SIGSTOP)
        output, _ = process.communicate(timeout=180)
        check(process.returncode == 76, f"exit code {process.returncode}:\n{output[-3000:]}")
        verdict = json.loads((run / "verdict.json").read_text())
        check(verdict["late_ranks"] == [1] and verdict["exit_code"] == 76, f"verdict {verdict}")
        check(re.search(r"rank 1 is stopped in phase '\w+", verdict["text"]), f"no phase: {verdict['text']}")
        check("wait" in verdict["text"] and verdict["text"] in output, f"the verdict was not printed:\n{output[-3000:]}")
        output = place.run(3, run, *WORDS)
        check("RESUMED step" in output and not (run / "verdict.json").exists(), f"not resumed:\n{output[-2000:]}")
        check(losses(unbroken) == losses(run), "the losses after the restart differ")


def use_of(pid):
    """Open files and resident KiB of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return len(os.listdir(f"/proc/{pid}/fd")), int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def fifty_saves_in_a_row():
    """Neither memory nor open files grow with them."""
    for mode, count in some((("true", 200), ("false", 90)), 1):  # some are left out while the one before is being written
        with Workplace() as place:
            run = place.path / "run"
            process = place.start(2, run, "--run.stages=teacher", f"--teacher.iterations={count}", "--checkpoint.every=1",
                                  f"--checkpoint.async={mode}")
            uses = []
            for iteration in (15, count - 10):
                wait_for_iteration(run, iteration, process)
                uses.append([use_of(pid) for pid in ranks_of(process)])
            output, _ = process.communicate(timeout=120)
            check(process.returncode == 0, f"exit code {process.returncode}:\n{output[-2000:]}")
            saved = count - output.count("is left out")
            check(saved >= 50, f"async {mode}: only {saved} saves")
            for (files, memory), (files_later, memory_later) in zip(*uses):
                # One save may be under way at either moment, with its files.
                check(abs(files_later - files) <= 6, f"async {mode}: {files} open files, then {files_later}")
                check(memory_later - memory < 6000, f"async {mode}: {memory} KiB, then {memory_later}")


def other_meshes_resume():
    """One run over several starts on other meshes and numbers of ranks: losses as on one rank, within rounding."""
    starts = [*some([(3, []), (4, ["--mesh.tensor=2", "--mesh.shard=2"]), (2, ["--mesh.replicate=2", "--mesh.two_level=true"]),
                     (4, ["--mesh.data_workers=2", "--mesh.sequence=2"])], 2), (1, [])]
    words = [w for w in WORDS if "data_workers" not in w]
    with Workplace() as place:
        whole, run = place.path / "whole", place.path / "run"
        place.run(1, whole, *words)
        compared = 0
        for i, (ranks, mesh) in enumerate(starts):
            stop = ["--fault=throw:0:batch:%d" % (6 * i + 5)] if i + 1 < len(starts) else []
            output = place.run(ranks, run, *words, "--checkpoint.every=2", *mesh, *stop, expect=70 if stop else 0)
            if i:
                check("RESUMED step" in output, f"start {i} did not resume:\n{output[-2500:]}")
                compared += "are those before the start" in output
                # A run may die between the commit of a checkpoint and the next boundary, where its probe is written.
                check("are those before the start" in output or "nothing to compare" in output, f"start {i}:\n{output[:2500]}")
        check(compared >= len(starts) // 2, f"only {compared} starts compared their first losses")
        apart = max(abs(a[name] - b[name]) / (abs(a[name]) + 1e-3)
                    for (_, _, a), (_, _, b) in zip(losses(whole), losses(run)) for name in a)
        check(apart < 1e-4, f"losses differ by {apart}")


def stop_leaves_no_second_job_in():
    """A run folder belongs to one job at a time."""
    with Workplace() as place:
        run = place.path / "run"
        words = ["--run.stages=teacher", "--teacher.iterations=400"]
        process = place.start(2, run, *words)
        wait_for_iteration(run, 2, process)
        output = place.run(1, run, *words, expect=78)
        check(f"is in use by process {ranks_of(process)[0]} on host" in output, f"the holder is not named:\n{output[-2000:]}")
        os.kill(ranks_of(process)[0], signal.SIGKILL)
        process.communicate(timeout=60)
        place.run(1, run, "--run.stages=teacher", "--teacher.iterations=1", "--allow-change", "teacher.iterations")


def starts_that_are_asked_for():
    """--resume needs a checkpoint, --fresh none; a refused start leaves nothing behind."""
    with Workplace() as place:
        run = place.path / "run"
        words = ["--run.stages=teacher", "--teacher.iterations=2"]
        output = place.run(1, run, *words, "--resume", expect=78)
        check("there is no checkpoint in" in output and not run.exists(), f"{output[-1500:]}")
        place.run(1, run, *words, "--resume", "--fresh")
        output = place.run(1, run, *words, "--fresh", expect=78)
        check("holds checkpoints" in output, f"{output[-1500:]}")
        check("RESUMED step 2" in place.run(1, run, *words, "--resume"), "not resumed")
        for fault in ("kill:0:batch", "boom:0:batch:3", "kill:0:lunch:3", "nan:0:batch:3", "kill:7:batch:3", "enospc:0:batch:3"):
            place.run(1, run, *words, f"--fault={fault}", expect=64)


def finished_run_is_left_alone():
    with Workplace() as place:
        run = place.path / "run"
        words = ["--run.stages=teacher", "--teacher.iterations=4"]
        place.run(2, run, *words)
        before = losses(run)
        output = place.run(2, run, *words)
        check("RESUMED step 4" in output, f"no RESUMED line:\n{output[-2000:]}")
        check(losses(run) == before, "a finished run was changed")


def damaged_checkpoint_falls_back():
    with Workplace() as place:
        unbroken, damaged = place.path / "unbroken", place.path / "damaged"
        words = ["--run.stages=teacher", "--teacher.iterations=12", "--checkpoint.every=4"]
        place.run(2, unbroken, *words)
        place.run(2, damaged, *words)
        newest = sorted((damaged / "checkpoints").glob("step_*"))[-1]
        victim = sorted(newest.glob("rank_*.safetensors"))[0]
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
        output = place.run(2, damaged, *words)
        check(newest.name in output and "RESUMED step 8" in output, f"the damage was not named:\n{output[-2000:]}")
        check(losses(unbroken) == losses(damaged), "the losses after the older checkpoint differ")


def all_checkpoints_damaged_is_no_fresh_start():
    with Workplace() as place:
        run = place.path / "run"
        words = ["--run.stages=teacher", "--teacher.iterations=4"]
        place.run(1, run, *words)
        for manifest in (run / "checkpoints").glob("step_*/manifest.json"):
            manifest.write_text("{}")
        place.run(1, run, *words, expect=74)


def trained_folder(place):
    """A run of 12 iterations with checkpoints 8 and 12, and the words of a longer run of the same folder."""
    run = place.path / "run"
    place.run(2, run, "--run.stages=teacher", "--teacher.iterations=12", "--checkpoint.every=4")
    longer = ["--run.stages=teacher", "--checkpoint.every=4", "--allow-change", "teacher.iterations"]
    return run, checkpoints(run), longer


def checkpoints(run):
    """Name and content of every file of every checkpoint."""
    return {p.name: {f.name: f.read_bytes() for f in p.iterdir()} for p in (run / "checkpoints").iterdir()}


def largest(checkpoint_files):
    return max(sum(map(len, files.values())) for files in checkpoint_files.values())


def full_disk_is_refused_at_start():
    """Room for half a checkpoint: the run does not begin what it cannot save."""
    with Workplace() as place:
        run, good, longer = trained_folder(place)
        output = place.run(2, run, *longer, "--teacher.iterations=20", free_bytes=largest(good) // 2, expect=74)
        check("1 more checkpoint of" in output and "need room" in output, f"no word about the space:\n{output[-2000:]}")
        check(checkpoints(run) == good, f"the old checkpoints were touched: {checkpoints(run).keys()}")


def full_disk_leaves_the_old_checkpoint():
    """The disk is filled to half a checkpoint: every save fails, training goes on to its end, the last save ends it."""
    with Workplace() as place:
        run, good, longer = trained_folder(place)
        output = place.run(2, run, *longer, "--teacher.iterations=200", free_bytes=3 * largest(good), expect=74,
                           meanwhile=after_iteration(13, f"head -c {5 * largest(good) // 2} /dev/zero > filler"))
        check("training goes on" in output, f"no warning about the failed save:\n{output[-2000:]}")
        check(records(run)[-1]["iteration"] == 200, "training did not go on after the failed save")
        (run / "filler").unlink()
        good = checkpoints(run)
        check(good and max(good) <= "step_00000020", f"checkpoints on a full disk: {good.keys()}")
        output = place.run(2, run, *longer, "--teacher.iterations=200")
        check(f"RESUMED step {int(max(good)[5:])}" in output, f"did not resume from the intact one:\n{output[-2000:]}")


@only_in_full  # a sample of the same is in faults.py
def disk_that_is_freed_again_costs_nothing():
    """Saves fail until somebody makes room; then they succeed, and so does the run."""
    with Workplace() as place:
        run, good, longer = trained_folder(place)
        fill = f"head -c {5 * largest(good) // 2} /dev/zero > ballast"
        output = place.run(2, run, *longer, "--teacher.iterations=300", free_bytes=3 * largest(good),
                           meanwhile=after_iteration(13, fill) + "; " + after_iteration(60, "rm ballast"))
        check("training goes on" in output, f"no save failed:\n{output[-2000:]}")
        check([r["iteration"] for r in records(run)] == list(range(1, 301)), "iterations are missing in the metrics")
        check("step_00000300" in checkpoints(run), f"no checkpoint at the end: {checkpoints(run).keys()}")


def disk_that_fills_up_stops_nothing_but_the_last_save():
    """Not one byte is left from iteration 14 on: metrics and logs are refused too."""
    with Workplace() as place:
        run, good, longer = trained_folder(place)
        output = place.run(2, run, *longer, "--teacher.iterations=200", free_bytes=8 * largest(good), expect=74,
                           meanwhile=after_iteration(14, "cat /dev/zero > filler"))
        check("checkpoint of step 196 failed, training goes on" in output, f"training did not go on:\n{output[-2000:]}")
        check("metrics wait in memory" in output, f"no word about the metrics:\n{output[-2000:]}")
        (run / "filler").unlink()
        output = place.run(2, run, *longer, "--teacher.iterations=200")
        check("RESUMED step" in output, f"did not resume from an intact one:\n{output[-2000:]}")
        check([r["iteration"] for r in records(run)] == list(range(1, 201)), "iterations are missing in the metrics")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (kill_and_resume, replicas_resume, stopped_rank_is_named, fifty_saves_in_a_row, other_meshes_resume, stop_leaves_no_second_job_in,
                                           starts_that_are_asked_for, finished_run_is_left_alone, damaged_checkpoint_falls_back,
                                           all_checkpoints_damaged_is_no_fresh_start, full_disk_is_refused_at_start, full_disk_leaves_the_old_checkpoint,
                                           disk_that_is_freed_again_costs_nothing,
                                           disk_that_fills_up_stops_nothing_but_the_last_save)}, sample=7))
