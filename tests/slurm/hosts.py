#!/usr/bin/env python3
"""Hosts that crash, and jobs that go on with other hosts or another number of ranks."""
import sys

from lab import checkpoints, main, unbroken  # first: it knows where jobs is
from jobs import Workplace, losses, records
from same_losses import compare

WORDS = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=6", "--stage1.iterations=6", "--stage2.iterations=10",
         "--checkpoint.every=4"]


def crashed_host(lab):
    """Slurm notices, queues the job again, and starts it on the hosts that are left."""
    with Workplace() as place:
        run = place.path / "run"
        job = lab.train(place, run, *WORDS)
        lab.wait_for_iteration(run, 7, job)
        first = lab.job(job)["NodeList"]
        lab.cluster("crash", "n2")
        wanted = unbroken(lab, 4, *WORDS)  # while Slurm waits for the host
        found = lab.wait_for_end(job, timeout=180)
        lab.cluster("start", "n2")
        lab.expect(first == "n[1-2]" and "2" not in found["NodeList"], job, f"{first}, then {found['NodeList']}")
        lab.expect(losses(run) == wanted, job, "the losses are not those of an unbroken run")


def other_ranks(lab):
    """A run that was told to save on two hosts goes on as another job on three."""
    with Workplace() as place:
        run = place.path / "run"
        first = lab.train(place, run, *WORDS, TMD_MAX_REQUEUES="0")
        lab.wait_for_iteration(run, 7, first)
        lab.slurm("scancel", "--signal=USR1", first)
        found = lab.wait_for_end(first, "FAILED")
        lab.expect(found["ExitCode"] == "75:0" and "TMD_MAX_REQUEUES=0" in lab.output(first), first, "the limit is not kept")
        saved = checkpoints(run)[-1]
        lab.expect(7 <= saved < 22, first, f"saved at {saved}")
        second = lab.train(place, run, *WORDS, nodes=3, per_node=1)
        lab.wait_for_end(second)
        lab.expect(f"RESUMED step {saved}" in lab.output(second), second, f"did not go on from {saved}")
        compare(unbroken(lab, 4, *WORDS, of=records), records(run), 1e-5, "4 ranks, and 4 then 3")


def tensor_and_sequence(lab):
    """Four hosts that cut heads and tokens of the same samples."""
    mesh = ["--mesh.tensor=2", "--mesh.sequence=2", "--model.heads=4", "--model.head_dim=6", "--teacher.iterations=3",
            "--stage1.iterations=3", "--stage2.iterations=5"]
    with Workplace() as place:
        run = place.path / "run"
        job = lab.train(place, run, *WORDS, *mesh, nodes=4, per_node=1)
        lab.wait_for_end(job)
        lab.expect(losses(run) == unbroken(lab, 4, *WORDS, *mesh), job, "the losses are not those of one host")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (crashed_host, other_ranks, tensor_and_sequence)}))
