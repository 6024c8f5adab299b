#!/usr/bin/env python3
"""Runs that nobody interrupts: the launch routes, and a script of `tmd slurm`, give the bits of mpirun on one host."""
import subprocess
import sys

from lab import check, main, unbroken  # first: it knows where jobs is
from jobs import CLIPS, TMD, Workplace, losses

WORDS = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=6", "--stage1.iterations=6", "--stage2.iterations=6",
         "--mesh.data_workers=1"]


def routes(lab):
    """srun and mpirun; the second job waits for the first one, as chains of jobs do."""
    with Workplace() as place:
        srun, mpirun = place.path / "srun", place.path / "mpirun"
        first = lab.train(place, srun, *WORDS)
        second = lab.train(place, mpirun, *WORDS, options=[f"--dependency=afterok:{first}"], LAUNCH="mpirun --bind-to none")
        for job, run in ((first, srun), (second, mpirun)):
            lab.wait_for_end(job)
            lab.expect(losses(run) == unbroken(lab, 4, *WORDS), job, "the losses are not those of one host")


def written_script(lab):
    """A script of `tmd slurm` from another folder: two ranks on each of two hosts, words with blanks."""
    with Workplace() as place:
        folder, script = place.path / "two words", place.path / "job.sbatch"
        folder.mkdir()
        words = ["--config", place.config, "--run", "runs/first", f"--data.files={CLIPS}", *WORDS]
        command = [TMD, "slurm", *words, "--nodes", 2, "--time", "00:10:00", "--partition", "main", "--output", script]
        result = subprocess.run([str(word) for word in command], env=lab.environment, cwd=folder, capture_output=True, text=True)
        check(result.returncode == 0 and "sbatch" in result.stderr, result.stderr)
        job = lab.sbatch(script)
        found = lab.wait_for_end(job)
        lab.expect((found["NumNodes"], found["NumTasks"], found["TimeLimit"]) == ("2", "4", "00:10:00"), job, f"{found}")
        lab.expect(losses(folder / "runs/first") == unbroken(lab, 4, *WORDS), job, "the losses are not those of one host")


if __name__ == "__main__":
    sys.exit(main({"routes": routes, "written_script": written_script}))
