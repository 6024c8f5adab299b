"""What a part is given: where things are, how programs are started, and how much time is left."""
import json
import os
import pathlib
import re
import shutil

import machine
import packages
from commands import Clock, Failed, Job, Unavailable, tail_of

PART_SECONDS = 600
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
       "PMIX_MCA_gds": "hash"}


class Context:
    """`device`: what programs are told to compute on, cuda but in the tests of this script. `settings`: torch, packages, jobs."""

    def __init__(self, root, out, build, devices, settings, device="cuda"):
        self.root, self.out, self.build = pathlib.Path(root), pathlib.Path(out), pathlib.Path(build)
        self.devices, self.device = devices, device
        self.torch, self.packages = settings.get("torch"), settings.get("packages")
        self.jobs = settings.get("jobs") or len(os.sched_getaffinity(0))
        self.scratch = pathlib.Path(settings.get("scratch") or self.out / "work")
        self.figures, self.part, self.clock = {}, "", Clock(PART_SECONDS)
        self.env = dict(os.environ, **MPI)
        if not shutil.which("nvcc") and pathlib.Path("/usr/local/cuda/bin/nvcc").exists():
            self.env["PATH"] = f"{self.env['PATH']}:/usr/local/cuda/bin"

    def begin(self, part):
        self.part, self.figures, self.clock = part, {}, Clock(PART_SECONDS)
        if self.log.exists():
            self.log.unlink()

    @property
    def log(self):
        return self.out / "logs" / f"{self.part}.log"

    @property
    def tmd(self):
        return self.build / "tmd"

    @property
    def ranks(self):
        """One for each device, at most four."""
        return max(1, min(4, len(self.devices)))

    def program(self, name):
        """A test program of the build."""
        path = self.build / "tests" / name
        if not path.exists():
            raise Failed(f"{path} is not there: run the part build")
        return path

    def figure(self, name, value, unit=""):
        self.figures[name] = {"value": value, "unit": unit}

    def mpi(self, ranks):
        launcher = self.packages / "bin/mpirun" if self.packages else shutil.which("mpirun", path=self.env["PATH"])
        if not launcher:
            raise Unavailable("mpirun is not in the PATH")
        return [launcher, "--oversubscribe", "--bind-to", "none", "-n", ranks]

    def job(self, words, **variables):
        return Job(words, self.log, dict(self.env, **variables), self.root)

    def run(self, words, expect=(0,), limit=None, **variables):
        """Runs to the end; returns what was printed and the exit code. Throws Failed and TooLate."""
        left = self.clock.left()
        with self.job(words, **variables) as job:
            code = job.wait(min(limit or left, left))
            if code not in expect:
                raise Failed(f"exit code {code}: {' '.join(job.words)}", tail_of(self.log))
            return job.output(), code

    def folder(self, name):
        """A new, empty folder for a run of this part."""
        path = self.scratch / self.part / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def clean(self):
        shutil.rmtree(self.scratch / self.part, ignore_errors=True)


def settings_file(build):
    return pathlib.Path(build) / "gpu-check.json"


def load_settings(build):
    """What the build was made with."""
    try:
        stored = json.loads(settings_file(build).read_text())
    except (OSError, ValueError):
        return {}
    return {"torch": stored.get("torch"), "packages": pathlib.Path(stored["packages"]) if stored.get("packages") else None}


def store_settings(build, context):
    content = {"torch": str(context.torch), "packages": str(context.packages) if context.packages else None}
    settings_file(build).write_text(json.dumps(content) + "\n")


def check_requirements(context):
    entries = packages.missing(context.packages, context.env["PATH"])
    if not shutil.which("nvcc", path=context.env["PATH"]):
        entries.append(("nvcc of CUDA 13", "(NVIDIA's toolkit, not packed)"))
    if entries:
        raise Unavailable(packages.describe_missing(entries))
    cmake = re.search(r"version (\d+)\.(\d+)", " ".join(machine.lines_of(["cmake", "--version"], context.env)))
    if not cmake or (int(cmake[1]), int(cmake[2])) < (3, 25):
        raise Unavailable(f"CMake {f'{cmake[1]}.{cmake[2]}' if cmake else 'of an unknown version'} is there, and 3.25 is needed")
    compiler = machine.nvcc_version(context.env)
    if not compiler.startswith("13."):
        raise Unavailable(f"nvcc is of CUDA {compiler}, and 13 is needed")
    version = machine.torch_version(context.torch) if context.torch else ""
    if not version:
        raise Unavailable("no torch was found\nhint: name the folder that holds torch/ with --torch DIR, or let scripts/setup --preset gpu "
                          "fetch one")
    if not version.startswith("2.11."):
        raise Unavailable(f"{context.torch} has torch {version}, and 2.11 is needed")
    if not (pathlib.Path(context.torch) / "torch/lib/libtorch_cuda.so").exists():
        raise Unavailable(f"torch in {context.torch} is built for CPUs")
