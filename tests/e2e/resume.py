#!/usr/bin/env python3
"""Kill -9 of a rank and a new start of the same command: the losses equal those of the unbroken run, bit for bit."""
import os
import pathlib
import signal
import subprocess
import sys

from jobs import Failure, Workplace, check, losses, main, records, wait_for_iteration

WORDS = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=8", "--stage1.iterations=8", "--stage2.iterations=12",
         "--checkpoint.every=5", "--teacher.ema=0.9", "--stage2.ema=0.9", "--mesh.data_workers=1"]


def ranks_of(process):
    """Process ids of the ranks that mpirun started."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in children if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "tmd"]


def kill_and_resume():
    with Workplace() as place:
        unbroken, broken = place.path / "unbroken", place.path / "broken"
        place.run(3, unbroken, *WORDS)
        # inside the teacher stage, inside stage 1, inside stage 2; trainers and the data worker
        for at_iteration, rank in ((7, 0), (13, 2), (23, 1)):
            process = place.start(3, broken, *WORDS)
            wait_for_iteration(broken, at_iteration, process)
            victims = ranks_of(process)
            if len(victims) != 3:  # it was faster than we are; then there is nothing to break
                raise Failure(f"expected 3 ranks, found {victims}")
            os.kill(victims[rank], signal.SIGKILL)
            process.communicate(timeout=120)
            check(process.returncode != 0, "a killed job ends with an error")
        output = place.run(3, broken, *WORDS)
        check("RESUMED step" in output, f"no RESUMED line:\n{output[-2000:]}")
        check(losses(unbroken) == losses(broken), "the losses of the broken run differ")
        samples = [r["samples"] for r in records(unbroken)]
        check(samples == [r["samples"] for r in records(broken)], "the samples of the broken run differ")


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


def full_disk_leaves_the_old_checkpoint():
    with Workplace() as place:
        run = place.path / "run"
        place.run(2, run, "--run.stages=teacher", "--teacher.iterations=12", "--checkpoint.every=4")
        good = sorted(p.name for p in (run / "checkpoints").glob("step_*"))
        # A longer run of the same folder under a file-size limit: saves fail, training goes on, the last save ends it.
        longer = ["--run.stages=teacher", "--teacher.iterations=20", "--checkpoint.every=4", "--allow-change", "teacher.iterations"]
        output = place.run(2, run, *longer, limit_blocks=40, expect=74)
        check("training goes on" in output, f"no warning about the failed save:\n{output[-2000:]}")
        check(records(run)[-1]["iteration"] == 20, "training did not go on after the failed save")
        check(sorted(p.name for p in (run / "checkpoints").glob("step_*")) == good, "the old checkpoints were touched")
        output = place.run(2, run, *longer)
        check("RESUMED step 12" in output, f"did not resume from the intact one:\n{output[-2000:]}")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (kill_and_resume, finished_run_is_left_alone, damaged_checkpoint_falls_back,
                                           all_checkpoints_damaged_is_no_fresh_start, full_disk_leaves_the_old_checkpoint)}))
