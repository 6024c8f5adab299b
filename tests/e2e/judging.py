#!/usr/bin/env python3
"""What a run says of itself while it trains: previews, diagnostics, judged checkpoints, alarms.

python3 tests/e2e/judging.py [CASE ...]
"""
import array
import functools
import json
import math
import sys

from jobs import Workplace, check, losses, main, records

STAGES = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=4", "--stage1.iterations=4", "--stage2.iterations=12",
          "--teacher.lr=1e-3", "--stage1.lr=1e-3", "--stage2.lr=3e-3", "--stage2.student_every=2", "--stage2.lr_fake=1e-3"]
LAST = 20
JUDGE = ["--judge.every=2", "--judge.samples=33", "--checkpoint.every=4", "--checkpoint.keep_last=1"]
STUDENT_DIAGNOSTICS = {"fake_lag", "direction_norm", "mean_drift", "std_drift", "std_ratio", "motion_ratio", "diversity_ratio",
                       "fake_minus_teacher", "x_minus_teacher", "x_hat_mean", "x_hat_rms", "data_rms"}


@functools.cache
def plain_losses():
    """Of the run on three ranks, with nothing switched on."""
    with Workplace() as place:
        run = place.path / "run"
        place.run(3, run, *STAGES)
        check(not (run / "judge").exists() and not judged(run), "a run is judged that was not asked for it")
        return losses(run)


def checkpoints(run):
    return sorted(int(p.name[5:]) for p in (run / "checkpoints").glob("step_*"))


def best(run):
    link = run / "checkpoints" / "BEST"
    check(link.is_symlink() and (link / "manifest.json").exists(), f"BEST leads to no checkpoint: {list(link.parent.iterdir())}")
    return int(link.readlink().name[5:])


def judged(run):
    return {r["iteration"]: r["eval"] for r in records(run) if "eval" in r}


