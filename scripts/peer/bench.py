#!/usr/bin/env python3
"""Runs `tmd bench step` and its peer, fsdp2_wan.py, in turns and compares times, memory, start-up and losses.

Peers: `default` is FSDP2 as it comes; `tuned` gathers asynchronously, prefetches and keeps freed memory in the process.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = pathlib.Path(__file__).resolve().parent / "fsdp2_wan.py"
CALIBRATE = PEER.parent / "calibrate.py"
FORWARDS = 12  # of one network and sample in an iteration, a backward pass being two and recomputation one
TMD = ROOT / "build/release/tmd"
KEEP_FREED = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.arena_max=1"
CASES = {  # preset, dtype, ranks, measured iterations, peers
    "tiny": ("tiny", "fp32", 2, 5, ("default", "tuned")),
    "small": ("small", "fp32", 2, 1, ("default", "tuned")),
    "wide": ("wide", "fp32", 2, 1, ("default", "tuned")),
    "small-bf16": ("small", "bf16", 2, 1, ("default", "tuned")),
    "tiny-1": ("tiny", "fp32", 1, 5, ("default",)),
    "tiny-4": ("tiny", "fp32", 4, 5, ("default",)),
}
# What the engine costs: `tmd bench step` against itself, in turns. Preset, ranks, measured iterations, words; the time that is
# compared; then the same of what it is compared with.
COSTS = {
    "one rank, against bare block functions":
        (("small", 1, 3, ["--mode", "plain", "--keep_blocks", 1000]), "passes", ("small", 1, 3, ["--mode", "bare"]), "passes"),
    "one rank, four samples, against bare block functions":
        (("small", 1, 3, ["--mode", "plain", "--batch", 4, "--keep_blocks", 1000]), "passes",
         ("small", 1, 3, ["--mode", "bare", "--batch", 4]), "passes"),
    "two ranks, against steps that communicate nothing":
        (("small", 2, 2, []), "iteration", ("small", 2, 2, ["--mute"]), "iteration"),
    "two ranks, two streams of samples, against one rank":
        (("small", 2, 2, []), "iteration", ("small", 1, 2, []), "iteration"),
    "two ranks on one sequence, against one rank":
        (("small", 2, 2, ["--mesh.sequence", 2]), "iteration", ("small", 1, 2, []), "iteration"),
    "four ranks on two cores, against one rank":
        (("tiny", 4, 5, []), "iteration", ("tiny", 1, 5, []), "iteration"),
}
LOSS_LIMIT = {"fp32": 1e-4, "bf16": 5e-2}


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1",
            "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
            "PMIX_MCA_gds": "hash", **more}


def run(command, **more):
    result = subprocess.run([str(word) for word in command], env=environment(**more), capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))} ended with {result.returncode}\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
    return result.stdout


def bench_step(preset, ranks, iterations, words, scratch):
    file = scratch / "tmd.json"
    run(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks, TMD, "bench", "step", "--device", "cpu", "--preset", preset,
         "--iterations", iterations, *words, "--json", file])
    return json.loads(file.read_text())


def ours(case, scratch):
    preset, dtype, ranks, iterations, _ = CASES[case]
    result = bench_step(preset, ranks, iterations, ["--dtype", dtype], scratch)
    return {"iteration": result["iteration_s"], "steps": result["step_s"], "memory_mib": result["peak_added_mib"],
            "ready_s": result["ready_s"], "losses": result["losses"], "exposed": result["exposed_s"],
            "flops": result["forward_flops_per_sample"]}


def peer(case, kind):
    preset, dtype, ranks, iterations, _ = CASES[case]
    command = [pathlib.Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", ranks, PEER,
               "--preset", preset, "--dtype", dtype, "--warmup", 1, "--iters", iterations]
    more = {}
    if kind == "tuned":
        command.append("--async-unshard")
        more["GLIBC_TUNABLES"] = KEEP_FREED
    line = [text for text in run(command, **more).splitlines() if text.startswith("{")][-1]
    result = json.loads(line)
    return {"iteration": result["iteration_s"], "steps": result["step_s"],
            "memory_mib": result["rss_mib_per_rank"]["peak_minus_before"], "ready_s": result["startup_s"]["networks_ready"],
            "losses": result["losses"]}


def product_rates(ranks):
    """GFLOP/s of each rank in the matrix products of a feed-forward layer, all ranks at once, by `preset_dtype`."""
    output = run([pathlib.Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", ranks, CALIBRATE])
    rates = json.loads([text for text in output.splitlines() if text.startswith("{")][-1])["gemm_min_over_ranks"]
    return {name.replace("_ffn_", "_").removesuffix("_gflops_per_rank"): rate for name, rate in rates.items()}


def largest_distance(mine, theirs):
    pairs = [(a[step], b[step]) for a, b in zip(mine, theirs) for step in a]
    return max(abs(a - b) / abs(b) for a, b in pairs)


def merged(runs):
    medians = sorted(r["iteration"]["median"] for r in runs)
    return {"min": min(r["iteration"]["min"] for r in runs), "median": medians[len(medians) // 2],
            "memory": max(r["memory_mib"] for r in runs), "ready": sorted(r["ready_s"] for r in runs)[len(runs) // 2]}


def measure(case, repeats, scratch):
    kinds = CASES[case][4]
    runs = {"tmd": [], **{kind: [] for kind in kinds}}
    for repeat in range(repeats):
        runs["tmd"].append(ours(case, scratch))
        for kind in kinds:
            runs[kind].append(peer(case, kind))
        print(f"  {case}, repeat {repeat + 1} of {repeats}: " +
              ", ".join(f"{name} {r[-1]['iteration']['median']:.3f} s" for name, r in runs.items()), flush=True)
    distance = max(largest_distance(runs["tmd"][0]["losses"], runs[kind][0]["losses"]) for kind in kinds)
    limit = LOSS_LIMIT[CASES[case][1]]
    if distance > limit:
        sys.exit(f"bench: {case}: losses differ by {distance:.2e}, more than {limit}: this is not the same work")
    preset, dtype, ranks, _, _ = CASES[case]
    rate = product_rates(ranks).get(f"{preset}_{dtype}")
    share = rate and FORWARDS * runs["tmd"][0]["flops"] / 1e9 / rate  # seconds of nothing but products
    return {"case": case, "loss_distance": distance, "products_s": share, "exposed": runs["tmd"][-1]["exposed"],
            **{name: merged(r) for name, r in runs.items()}}


def measure_cost(name, repeats, scratch):
    """Seconds of the two sides, in turns: the fastest of all iterations, and the median of the runs' medians."""
    sides = {"with": COSTS[name][:2], "without": COSTS[name][2:]}
    runs = {side: [] for side in sides}
    for repeat in range(repeats):
        for side, (job, what) in sides.items():
            result = bench_step(*job, scratch)
            runs[side].append(result["iteration_s"] if what == "iteration" else result["step_s"][what])
        print(f"  {name}, repeat {repeat + 1} of {repeats}: " +
              ", ".join(f"{side} {r[-1]['min']:.3f} s" for side, r in runs.items()), flush=True)
    result = {"case": name}
    for side, times in runs.items():
        medians = sorted(t["median"] for t in times)
        result[side] = {"min": min(t["min"] for t in times), "median": medians[len(medians) // 2]}
    return result


def cost_table(results):
    lines = ["| what | fastest s | median s | against: fastest s | median s | ratio of the fastest | of the medians |", "|---|---|---|---|---|---|---|"]
    for r in results:
        a, b = r["with"], r["without"]
        lines.append(f"| {r['case']} | {a['min']:.3f} | {a['median']:.3f} | {b['min']:.3f} | {b['median']:.3f} | "
                     f"{a['min'] / b['min']:.3f} | {a['median'] / b['median']:.3f} |")
    return "\n".join(lines) + "\n"


def table(results):
    lines = ["| case | loss distance | who | iteration, fastest s | median s | times ours | memory added, MiB | of the default peer's "
             "| ready after s | share of matrix products |", "|---|---|---|---|---|---|---|---|---|---|"]
    for result in results:
        preset, dtype, ranks, _, kinds = CASES[result["case"]]
        mine, base = result["tmd"], result[kinds[0]]
        for name in ("tmd", *kinds):
            r = result[name]
            share = f"{r['memory'] / base['memory']:.2f}"
            products = f"{result['products_s'] / r['median']:.2f}" if result["products_s"] else "–"
            lines.append(f"| {preset} {dtype}, {ranks} ranks | {result['loss_distance']:.0e} | {name} | {r['min']:.3f} | {r['median']:.3f} | "
                         f"{r['median'] / mine['median']:.2f} | {r['memory']:.0f} | {share} | {r['ready']:.2f} | {products} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--costs", action="store_true", help="measure what the engine costs instead: against bare block "
                        "functions, against steps that communicate nothing, over ranks")
    parser.add_argument("--checkpoints", action="store_true", help="measure checkpoints instead, beside torch.distributed.checkpoint")
    parser.add_argument("--markdown", type=pathlib.Path, help="also write the table there")
    parser.add_argument("--json", type=pathlib.Path, help="also write all numbers there")
    parser.add_argument("--scratch", type=pathlib.Path, default=pathlib.Path("/tmp"))
    args = parser.parse_args()
    unknown = [case for case in args.cases if case not in CASES]
    if unknown or args.repeats < 1:
        parser.error(f"there is no case {unknown[0]}" if unknown else "--repeats is at least 1")
    if (args.costs or args.checkpoints) and args.cases:
        parser.error("--costs and --checkpoints take no cases")
    if args.costs:
        results = [measure_cost(name, args.repeats, args.scratch) for name in COSTS]
        text = cost_table(results)
    elif args.checkpoints:
        results = checkpoints.measure(run, TMD, args.repeats, args.scratch)
        text = checkpoints.table(results)
    else:
        results = [measure(case, args.repeats, args.scratch) for case in args.cases or CASES]
        text = table(results)
    print(text)
    if args.markdown:
        args.markdown.write_text(text)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
