#!/usr/bin/env python3
"""The README against the program: every command in it is run, and the numbers of its tables are those of the reference."""
import json
import re
import shlex
import subprocess
import sys

from jobs import MPI_ENV, ROOT, Workplace, check, main, os, records

README = (ROOT / "README.md").read_text()
# How a part of the demo is shown: (key in demo-reference.json, factor, digits) for each number in brackets.
SHOWN = {
    "mixture": [("sliced_w2", 1, 3), ("modes_covered", 1, 0), ("mode_tv", 1, 3), ("junk", 100, 2)],
    "shapes": [("joint", 100, 1), ("frechet", 1, 2), ("coverage", 100, 1), ("position_entropy_ratio", 1, 2),
               ("residual", 1, 2), ("speed_ratio", 1, 2)],
}
TITLES = {"mixture": "    2-D mixture of 8 Gaussians", "shapes": "    Moving shapes with captions"}
SHORT_RUN = ["--teacher.iterations=2", "--stage1.iterations=2", "--stage2.iterations=5", "--sampler.steps=2"]
# Commands that another test runs, or that run this one.
RUN_ELSEWHERE = {"scripts/demo": "e2e/demo", "scripts/test": "what runs all tests", "scripts/test --full": "the same"}


def commands():
    """The indented lines that begin with a program, without their comments."""
    lines = [line.strip().split(" # ")[0].split("   #")[0].strip() for line in README.splitlines() if line.startswith("    ")]
    return [line for line in lines if re.match(r"(scripts/|mpirun |build/|tmd |sbatch )", line)]


def run_command(words):
    result = subprocess.run(words, env={**os.environ, **MPI_ENV}, cwd=ROOT, capture_output=True, text=True, timeout=600)
    check(result.returncode == 0, f"exit code {result.returncode}: {shlex.join(words)}\n{(result.stdout + result.stderr)[-3000:]}")
    return result.stdout + result.stderr


def every_command_runs():
    found = commands()
    check({"scripts/setup", "scripts/demo", "scripts/test"} <= set(found), f"the README lost its commands: {found}")
    for command in found:
        words = shlex.split(command)
        if command in RUN_ELSEWHERE:
            continue
        if words[:1] == ["scripts/setup"]:
            check("is ready" in run_command(words), "scripts/setup does not say that it is done")
        elif words[:1] == ["mpirun"] and "train" in words:
            with Workplace() as place:
                run = place.path / "run"
                words[1:1] = ["--oversubscribe", "--bind-to", "none"]
                run_command([*words, "--run", str(run), *SHORT_RUN])
                check(len(records(run)) == 9, "not all iterations were run")
        else:
            check(False, f"no test runs the README's command: {command}")


def tables_show_the_reference():
    reference = json.loads((ROOT / "configs/demo-reference.json").read_text())["parts"]
    for part, metrics in SHOWN.items():
        table = README[README.index(TITLES[part]):].split("\n\n")[0].splitlines()
        for row, values in reference[part].items():
            line = next((line for line in table if line.strip().startswith(row + "  ")), None)
            check(line is not None, f"the README has no row '{row}' of the {part}")
            shown = re.findall(r"\(([-\d.]+)\)", line)
            expected = [f"{factor * values[key]:.{digits}f}" for key, factor, digits in metrics]
            check(shown == expected, f"{row}: the README shows {shown}, the reference has {expected}")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (every_command_runs, tables_show_the_reference)}))
