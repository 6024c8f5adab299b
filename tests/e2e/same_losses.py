#!/usr/bin/env python3
"""The same experiment on other ranks: equal losses over 1, 2, 3 and 4 trainers, the same bits over data workers."""
import sys

from jobs import Workplace, check, losses, main, records

# A new network ends in zeros and hides what lies before; the teacher stage, at a rate that moves it, makes the stages
# after it sensitive to every block.
STAGES = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=20", "--stage1.iterations=20",
          "--stage2.iterations=20", "--teacher.lr=1e-3", "--stage1.lr=1e-3", "--stage2.lr=1e-4", "--stage2.lr_fake=1e-4",
          "--stage2.lr_discriminator=1e-4"]
START_OF_THE_GATE = 0.017986209962091562  # sigmoid(-4)


def compare(first, second, tolerance, what):
    """Losses within `tolerance`, relative; gradient norms, which see every weight, within ten times that."""
    check(len(first) == len(second) and len(first) > 0, f"{what}: {len(first)} and {len(second)} iterations")
    for a, b in zip(first, second):
        check((a["iteration"], a["phase"], a["samples"]) == (b["iteration"], b["phase"], b["samples"]),
              f"{what}: iteration {a['iteration']} is not the same")
        for kind, limit in (("loss", tolerance), ("grad_norm", 10 * tolerance)):
            check(a[kind].keys() == b[kind].keys(), f"{what}: {a[kind].keys()} and {b[kind].keys()}")
            for name, value in a[kind].items():
                distance = abs(value - b[kind][name])
                check(distance <= limit * abs(value),
                      f"{what}: iteration {a['iteration']} {kind} {name}: {value!r} and {b[kind][name]!r}")


def trainers():
    with Workplace() as place:
        runs = {n: place.path / f"trainers_{n}" for n in (1, 2, 3, 4)}
        for n, run in runs.items():
            place.run(n, run, *STAGES)
        for n in (2, 3, 4):
            compare(records(runs[1]), records(runs[n]), 1e-5, f"1 and {n} trainers")
        copies = place.path / "copies"
        place.run(4, copies, *STAGES, "--mesh.replicate=2")
        compare(records(runs[1]), records(copies), 1e-5, "1 trainer and 2 x 2")
        stage1 = [r for r in records(runs[1]) if r["stage"] == "stage1"]
        check(abs(stage1[-1]["diag"]["gate"] - START_OF_THE_GATE) > 1e-3, "the fusion gate does not move")
        check(all(r["loss"]["mse"] > 0 and r["loss"]["mse"] != r["loss"]["stage1"] for r in stage1),
              "the plain error of stage 1 is not logged beside its weighted loss")


def axes():
    """Tokens and heads over ranks, alone, together and with the other axes; kept blocks change no bit."""
    with Workplace() as place:
        one = place.path / "one"
        place.run(1, one, *STAGES)
        for ranks, words in ((2, ["--mesh.sequence=2"]), (2, ["--mesh.tensor=2"]),
                             (4, ["--mesh.replicate=2", "--mesh.two_level=true"]),
                             (4, ["--mesh.sequence=2", "--mesh.shard=2"]), (4, ["--mesh.tensor=2", "--mesh.replicate=2"])):
            run = place.path / "_".join(w.split(".")[1].replace("=", "") for w in words)
            place.run(ranks, run, *STAGES, *words)
            compare(records(one), records(run), 1e-5, f"1 rank and {' '.join(words)}")
        kept, plain = place.path / "kept", place.path / "plain"
        place.run(2, plain, *STAGES)
        place.run(2, kept, *STAGES, "--train.keep_blocks=3")
        check(losses(plain) == losses(kept), "blocks that keep their activations change the bits of the losses")


def bfloat16():
    """bf16 stays near fp32, repeats its bits after a resume, and does not depend on the ranks beyond rounding."""
    with Workplace() as place:
        wide, narrow, two, broken = (place.path / name for name in ("wide", "narrow", "two", "broken"))
        words = [*STAGES, "--train.precision=bf16"]
        place.run(1, wide, *STAGES)
        place.run(1, narrow, *words)
        place.run(2, two, *words)
        first = [r for r in records(narrow) if r["stage"] == "teacher"]
        for a, b, c in zip(records(wide), first, records(two)):
            for name, value in a["loss"].items():
                check(abs(value - b["loss"][name]) <= 6e-3 * abs(value), f"iteration {a['iteration']}: {value} in fp32, {b['loss'][name]} in bf16")
                check(abs(c["loss"][name] - b["loss"][name]) <= 6e-3 * abs(value), f"iteration {a['iteration']}: {c['loss'][name]} on two ranks")
        last = len(first) - 1  # a new network ends in zeros and has the same first loss in any type
        check(records(wide)[last]["loss"] != first[last]["loss"], "bf16 has the bits of fp32: it is not in use")
        place.run(2, broken, *words, "--stage2.iterations=3", "--checkpoint.every=50")
        output = place.run(2, broken, *words, "--allow-change", "stage2.iterations")
        check("RESUMED step 43" in output, f"not resumed:\n{output[-2000:]}")
        check(losses(two) == losses(broken), "a resumed run in bf16 has other losses")


def data_workers():
    with Workplace() as place:
        runs = {w: place.path / f"workers_{w}" for w in (0, 1, 2)}
        for w, run in runs.items():
            place.run(2 + w, run, *STAGES, f"--mesh.data_workers={w}")
        for w in (1, 2):
            check(losses(runs[0]) == losses(runs[w]), f"{w} data workers change the bits of the losses")


def micro_batches():
    with Workplace() as place:
        whole, parts = place.path / "whole", place.path / "parts"
        place.run(2, whole, *STAGES)
        place.run(2, parts, *STAGES, "--train.micro_batch=4")
        compare(records(whole), records(parts), 1e-5, "micro-batches of 6 and 4")


if __name__ == "__main__":
    sys.exit(main({"trainers": trainers, "axes": axes, "bfloat16": bfloat16, "data_workers": data_workers, "micro_batches": micro_batches}))
