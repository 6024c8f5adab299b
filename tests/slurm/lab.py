"""A Slurm cluster of four hosts (cluster.sh) for the jobs of a test, which run slurm/train.sbatch."""
import functools
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import jobs  # noqa: E402
from jobs import MPI_ENV, ROOT, TMD, Workplace, check, losses, records  # noqa: E402

CLUSTER = ROOT / "tests/slurm/cluster.sh"
SKIPPED = 77  # SKIP_RETURN_CODE in tests.cmake


class Lab:
    """The cluster. What a job prints is in its file of `outputs`, and is shown when a check fails."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="tmd_lab_", dir="/tmp"))  # short: it holds a socket
        self.environment = {**os.environ, **MPI_ENV, "TMD": str(TMD), "TMD_LAB": str(self.path / "lab")}
        self.outputs = {}
        self.unbroken = {}

    def __enter__(self):
        self.cluster("up", "4")
        return self

    def __exit__(self, *_):
        self.cluster("down")
        subprocess.run(["rm", "-rf", str(self.path)], check=False)

    def cluster(self, *words):
        # Files and not pipes: what it starts goes on to hold them.
        with open(self.path / "cluster.txt", "w+") as output:
            result = subprocess.run([str(CLUSTER), *words], env=self.environment, cwd=ROOT, stdout=output, stderr=output)
            output.seek(0)
            check(result.returncode == 0, f"cluster.sh {' '.join(words)}: exit code {result.returncode}\n{output.read()}")

    def slurm(self, *words, expect=0, **environment):
        """A command on the controller's host."""
        result = subprocess.run([str(CLUSTER), "exec", *map(str, words)], env={**self.environment, **environment}, cwd=ROOT,
                                capture_output=True, text=True, timeout=60)
        check(result.returncode == expect, f"{words}: exit code {result.returncode}\n{result.stdout + result.stderr}")
        return result.stdout.strip()

    def sbatch(self, *words, **environment):
        """Submits and returns the job's number."""
        output = self.path / f"job_{len(self.outputs)}.txt"
        job = self.slurm("sbatch", "--parsable", f"--output={output}", *words, **environment)
        self.outputs[job] = output
        return job

    def train(self, place, run, *words, nodes=2, per_node=2, options=(), **environment):
        """Submits slurm/train.sbatch as a user does."""
        return self.sbatch(f"--nodes={nodes}", f"--ntasks-per-node={per_node}", *options, "slurm/train.sbatch",
                           *place.command(0, run, *words)[2:], **environment)

    def output(self, job):
        return self.outputs[job].read_text() if self.outputs[job].exists() else ""

    def job(self, job):
        """What `scontrol show job` says, by its names."""
        return dict(re.findall(r"(\w+)=(\S*)", self.slurm("scontrol", "--oneliner", "show", "job", job)))

    def expect(self, condition, job, text):
        if not condition:
            found = {name: self.job(job)[name] for name in ("JobState", "Reason", "ExitCode", "Restarts", "NodeList")}
            check(False, f"{text}\n{found}\n{self.output(job)[-4000:]}")

    def wait(self, job, condition, text, timeout=90):
        """`condition` takes what `job` returns; a job that has ended does not change any more."""
        deadline = time.time() + timeout
        while True:
            found = self.job(job)
            if condition(found):
                return found
            is_over = found["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
            self.expect(not is_over and time.time() < deadline, job, f"job {job}: {text}: not so")
            time.sleep(0.1)

    def wait_for_end(self, job, state="COMPLETED", **options):
        return self.wait(job, lambda found: found["JobState"] == state, f"ends as {state}", **options)

    def wait_for_iteration(self, run, iteration, job, timeout=90):
        deadline = time.time() + timeout
        while True:
            try:
                if records(run)[-1]["iteration"] >= iteration:
                    return
            except (FileNotFoundError, IndexError, ValueError):
                pass
            self.expect(time.time() < deadline, job, f"iteration {iteration} was not reached in {timeout} s")
            time.sleep(0.05)


def ranks_of(run):
    """Process ids, seen from outside of the hosts, of the ranks that train in the folder."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if pathlib.Path(words[0]).name == "tmd" and str(run) in words:
            found.append(int(entry.name))
    return found


def checkpoints(run):
    """Steps of the run's checkpoints."""
    return sorted(int(path.name.split("_")[1]) for path in (pathlib.Path(run) / "checkpoints").glob("step_*[0-9]"))


def unbroken(lab, ranks, *words, of=losses):
    """Losses of the run of these words that nobody interrupted, under mpirun on this machine; made once a cluster."""
    key = (ranks, *words)
    if key not in lab.unbroken:
        lab.unbroken[key] = lab.path / f"unbroken_{len(lab.unbroken)}"
        with Workplace() as place:
            place.run(ranks, lab.unbroken[key], *words)
    return of(lab.unbroken[key])


def main(cases):
    """As jobs.main, with one cluster for all cases, which is their argument."""
    possible = subprocess.run([str(CLUSTER), "possible"], capture_output=True, text=True)
    if possible.returncode == SKIPPED:
        print(f"skipped: {possible.stdout.strip()}", flush=True)
        return SKIPPED
    with Lab() as lab:
        return jobs.main({name: functools.update_wrapper(functools.partial(case, lab), case) for name, case in cases.items()})
