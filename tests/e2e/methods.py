#!/usr/bin/env python3
"""Every method and every switch of the paper reaches the run: it changes the losses from its stage on, and nothing before.

python3 tests/e2e/methods.py [--full] [CASE ...]: all switches, or some.
"""
import functools
import json
import sys

from jobs import CLIPS, Workplace, check, losses, main, records, some
from same_losses import compare
from verbs import tmd

# A rate that moves every block, and iterations of each kind in each stage.
SHORT = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=6", "--stage1.iterations=3", "--stage2.iterations=6",
         "--teacher.lr=1e-3", "--stage1.lr=1e-3", "--stage2.lr=1e-4", "--stage2.student_every=2", "--stage1.cfg=3", "--stage2.cfg=3"]
DMD2V = ["--run.stages=teacher,stage2", "--method.name=dmd2v"]

# Switch, stage whose losses change first, words that both runs have.
SWITCHES = [
    ("--method.inner_target=clean", "stage1", []),
    ("--method.head_output=average_velocity", "stage1", []),
    ("--method.fusion=concat", "stage1", []),
    ("--method.outer_steps=3", "stage1", []),
    ("--method.inner_steps=3", "stage1", []),
    ("--method.head_blocks=2", "stage1", []),
    ("--method.outer_shift=5", "stage1", []),
    ("--method.inner_shift=5", "stage1", ["--stage1.flow_matching=0"]),
    ("--method.gate_start=0", "stage1", []),
    ("--stage1.objective=tm", "stage1", []),
    ("--stage1.interval=continuous", "stage1", []),
    ("--stage1.derivative=exact", "stage1", ["--stage1.flow_matching=0"]),
    ("--stage1.tangent=plain", "stage1", ["--stage1.flow_matching=0"]),
    ("--stage1.tangent=predicted", "stage1", ["--stage1.flow_matching=0"]),
    ("--stage1.cfg=1", "stage1", []),
    ("--stage1.cfg_mix=0.3", "stage1", []),
    ("--stage1.detach_features=true", "stage1", []),
    ("--stage1.s_shift=1", "stage1", []),
    ("--stage1.c_per_element=1e-5", "stage1", []),
    ("--method.x_hat=x1_minus_y", "stage2", []),
    ("--stage2.rollout=false", "stage2", []),
    ("--stage2.train_input=simulation", "stage2", []),
    ("--method.outer_sampler=renoise", "stage2", ["--stage2.train_input=simulation", "--method.outer_steps=3"]),
    ("--stage2.vsd_norm=fake_minus_teacher", "stage2", []),
    ("--stage2.features=fake", "stage2", []),
    ("--stage2.real_noise=independent", "stage2", []),
    ("--stage2.gan_weight=0", "stage2", []),
    ("--stage2.r1_weight=1", "stage2", []),
    ("--stage2.td_shift=1", "stage2", []),
    ("--stage2.cfg=1", "stage2", []),
    ("--stage2.ida=0.1", "stage2", []),
    ("--stage2.ida=0.1", "stage2", ["--mesh.replicate=2", "--mesh.two_level=true", "--train.precision=bf16"]),
    ("--stage2.student_every=3", "stage2", []),
    ("--method.discriminator=conv1d_2d", "stage2", ["--method.discriminator_conv_widths=8,8"]),
    ("--method.discriminator=attention", "stage2", ["--method.discriminator_attention_width=8",
                                                    "--method.discriminator_attention_heads=2"]),
    ("--stage2.train_input=simulation", "stage2", DMD2V),
]


@functools.cache
def run_of(*words):
    """Records of a run on two ranks; made once."""
    with Workplace() as place:
        place.run(2, place.path / "run", *SHORT, *words)
        return records(place.path / "run")


def of_stage(found, names):
    return [(r["phase"], r["loss"]) for r in found if r["stage"] in names]


def switches():
    for switch, stage, words in some(SWITCHES, 7):
        plain, switched = run_of(*words), run_of(*words, switch)
        before = ["teacher"] if stage == "stage1" else ["teacher", "stage1"]
        check(of_stage(plain, before) == of_stage(switched, before), f"{switch} changes losses before {stage}")
        check(of_stage(plain, [stage]) != of_stage(switched, [stage]), f"{switch} changes no loss of {stage}: it is ignored")
        check(all(value == value for _, loss in of_stage(switched, [stage]) for value in loss.values()), f"{switch}: NaN")


def methods():
    """Baselines train, are sampled and are evaluated; their losses do not depend on the ranks."""
    both = [("meanflow", ["--run.stages=teacher,stage1", "--method.name=meanflow"]),
            ("meanflow_exact", ["--run.stages=teacher,stage1", "--method.name=meanflow", "--stage1.derivative=exact",
                                "--stage1.interval=continuous"]),
            ("tm", ["--run.stages=teacher,stage1", "--method.name=tm"]),
            ("clean", ["--method.inner_target=clean"])]
    for name, words in some(both, 2):
        with Workplace() as place:
            one, three = place.path / "one", place.path / "three"
            place.run(1, one, *SHORT, *words)
            place.run(3, three, *SHORT, *words)
            compare(records(one), records(three), 1e-5, f"{name} on one and three ranks")
            tmd("sample", "--weights", three, "--count", 2, "--output", place.path / "samples", ranks=2)
            report = place.path / "eval.json"
            tmd("eval", "--run", three, "--samples", 36, "--json", report, "--sampler.steps=2", ranks=2)
            rows = {row["name"]: row for row in json.loads(report.read_text())["rows"]}
            check(rows["student-2"]["metrics"]["frechet"] > 0, f"no distance: {rows['student-2']}")
            if name in ("tm", "clean"):  # another N at inference
                tmd("eval", "--run", three, "--samples", 36, "--json", report, "--sampler.steps=2", "--method.inner_steps=1", ranks=2)
                forced = {row["name"]: row for row in json.loads(report.read_text())["rows"]}["student-2"]
                check(forced["method"]["inner_steps"] == 1 and forced["effective_nfe"] < rows["student-2"]["effective_nfe"]
                      and forced["metrics"]["frechet"] != rows["student-2"]["metrics"]["frechet"], f"N is not 1: {forced}")
            again = place.run(3, three, *SHORT, *words)
            check("RESUMED step" in again, f"{name} does not resume:\n{again[-1500:]}")