def tensors(path):
    """Header and values of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = array.array({"F32": "f", "I64": "q"}[entry["dtype"]], data[8 + size + begin:8 + size + end])
            found[name] = entry["shape"], values
    return header.get("__metadata__", {}), found


def previews():
    """Step 0, every 10 iterations and the ends of stages; the same bytes every time; training does not notice."""
    with Workplace() as place:
        words = [*STAGES, "--preview.every=10", "--preview.prompts=2", "--stage2.ema=0.9"]
        first, second = place.path / "first", place.path / "second"
        place.run(3, first, *words)
        place.run(3, second, *words, "--preview.every=0")  # the same at the ends of stages
        found, again = ({p.name: p.read_bytes() for p in (run / "samples").iterdir()} for run in (first, second))
        names = {step: {f"step_{step:08d}.{kind}" for kind in ("png", "webp", "json")} for step in (0, 4, 8, 10, 20)}
        check(found.keys() == set().union(*names.values()), f"previews {sorted(found)}")
        check(again.keys() == set().union(*(names[step] for step in (0, 4, 8, 20))), f"previews of every = 0: {sorted(again)}")
        check(all(found[name] == content for name, content in again.items()), "a second run has other previews")
        columns = {step: json.loads(found[f"step_{step:08d}.json"])["columns"] for step in (0, 8, 20)}
        check(columns[0] == ["data", "teacher, 4 steps"], f"columns at step 0: {columns[0]}")
        check(columns[8] == [*columns[0], "student, 2 steps"], f"columns after stage 1: {columns[8]}")
        check(columns[20] == [*columns[8], "student's average"], f"columns at the end: {columns[20]}")
        rows = json.loads(found["step_00000020.json"])["rows"]
        check(len(rows) == 2 and all(rows), f"prompts of the rows: {rows}")
        widths = [int.from_bytes(found[f"step_{step:08d}.png"][16:20], "big") for step in (0, 8, 20)]
        check(widths[1] - widths[0] == widths[2] - widths[1] > 100, f"widths of the sheets: {widths}")
        check(losses(first) == losses(second) == plain_losses(), "previews change the losses")


def diagnostics_and_best():
    """Every number is there and finite; the best checkpoint outlives retention and a resume, whose numbers are the same."""
    with Workplace() as place:
        whole, parts = place.path / "whole", place.path / "parts"
        place.run(3, whole, *STAGES, *JUDGE)
        check(losses(whole) == plain_losses(), "judging changes the losses")
        for record in records(whole):
            diag, where = record["diag"], f"iteration {record['iteration']}"
            check(all(math.isfinite(value) for value in diag.values()), f"{where}: {diag}")
            check(record["phase"] != "student" or STUDENT_DIAGNOSTICS <= diag.keys(), f"{where}: only {sorted(diag)}")
            is_due = record["iteration"] % 2 == 0
            check(("weights_moved" in diag) == is_due, f"{where}: weights_moved")
            is_due = is_due and record["stage"] != "teacher"
            check(("head_sensitivity_ys" in diag) == is_due == ("head_sensitivity_y1" in diag), f"{where}: sensitivity of the head")
        moved = {r["iteration"]: r["diag"]["weights_moved"] for r in records(whole) if r["iteration"] % 2 == 0}
        check(0 < moved[LAST] <= 1 and moved[LAST] > moved[10], f"weights that moved: {moved}")
        scores = judged(whole)
        check(sorted(scores) == [8, 12, 16, 20], f"judged: {sorted(scores)}")  # the teacher's stage has no student
        lowest = min(scores, key=lambda step: (scores[step]["value"], -step))
        check(best(whole) == lowest and checkpoints(whole) == sorted({lowest, LAST}),
              f"{checkpoints(whole)}, best {best(whole)}: {[(s, e['value']) for s, e in scores.items()]}")
        score = json.loads((whole / "checkpoints/BEST/score.json").read_text())
        check(score == {"metric": "distance", "value": scores[lowest]["value"]}, f"{score}")

        place.run(3, parts, *STAGES, *JUDGE, "--stage2.iterations=6")  # ends at 14
        score = {"metric": "distance", "value": -1}  # which nothing can beat; killed before the link
        (parts / "checkpoints/step_00000014/score.json").write_text(json.dumps(score))
        (parts / "checkpoints/BEST").unlink()
        place.run(3, parts, *STAGES, *JUDGE, "--allow-change", "stage2.iterations")
        del scores[16]["seconds"]
        again = judged(parts)[16]
        del again["seconds"]
        check(scores[16] == again, f"another score after a resume: {scores[16]} and {again}")
        check({r["iteration"]: r["diag"].get("weights_moved") for r in records(parts)}[LAST] == moved[LAST], "weights_moved after a resume")
        check(best(parts) == 14 and checkpoints(parts) == [14, LAST], f"best after a resume: {best(parts)} of {checkpoints(parts)}")

        longer = ["--stage2.iterations=13", "--allow-change", "stage2.iterations"]
        place.run(3, parts, *STAGES, *longer, *JUDGE, "--judge.every=0")
        check(best(parts) == 14 and checkpoints(parts) == [14, LAST + 1], f"a resume that judges nothing keeps {checkpoints(parts)}")
        score["value"] = 1e9  # which everything beats
        (parts / "checkpoints/BEST/score.json").write_text(json.dumps(score))
        longer[0] = "--stage2.iterations=14"
        place.run(3, parts, *STAGES, *longer, *JUDGE)
        check(best(parts) == LAST + 2 and checkpoints(parts) == [LAST + 2], f"best {best(parts)} of {checkpoints(parts)}")


def judged_as_by_eval():
    """The numbers of a checkpoint are those that tmd eval finds in it, also by the name of the best one."""
    with Workplace() as place:
        run = place.path / "run"
        place.run(1, run, *STAGES, *JUDGE, "--judge.metric=frechet")
        entry = judged(run)[best(run)]
        place.run(1, None, "--run", run / "checkpoints/BEST", "--samples", 33, "--seed", 1001, "--json", place.path / "eval.json",
                  verb="eval")
        report = json.loads((place.path / "eval.json").read_text())
        row = next(row for row in report["rows"] if row["name"].startswith("student"))
        check(report["run"]["step"] == best(run) and row["metrics"]["frechet"] == entry["value"] == entry["metrics"]["frechet"],
              f"{row['metrics']} and {entry}")
        output = place.run(1, place.path / "wrong", *STAGES, *JUDGE, "--judge.metric=beauty", expect=78)
        check("judge.metric = beauty" in output and "frechet" in output, f"no word about the metric:\n{output[-1500:]}")
        output = place.run(1, place.path / "teacher", *STAGES, *JUDGE, "--judge.metric=temporal_energy_to_teacher", expect=78)
        check("needs samples of the teacher" in output, f"no word about the teacher:\n{output[-1500:]}")
        output = place.run(1, place.path / "few", *STAGES, *JUDGE, "--judge.samples=8", expect=78)
        check("judge.samples = 8" in output, f"no word about the number of samples:\n{output[-1500:]}")


def alarm(ranks):
    with Workplace() as place:
        run = place.path / "run"
        words = [*STAGES, "--checkpoint.every=7", "--checkpoint.keep_last=1", "--judge.every=5", "--judge.metric=none"]
        output = place.run(ranks, run, *words, "--alarm.min_std=1000", "--alarm.patience=2", expect=3)
        at = 12  # the second iteration of the student
        check(f"iteration {at}: std_ratio" in output and "alarm.min_std" in output, f"the alarm is not named:\n{output[-2500:]}")
        verdict = json.loads((run / "verdict.json").read_text())
        check(verdict["exit_code"] == 3 and verdict["reason"] == "collapse", f"verdict {verdict}")
        check(records(run)[-1]["iteration"] == at and at in checkpoints(run), f"checkpoints {checkpoints(run)}")

        folder = run / "alarms" / f"step_{at:08d}"
        told = json.loads((folder / "alarm.json").read_text())
        line = records(run)[-1]
        check((told["iteration"], told["seed"], told["reason"]) == (at, 1, "collapse"), f"{told}")
        check(told["samples"] == line["samples"] and told["diag"] == line["diag"], "another batch than that of the metrics")
        check((folder / "batch.png").exists() and (folder / "batch.webp").exists(), f"{list(folder.iterdir())}")
        samples, squares = [], {"x_hat": 0, "latents": 0}
        for rank in range(ranks):
            metadata, rows = tensors(folder / f"rank_{rank:05d}.safetensors")
            check(metadata == {"iteration": str(at), "seed": "1"}, f"{metadata}")
            samples += rows["samples"][1]
            check(list(rows["slots"][1]) == list(range(rank * 12 // ranks, (rank + 1) * 12 // ranks)), f"slots {rows['slots']}")
            for name in squares:
                shape, values = rows[name]
                check(shape == rows["latents"][0] and shape[0] == 12 // ranks, f"{name}: {shape}")
                each = len(values) // shape[0]
                squares[name] += sum(math.sqrt(sum(v * v for v in values[i * each:(i + 1) * each]) / each) for i in range(shape[0]))
        check(samples == line["samples"], "the rows of the files are not the batch")
        for name, diagnostic in (("x_hat", "x_hat_rms"), ("latents", "data_rms")):
            check(abs(squares[name] / 12 - line["diag"][diagnostic]) < 1e-5, f"{name}: rms {squares[name] / 12}, {line['diag']}")

        output = place.run(ranks, run, *words)
        check(f"RESUMED step {at}" in output and not (run / "verdict.json").exists(), f"not resumed:\n{output[-2000:]}")
        check(ranks != 3 or losses(run) == plain_losses(), "the losses differ from those of a run without alarm")
        check(checkpoints(run) == [at, LAST], f"the alarm's checkpoint was not kept: {checkpoints(run)}")


def alarm_on_one_rank():
    alarm(1)


def alarm_on_three_ranks():
    alarm(3)


def not_finite():
    """Gradients that are not finite end a run as before, with their batch; in a stage without samples, too."""
    with Workplace() as place:
        run = place.path / "run"
        output = place.run(2, run, *STAGES, "--checkpoint.every=2", "--train.nonfinite=stop", "--fault=nan:1:update:3", expect=3)
        check("iteration 3: a gradient is not finite" in output, f"{output[-1500:]}")
        check(json.loads((run / "verdict.json").read_text())["reason"] == "not_finite", "another verdict")
        _, rows = tensors(run / "alarms/step_00000003/rank_00001.safetensors")
        check("x_hat" not in rows and list(rows["samples"][1]) == records(run)[-1]["samples"][6:], "another batch")
        check(checkpoints(run) == [2], f"{checkpoints(run)}")
        place.run(2, run, *STAGES, "--train.nonfinite=stop")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (previews, diagnostics_and_best, judged_as_by_eval, alarm_on_one_rank, alarm_on_three_ranks, not_finite)}, sample=3))
