"""Starts real `tmd` jobs for the end-to-end tests: a tiny model on a slice of real clips."""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
TMD = pathlib.Path(os.environ.get("TMD", ROOT / "build/release/tmd"))
CLIPS = ROOT / "tests/golden/clips_slice.h5"
MPI_ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
           "PMIX_MCA_gds": "hash"}

TINY = """
[model]
heads = 2
head_dim = 12
ffn = 48
layers = 4
channels = 16
text_dim = 384
text_length = 16
[train]
global_batch = 12
threads = 1
[method]
discriminator_hidden = 16
[teacher]
iterations = 20
lr = 1e-4
[stage1]
iterations = 20
lr = 1e-4
[stage2]
iterations = 20
[checkpoint]
every = 1000
[preview]
every = -1
[sampler]
steps = 4
"""


# With --full every case and all of every table runs; without it a sample, another one every day.
FULL = "--full" in sys.argv
TODAY = int(time.time()) // 86400


class Failure(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


class Workplace:
    """A temporary folder with the tiny configuration."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="tmd_e2e_"))
        self.config = self.path / "tiny.ini"
        self.config.write_text(TINY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def command(self, ranks, run, *words, data=CLIPS, verb="train"):
        launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks else []
        base = [*launcher, str(TMD), verb]
        if verb == "train":
            base += ["--config", str(self.config), "--run", str(run)]
            if data is not None:
                base.append(f"--data.files={data}")
        return [*base, *map(str, words)]

    def start(self, ranks, run, *words, free_bytes=None, meanwhile="", **options):
        command = self.command(ranks, run, *words, **options)
        if free_bytes is not None:
            command = on_small_disk(run, free_bytes, command, meanwhile)
        return subprocess.Popen(command, env={**os.environ, **MPI_ENV}, cwd=ROOT, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def run(self, ranks, run, *words, expect=0, timeout=240, **options):
        process = self.start(ranks, run, *words, **options)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Failure(f"still running after {timeout} s: {process.args}\n{process.communicate()[0][-3000:]}")
        check(process.returncode == expect,
              f"exit code {process.returncode}, expected {expect}: {' '.join(process.args)}\n{output[-3000:]}")
        return output


def size_on_disk(folder):
    """Bytes that the files take in pages of 4096."""
    return sum((path.stat().st_size + 4095) // 4096 * 4096 + 4096 for path in pathlib.Path(folder).rglob("*"))


def after_iteration(iteration, action):
    """Shell words that wait for an iteration in the present folder's metrics.jsonl and then act."""
    return f"until grep -q '\"iteration\":{iteration},' metrics.jsonl; do sleep 0.02; done; {action}"


def on_small_disk(run, free_bytes, command, meanwhile=""):
    """`command` with the folder `run` on a file system of its own that has `free_bytes` left, while the shell words
    `meanwhile` run in that folder. A mount namespace needs no privileges where the system allows user namespaces; what
    the command leaves in the folder is copied back, since the mount ends with it."""
    script = """set -e
        disk=$(mktemp -d)
        cp -a "$1" "$disk/kept"
        mount -t tmpfs -o size="$2" tmpfs "$1"
        cp -a "$disk/kept/." "$1/"
        run=$1 code=0
        (cd "$run" && eval "$3") 2>/dev/null & helper=$!
        shift 3
        "$@" || code=$?
        kill $helper 2>/dev/null || true
        wait $helper || true
        rm -rf "$disk/kept"
        cp -a "$run" "$disk/kept"
        umount "$run"
        find "$run" -mindepth 1 -delete
        cp -a "$disk/kept/." "$run/"
        rm -rf "$disk"
        exit $code"""
    probe = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, text=True)
    check(probe.returncode == 0, f"a small disk needs mount namespaces, which this system refuses: {probe.stderr}")
    size = size_on_disk(run) + free_bytes
    return ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "small-disk", str(run), str(size),
            meanwhile or "true", *command]


def records(run):
    return [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    return [(r["iteration"], r["phase"], r["loss"]) for r in records(run)]


def wait_for_iteration(run, iteration, process, timeout=180):
    deadline = time.time() + timeout
    while time.time() < deadline:
        try:
            if records(run)[-1]["iteration"] >= iteration:
                return
        except (FileNotFoundError, IndexError, json.JSONDecodeError):
            pass
        check(process.poll() is None, f"ended too early:\n{process.communicate()[0][-3000:] if process.poll() is not None else ''}")
        time.sleep(0.02)
    raise Failure(f"iteration {iteration} was not reached in {timeout} s")


def some(items, count):
    """All of them with --full, else `count` of them in their order."""
    if FULL:
        return list(items)
    chosen = random.Random(TODAY).sample(range(len(items)), count)
    return [list(items)[i] for i in sorted(chosen)]


def only_in_full(case):
    """Marks a case that runs with --full, or when it is named."""
    case.only_in_full = True
    return case


def chosen(cases, sample):
    named = [word for word in sys.argv[1:] if word != "--full"]
    quick = [name for name, case in cases.items() if FULL or not hasattr(case, "only_in_full")]
    return named or some(quick, min(sample or len(quick), len(quick)))


def main(cases, sample=None):
    """Runs the cases named on the command line; else all with --full, or `sample` of them, other ones every day; the exit code is 1
    when one fails."""
    failed = 0
    for name in chosen(cases, sample):
        began = time.time()
        try:
            cases[name]()
            print(f"ok      {name} ({time.time() - began:.1f} s)", flush=True)
        except Failure as failure:
            failed += 1
            print(f"FAILED  {name}: {failure}", flush=True)
        except Exception:  # the other cases still tell something
            failed += 1
            print(f"FAILED  {name}:\n{traceback.format_exc()}", flush=True)
    return 1 if failed else 0