def distillation_from_pairs():
    """Stage kd learns from what `tmd data synth` has stored, and is refused without it."""
    with Workplace() as place:
        teacher, pairs = place.path / "teacher", place.path / "pairs"
        place.run(2, teacher, *SHORT, "--run.stages=teacher")
        tmd("data", "synth", "--weights", teacher, "--prompts", CLIPS, "--count", 12, "--part", 5, "--output", pairs, ranks=2)
        words = [*SHORT, *DMD2V, "--run.stages=teacher,kd,stage2", "--kd.iterations=12", "--kd.lr=1e-3", "--method.outer_steps=1"]
        files = str(pairs / "*.h5")
        place.run(1, place.path / "one", *words, data=files)
        place.run(2, place.path / "two", *words, data=files)
        compare(records(place.path / "one"), records(place.path / "two"), 1e-5, "kd on one and two ranks")
        kd = [r["loss"]["kd"] for r in records(place.path / "two") if r["stage"] == "kd"]
        check(len(kd) == 12 and kd[-1] < kd[0], f"kd does not learn: {kd}")
        output = place.run(2, place.path / "refused", *words, expect=65)
        check("tmd data synth" in output, f"no way out is offered:\n{output[-1500:]}")
        # the state of stage 1 goes on in kd, that of kd in stage 2
        place.run(2, place.path / "tmd", *SHORT, "--run.stages=teacher,stage1,kd,stage2", "--kd.iterations=3", data=files)


def refusals():
    """What cannot go together, with the reason; nothing is begun."""
    dmd2v = ["--run.stages=stage2", "--method.name=dmd2v"]
    meanflow = ["--run.stages=stage1", "--method.name=meanflow"]
    cases = [([*dmd2v, "--method.inner_target=clean"], "dmd2v and meanflow lack"),
             ([*dmd2v, "--stage2.rollout=false"], "dmd2v and meanflow lack"),
             ([*meanflow, "--run.stages=stage1,stage2"], "has no stage2"),
             ([*meanflow, "--method.outer_sampler=renoise"], "MeanFlow"),
             ([*meanflow, "--stage1.detach_features=true"], "no backbone"),
             (["--stage1.objective=tm", "--stage1.interval=continuous"], "r = s"),
             (["--stage2.train_input=simulation", "--method.outer_steps=1"], "nothing to simulate"),
             (["--stage2.train_input=simulation", "--method.x_hat=x1_minus_y"], "a simulated x_t has none"),
             (["--stage2.train_input=simulation", "--stage2.rollout=false"], "belongs to none"),
             (["--stage2.gan_weight=0", "--stage2.features=fake"], "of the discriminator"),
             (["--stage1.derivative=exact", "--mesh.tensor=2"], "forward mode"),
             (["--stage1.derivative=exact", "--mesh.shard=1", "--mesh.sequence=0"], "forward mode"),
             (["--stage1.objective=tm", "--stage1.tangent=plain"], "direction of a derivative"),
             ([*dmd2v, "--method.fusion=concat"], "dmd2v and meanflow lack"),
             (["--model.kind=mlp", "--stage2.gan_weight=0", "--stage1.cfg=1", "--stage2.ida=0.1"], "perceptron"),
             (["--stage2.gan_weight=0", "--method.discriminator=attention"], "there is none of"),
             (["--run.stages=stage2,kd"], "cannot follow")]
    with Workplace() as place:
        for words, reason in cases:
            output = place.run(2, place.path / "run", *words, expect=78)
            check(reason in output, f"{words}: '{reason}' is not said:\n{output[-1500:]}")
        check(not (place.path / "run").exists(), "a refused run leaves a folder")


def student_of_another_shape():
    """A run whose stage 1 was for other M, N or H does not go on, whatever is allowed."""
    with Workplace() as place:
        run, stage1 = place.path / "run", ["--run.stages=teacher,stage1"]
        place.run(2, run, *SHORT, *stage1)
        for key, value in (("outer_steps", 3), ("inner_steps", 4), ("head_blocks", 2)):
            output = place.run(2, run, *SHORT, f"--method.{key}={value}", "--allow-change", "run.stages", f"method.{key}", expect=78)
            check(f"method.{key} is" in output and "made for one set" in output, f"{key}:\n{output[-1500:]}")
        check("RESUMED step 9" in place.run(2, run, *SHORT, "--allow-change", "run.stages"), "stage 2 does not follow")


def seeds():
    """The same seed gives the same bits, another seed other losses; ranks draw different noise."""
    with Workplace() as place:
        runs = {}
        for name, words in (("a", []), ("b", []), ("c", ["--run.seed=2"])):
            place.run(2, place.path / name, *SHORT, *words)
            runs[name] = losses(place.path / name)
        check(runs["a"] == runs["b"], "two runs of one seed differ")
        check(all(x[2] != y[2] for x, y in zip(runs["a"], runs["c"])), "another seed has losses of this one")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (switches, methods, distillation_from_pairs, refusals, student_of_another_shape, seeds)}, sample=4))
