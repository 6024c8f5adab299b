"""Checkpoints beside torch.distributed.checkpoint over FSDP2 (dcp_checkpoint.py): the part of scripts/bench --checkpoints."""
import json
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPEATS_INSIDE = 2  # saves and loads of each start


def ours(run, tmd, scratch):
    folder, file = scratch / "tmd_bench_checkpoint", scratch / "tmd_checkpoint.json"
    shutil.rmtree(folder, ignore_errors=True)
    run(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", 2, tmd, "bench", "checkpoint", "--preset", "small",
         "--repeats", REPEATS_INSIDE, "--folder", folder, "--json", file])
    r = json.loads(file.read_text())
    return {"held": r["held_s"], "save": r["save_s"], "step": r["step_s"], "step_in_save": r["step_in_save_s"],
            "load": {k: v - r["allocate_s"][k] for k, v in r["load_warm_s"].items()}, "read": r["read_warm_s"],
            "extra_mib": r["extra_mib"], "bytes": r["bytes"]}


def peer(run, scratch):
    line = run([pathlib.Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", 2, HERE / "dcp_checkpoint.py",
                "--preset", "small", "--repeats", REPEATS_INSIDE, "--dir", scratch / "dcp_checkpoint"])
    r = json.loads([text for text in line.splitlines() if text.startswith("{")][-1])
    return {"held": r["async"]["stall_s"], "save": r["async"]["total_s"], "step": r["async"]["iteration_alone_s"],
            "step_in_save": r["async"]["iteration_during_s"], "load": r["load"]["dcp_load_warm_s"],
            "read": r["raw_disk"]["read_warm_s"], "extra_mib": r["async"]["extra_rss_mib"], "bytes": r["async"]["bytes"]}


def middle(values):
    return sorted(values)[len(values) // 2]


def measure(run, tmd, repeats, scratch):
    results = {"tmd": [], "torch.distributed.checkpoint": []}
    for repeat in range(repeats):
        results["tmd"].append(ours(run, tmd, scratch))
        results["torch.distributed.checkpoint"].append(peer(run, scratch))
        print(f"  checkpoints, repeat {repeat + 1} of {repeats}: held " +
              ", ".join(f"{name} {r[-1]['held']['median']:.3f} s" for name, r in results.items()), flush=True)
    return results


def table(results):
    lines = ["| who | checkpoint, MiB | training held, s | a step alone, s | while one is written, s | ratio | begin to end, s "
             "| load, warm, s | plain read, s | ratio | memory more, MiB |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, runs in results.items():
        def of(key, which="median"):
            return middle([r[key][which] for r in runs])
        lines.append(f"| {name} | {runs[0]['bytes'] / 2**20:.0f} | {of('held'):.3f} | {of('step'):.2f} | {of('step_in_save'):.2f} | "
                     f"{of('step_in_save') / of('step'):.2f} | {of('save'):.1f} | {of('load', 'min'):.2f} | {of('read', 'min'):.2f} | "
                     f"{of('load', 'min') / of('read', 'min'):.2f} | {max(r['extra_mib'] for r in runs):.0f} |")
    return "\n".join(lines) + "\n"
