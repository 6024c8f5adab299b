#!/usr/bin/env python3
"""Jobs that are interrupted go on by themselves: the losses are those of an unbroken run under mpirun, bit for bit."""
import os
import re
import signal
import sys
import time

from lab import checkpoints, main, ranks_of, unbroken  # first: it knows where jobs is
from jobs import Workplace, losses, only_in_full

WORDS = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=6", "--stage1.iterations=6", "--stage2.iterations=20",
         "--mesh.data_workers=1", "--checkpoint.every=4"]


def steps_of_restarts(lab, job):
    """The steps that the job's restarts went on from."""
    return [int(step) for step in re.findall(r"RESUMED step (\d+)", lab.output(job))]


def interrupted(lab, at_iteration, interrupt, **environment):
    """A job that `interrupt` (job, run) interrupts after an iteration, until it has finished."""
    with Workplace() as place:
        run = place.path / "run"
        job = lab.train(place, run, *WORDS, **environment)
        lab.wait_for_iteration(run, at_iteration, job)
        interrupt(job, run)
        wanted = unbroken(lab, 4, *WORDS)  # while Slurm makes the job wait
        lab.wait(job, lambda found: found["Restarts"] == "1", "is queued again")
        lab.wait_for_end(job)
        lab.expect(losses(run) == wanted, job, "the losses are not those of an unbroken run")
        lab.expect(len(steps_of_restarts(lab, job)) == 1, job, "not one restart")
        return job


def told_to_save(lab):
    """What --signal=USR1@180 does before the time is over: no iteration is lost."""
    job = interrupted(lab, 7, lambda job, run: lab.slurm("scancel", "--signal=USR1", job))
    lab.expect(steps_of_restarts(lab, job)[0] >= 7, job, "did not go on from where it was told to save")
    lab.expect("verdict 75 (signal)" in lab.output(job), job, "there is no verdict")


@only_in_full
def told_through_the_batch_script(lab):
    """A signal that reaches only the script, with mpirun below it."""
    job = interrupted(lab, 7, lambda job, run: lab.slurm("scancel", "--batch", "--signal=USR1", job),
                      LAUNCH="mpirun --bind-to none")
    lab.expect(steps_of_restarts(lab, job)[0] >= 7, job, "did not go on from where it was told to save")


def preempted(lab):
    urgent = ["--partition=urgent", "--exclusive", "--nodes=4", "--wrap=true"]
    other = []
    job = interrupted(lab, 5, lambda job, run: other.append(lab.sbatch(*urgent)))
    lab.expect(steps_of_restarts(lab, job)[0] >= 5, job, "did not go on from where it was preempted")
    lab.wait_for_end(other[0])


@only_in_full
def time_limit(lab):
    """The end of the job reaches the run, which keeps 50 of 60 seconds free here: saved, queued again."""
    with Workplace() as place:
        job = lab.train(place, place.path / "run", *WORDS, "--teacher.iterations=2000", "--run.stop_margin_s=50",
                        options=["--time=1", "--signal=USR1@1"])
        lab.wait(job, lambda found: found["Restarts"] == "1", "is queued again")
        lab.expect("verdict 75 (wall_limit)" in lab.output(job), job, "there is no verdict")
        lab.slurm("scancel", job)


def killed_rank(lab):
    """The others are ended with it; where they had what they needed they have saved before."""
    def kill(_, run):
        while not checkpoints(run):  # it is written while training goes on
            time.sleep(0.05)
        os.kill(ranks_of(run)[-1], signal.SIGKILL)

    job = interrupted(lab, 4, kill)
    lab.expect(steps_of_restarts(lab, job)[0] >= 4, job, "did not go on from the last checkpoint")


def cancelled(lab):
    """Whoever cancels a job does not want it back, though its ranks save and ask for that."""
    with Workplace() as place:
        run = place.path / "run"
        job = lab.train(place, run, *WORDS)
        lab.wait_for_iteration(run, 3, job)
        lab.slurm("scancel", job)
        found = lab.wait_for_end(job, "CANCELLED")
        lab.expect(found["Restarts"] == "0", job, "it was queued again")
        lab.expect(checkpoints(run), job, "it has not saved")


def failed(lab):
    """A code that no new start would change is the job's."""
    with Workplace() as place:
        job = lab.train(place, place.path / "run", *WORDS, "--mesh.shard=2")
        found = lab.wait_for_end(job, "FAILED")
        lab.expect(found["ExitCode"] == "78:0" and found["Restarts"] == "0", job, "not ended with 78")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (told_to_save, told_through_the_batch_script, preempted, time_limit, killed_rank, cancelled,
                                           failed)}))
