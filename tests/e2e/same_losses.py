#!/usr/bin/env python3
"""The same experiment on other ranks: equal losses over 1, 2, 3 and 4 trainers, the same bits over data workers."""
import sys

from jobs import Workplace, check, losses, main

STAGES = {"teacher": [], "stage1": [], "stage2": []}


def compare(first, second, tolerance, what):
    check(len(first) == len(second) and len(first) > 0, f"{what}: {len(first)} and {len(second)} iterations")
    for (i, phase, a), (j, other_phase, b) in zip(first, second):
        check((i, phase) == (j, other_phase) and a.keys() == b.keys(), f"{what}: iteration {i} is not the same")
        for name in a:
            distance = abs(a[name] - b[name])
            limit = tolerance * abs(a[name])
            check(distance <= limit, f"{what}: iteration {i} {name}: {a[name]!r} and {b[name]!r}")


def trainers():
    with Workplace() as place:
        for stage in STAGES:
            runs = {n: place.path / f"{stage}_{n}" for n in (1, 2, 3, 4)}
            for n, run in runs.items():
                place.run(n, run, f"--run.stages={stage}")
            for n in (2, 3, 4):
                compare(losses(runs[1]), losses(runs[n]), 1e-5, f"{stage} on 1 and {n} trainers")


def data_workers():
    with Workplace() as place:
        words = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=6", "--stage1.iterations=6", "--stage2.iterations=6"]
        runs = {w: place.path / f"workers_{w}" for w in (0, 1, 2)}
        for w, run in runs.items():
            place.run(2 + w, run, *words, f"--mesh.data_workers={w}")
        for w in (1, 2):
            check(losses(runs[0]) == losses(runs[w]), f"{w} data workers change the bits of the losses")


def micro_batches():
    with Workplace() as place:
        whole, parts = place.path / "whole", place.path / "parts"
        place.run(2, whole, "--run.stages=stage1")
        place.run(2, parts, "--run.stages=stage1", "--train.micro_batch=4")
        compare(losses(whole), losses(parts), 1e-5, "micro-batches of 6 and 4")


if __name__ == "__main__":
    sys.exit(main({"trainers": trainers, "data_workers": data_workers, "micro_batches": micro_batches}))
