#!/usr/bin/env python3
"""The same experiment on other ranks: equal losses over 1, 2, 3 and 4 trainers, the same bits over data workers.

python3 tests/e2e/same_losses.py [--full] [CASE ...]: on all meshes, or on some.
"""
import functools
import sys

from jobs import Workplace, check, losses, main, records, some

# A new network ends in zeros and hides what lies before; the teacher stage, at a rate that moves it, makes the stages
# after it sensitive to every block.
STAGES = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=20", "--stage1.iterations=20",
          "--stage2.iterations=20", "--teacher.lr=1e-3", "--stage1.lr=1e-3", "--stage2.lr=1e-4", "--stage2.lr_fake=1e-4",
          "--stage2.lr_discriminator=1e-4"]
START_OF_THE_GATE = 0.017986209962091562  # sigmoid(-4)


@functools.cache
def usual_run(ranks):
    """Records of the experiment on so many trainers and no other axis."""
    with Workplace() as place:
        place.run(ranks, place.path / "run", *STAGES)
        return records(place.path / "run")


def losses_of(found):
    return [(r["iteration"], r["phase"], r["loss"]) for r in found]


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
    one = usual_run(1)
    for n in [2, *some((3, 4), 1)]:
        compare(one, usual_run(n), 1e-5, f"1 and {n} trainers")
    stage1 = [r for r in one if r["stage"] == "stage1"]
    check(abs(stage1[-1]["diag"]["gate"] - START_OF_THE_GATE) > 1e-3, "the fusion gate does not move")
    check(all(r["loss"]["mse"] > 0 and r["loss"]["mse"] != r["loss"]["stage1"] for r in stage1),
          "the plain error of stage 1 is not logged beside its weighted loss")


def axes():
    """Tokens and heads over ranks, alone, together and with the other axes; kept blocks change no bit."""
    with Workplace() as place:
        meshes = [(2, ["--mesh.sequence=2"]), (2, ["--mesh.tensor=2"]), (4, ["--mesh.replicate=2"]),
                  (4, ["--mesh.replicate=2", "--mesh.two_level=true"]), (4, ["--mesh.sequence=2", "--mesh.shard=2"]),
                  (4, ["--mesh.tensor=2", "--mesh.replicate=2"])]
        for ranks, words in some(meshes, 2):
            run = place.path / "_".join(w.split(".")[1].replace("=", "") for w in words)
            place.run(ranks, run, *STAGES, *words)
            compare(usual_run(1), records(run), 1e-5, f"1 rank and {' '.join(words)}")
        kept = place.path / "kept"
        place.run(2, kept, *STAGES, "--train.keep_blocks=3")
        check(losses_of(usual_run(2)) == losses(kept), "blocks that keep their activations change the bits of the losses")


def bfloat16():
    """bf16 stays near fp32, repeats its bits after a resume, and does not depend on the ranks beyond rounding."""
    with Workplace() as place:
        narrow, two, broken = (place.path / name for name in ("narrow", "two", "broken"))
        wide = usual_run(1)
        words = [*STAGES, "--train.precision=bf16"]
        place.run(1, narrow, *words)
        place.run(2, two, *words)
        first = [r for r in records(narrow) if r["stage"] == "teacher"]
        for a, b, c in zip(wide, first, records(two)):
            for name, value in a["loss"].items():
                check(abs(value - b["loss"][name]) <= 6e-3 * abs(value), f"iteration {a['iteration']}: {value} in fp32, {b['loss'][name]} in bf16")
                check(abs(c["loss"][name] - b["loss"][name]) <= 6e-3 * abs(value), f"iteration {a['iteration']}: {c['loss'][name]} on two ranks")
        last = len(first) - 1  # a new network ends in zeros and has the same first loss in any type
        check(wide[last]["loss"] != first[last]["loss"], "bf16 has the bits of fp32: it is not in use")
        place.run(2, broken, *words, "--stage2.iterations=3", "--checkpoint.every=50")
        output = place.run(2, broken, *words, "--allow-change", "stage2.iterations")
        check("RESUMED step 43" in output, f"not resumed:\n{output[-2000:]}")
        check(losses(two) == losses(broken), "a resumed run in bf16 has other losses")


def data_workers():
    with Workplace() as place:
        for w in some((1, 2), 1):
            run = place.path / f"workers_{w}"
            place.run(2 + w, run, *STAGES, f"--mesh.data_workers={w}")
            check(losses_of(usual_run(2)) == losses(run), f"{w} data workers change the bits of the losses")


def micro_batches():
    with Workplace() as place:
        parts = place.path / "parts"
        place.run(2, parts, *STAGES, "--train.micro_batch=4")
        compare(usual_run(2), records(parts), 1e-5, "micro-batches of 6 and 4")


if __name__ == "__main__":
    sys.exit(main({"trainers": trainers, "axes": axes, "bfloat16": bfloat16, "data_workers": data_workers, "micro_batches": micro_batches}, sample=3))
