"""What loading of a large model takes: bytes that are read, memory, and time next to a plain read of the same file."""
import itertools
import mmap
import os
import statistics
import time
from dataclasses import replace

import models

RANKS = (1, 2, 4)
REPEATS = 3
BYTES_READ = 1.02  # times the file, over all ranks
TIME = 1.5         # times a plain read into fresh memory, page cache in the same state


def plain_read(file):
    """Seconds that one process needs to read the file into fresh anonymous memory."""
    size = file.stat().st_size
    start = time.perf_counter()
    with mmap.mmap(-1, size) as memory, memoryview(memory) as view, open(file, "rb", buffering=0) as source:
        done = 0
        while done < size:
            done += source.readinto(view[done:])
        took = time.perf_counter() - start
    return took


def into_page_cache(file):
    with open(file, "rb", buffering=0) as source:
        while source.read(1 << 24):
            pass


def out_of_page_cache(file):
    with open(file, "rb", buffering=0) as source:
        os.fsync(source.fileno())  # pages that are not on disk yet would stay
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def small_inputs(shape):
    """A forward pass of one token: `tmd forward` computes something after loading."""
    small = replace(shape, latent=(1, 2, 2), text_rows=1, text_lengths=(1,))
    inputs = models.random_inputs(small, seed=4)
    return {name: inputs[name] for name in ("latents", "timestep", "text")}


def seconds(values):
    return " ".join(f"{value:.2f}" for value in values)


def print_loads(state, ranks, plain, loads, last):
    print(f"  {state}, {ranks} rank{'s' * (ranks > 1)}: plain read {seconds(plain)} s, load {seconds(loads)} s; per rank: shard "
          f"{last['shard_bytes'] / 1e9:.3f} GB, largest unit {last['largest_unit_bytes'] / 1e9:.3f} GB, peak above start "
          f"{last['peak_above_start_bytes'] / 1e9:.3f} GB; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
          flush=True)


def measure_loading(table, tmd, shape, file):
    """`file`: bfloat16 weights, so that nearly all that is read goes into the shards as it is. A plain read and a load take
    turns, so that other work on the machine meets both."""
    inputs, out = small_inputs(shape), tmd.folder / "out.safetensors"
    for (state, prepare), ranks in itertools.product((("cached", into_page_cache), ("cold", out_of_page_cache)), RANKS):
        plain, reports = [], []
        for _ in range(REPEATS):
            prepare(file)
            plain.append(plain_read(file))
            prepare(file)
            reports.append(tmd.report(file.parent, inputs, out, "bf16", ranks=ranks))
        loads, last = [report["load_s"] for report in reports], reports[-1]
        print_loads(state, ranks, plain, loads, last)
        allowed = last["shard_bytes"] + 2 * last["largest_unit_bytes"]
        peak = max(report["peak_above_start_bytes"] for report in reports)
        read = max(report["bytes_read"] for report in reports)
        where = (shape.name, "original", f"load, {ranks} rank{'s' * (ranks > 1)}")
        if state == "cached":
            table.below(*where, "bytes read by all ranks / bytes of the file", read / file.stat().st_size, BYTES_READ)
            table.below(*where, "peak memory of a rank / (shard + two units)", peak / allowed, 1)
        table.below(*where, f"time / plain read, {state} (medians of {REPEATS})",
                    statistics.median(loads) / statistics.median(plain), TIME)
    out.unlink()
