#!/usr/bin/env python3
"""The README against the program: every command in it is run, and the numbers of its tables are those of the reference."""
import json
import re
import shlex
import subprocess
import sys

from exports import read_safetensors, write_safetensors
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
RUN_ELSEWHERE = {"scripts/demo": "e2e/demo", "scripts/test": "what runs all tests", "scripts/test --full": "the same",
                 "scripts/parity": "parity/quick, a part of it", "scripts/embed_prompts.py": "python/test_embed_prompts"}


def commands():
    """The indented lines that begin with a program, without their comments."""
    lines = [line.strip().split(" # ")[0].split("   #")[0].strip() for line in README.splitlines() if line.startswith("    ")]
    return [line for line in lines if re.match(r"(scripts/|mpirun |build/|tmd |sbatch )", line)]


def run_command(words, folder=ROOT):
    words = [str(ROOT / word) if word == "build/release/tmd" else word for word in words]
    result = subprocess.run(words, env={**os.environ, **MPI_ENV}, cwd=folder, capture_output=True, text=True, timeout=600)
    check(result.returncode == 0, f"exit code {result.returncode}: {shlex.join(words)}\n{(result.stdout + result.stderr)[-3000:]}")
    return result.stdout + result.stderr


def every_command_runs():
    found = commands()
    check({"scripts/setup", "scripts/demo", "scripts/test"} <= set(found), f"the README lost its commands: {found}")
    for command in found:
        words = shlex.split(command)
        if command in RUN_ELSEWHERE or words[0] in RUN_ELSEWHERE:
            continue
        if "Wan2.1" in command or "student" in command:
            continue  # weights_commands_run
        if words[:1] == ["scripts/setup"]:
            check("is ready" in run_command(words), "scripts/setup does not say that it is done")
        elif words[:1] == ["mpirun"] and "train" in words:
            with Workplace() as place:
                run = place.path / "run"
                words[1:1] = ["--oversubscribe", "--bind-to", "none"]
                run_command([*words, "--run", str(run), *SHORT_RUN])
                check(len(records(run)) == 9, "not all iterations were run")
        elif words[1:2] == ["plan"]:
            check("GB per rank" in run_command(words), "the plan has no table")
        else:
            check(False, f"no test runs the README's command: {command}")


def weights_commands_run():
    """In their order, in a folder with a tiny model under the published one's name and a short run."""
    lines = [line for line in commands() if ("Wan2.1" in line or "student" in line) and not line.startswith("scripts/")]
    check(len(lines) == 4, f"the README's commands for weights have changed: {lines}")
    with Workplace() as place:
        run, exported, model = place.path / "runs/clips", place.path / "exported", place.path / "Wan2.1-T2V-1.3B"
        place.run(3, run, *SHORT_RUN, "--run.stages=teacher,stage1,stage2", "--mesh.data_workers=1")
        run_command(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", "build/release/tmd", "export", str(run),
                     "--teacher", "--for", "wan", "--dtype", "f32", "--output", str(exported)])
        model.mkdir()
        file = "diffusion_pytorch_model.safetensors"
        write_safetensors(model / file, read_safetensors(exported / file)[1])
        (model / "config.json").write_text((exported / "config.json").read_text())
        (place.path / "prompts.h5").write_bytes((exported / "embeddings.h5").read_bytes())
        for line in lines:
            words = shlex.split(line)
            words[1:1] = ["--oversubscribe", "--bind-to", "none"] if words[0] == "mpirun" else []
            run_command(words, place.path)
        for folder in ("samples", "student-samples"):
            check((place.path / folder / "samples.webp").exists(), f"{folder} holds no video")


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
    sys.exit(main({f.__name__: f for f in (every_command_runs, weights_commands_run, tables_show_the_reference)}))
