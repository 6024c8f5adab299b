"""What loading of a large model takes: bytes that are read, memory, and time next to a plain read of the same file."""
import mmap
import statistics
import time
from dataclasses import replace

import torch

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


def small_inputs(shape):
    """A forward pass of one token: `tmd forward` computes something after loading."""
    small = replace(shape, latent=(1, 2, 2), text_rows=1, text_lengths=(1,))
    inputs = models.random_inputs(small, seed=4)
    return {name: inputs[name] for name in ("latents", "timestep", "text")}


def measure_loading(table, tmd, shape, file):
    """`file`: bfloat16 weights, so that what is read goes into the shards as it is."""
    inputs, out = small_inputs(shape), tmd.folder / "out.safetensors"
    torch.set_num_threads(1)
    print("\nloading, bf16, file in the page cache, seconds; repeats are interleaved", flush=True)
    for ranks in RANKS:
        plain, reports = [], []
        for _ in range(REPEATS):
            into_page_cache(file)
            plain.append(plain_read(file))
            reports.append(tmd.report(file.parent, inputs, out, "bf16", ranks=ranks))
        loads = [report["load_s"] for report in reports]
        last = reports[-1]
        allowed = last["shard_bytes"] + 2 * last["largest_unit_bytes"]
        peak = max(report["peak_above_start_bytes"] for report in reports)
        print(f"  {ranks} ranks: plain read {' '.join(f'{s:.2f}' for s in plain)}, load {' '.join(f'{s:.2f}' for s in loads)}; "
              f"per rank: shard {last['shard_bytes'] / 1e9:.3f} GB, largest unit {last['largest_unit_bytes'] / 1e9:.3f} GB, "
              f"peak above start {peak / 1e9:.3f} GB", flush=True)
        where = (shape.name, "original", f"load, {ranks} rank{'s' * (ranks > 1)}")
        table.below(*where, "bytes read, all ranks / bytes of the file",
                    max(report["bytes_read"] for report in reports) / file.stat().st_size, BYTES_READ)
        table.below(*where, "peak memory of a rank / (shard + two units)", peak / allowed, 1)
        table.below(*where, "time / plain read (medians of 3)", statistics.median(loads) / statistics.median(plain), TIME)
    out.unlink()
