#!/usr/bin/env python3
"""The README's second command: it keeps its promises, writes its report, and a second start repeats nothing."""
import json
import re
import subprocess
import sys

from jobs import MPI_ENV, ROOT, Workplace, check, main, os

ROWS = ("teacher, 50 steps", "teacher, 2 steps", "DMD2-v, 2 steps", "DMD2-v, 1 step", "TMD-N2, 2 steps", "TMD-N2, 1 step")


def demo(folder, *words):
    command = [str(ROOT / "scripts/demo"), "--run", str(folder), *words]
    result = subprocess.run(command, env={**os.environ, **MPI_ENV}, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    return result.returncode, result.stdout + result.stderr


def check_results(folder, output):
    for word in ("NFE", *ROWS, "Next: "):
        check(word in output, f"'{word}' is not in the output:\n{output[-6000:]}")
    report = (folder / "report.html").read_text()
    check(report.count("data:image/") >= 5 + 8 * len(ROWS) and "http" not in report,
          "the report lacks pictures or needs a network")
    parts = json.loads((folder / "demo.json").read_text())["parts"]
    check(set(parts) == {"mixture", "shapes"} and set(parts["shapes"]) == set(ROWS), f"demo.json holds {parts.keys()}")


def wrong_folder():
    code, output = demo("/tmp/tmd_no_demo", "--configs", "/nowhere")
    check(code == 64 and "hint: " in output, f"exit code {code}:\n{output[-2000:]}")


def quick_demo():
    """Everything at a tenth of the iterations; started again, it trains nothing and gives the same numbers."""
    with Workplace() as place:
        folder = place.path / "demo"
        code, output = demo(folder, "--quick")
        check(code == 0 and "promise nothing" in output, f"exit code {code}:\n{output[-6000:]}")
        check_results(folder, output)
        first = json.loads((folder / "demo.json").read_text())["parts"]
        code, output = demo(folder, "--quick", "--only", "shapes")
        check(code == 0 and "FRESH" not in output and not re.search(r"step \d+/\d+", output), f"trained again:\n{output[-6000:]}")
        again = json.loads((folder / "demo.json").read_text())["parts"]["shapes"]
        for row, values in again.items():
            check(values["frechet"] == first["shapes"][row]["frechet"], f"{row}: other numbers after a second start")


def damaged_teacher():
    with Workplace() as place:
        configs = place.path / "configs"
        configs.mkdir()
        for file in (ROOT / "configs").iterdir():
            (configs / file.name).write_bytes(file.read_bytes())
        teacher = configs / "demo-shapes-teacher.safetensors"
        data = bytearray(teacher.read_bytes())
        data[-100] ^= 1
        teacher.write_bytes(data)
        code, output = demo(place.path / "demo", "--only", "shapes", "--configs", str(configs))
        check(code == 65 and "is damaged" in output, f"exit code {code}:\n{output[-2000:]}")


def whole_demo():
    with Workplace() as place:
        folder = place.path / "demo"
        code, output = demo(folder)
        check(code == 0 and "MISSED" not in output and " left]" in output, f"exit code {code}:\n{output[-6000:]}")
        check_results(folder, output)
        print(output[output.index("\n2-D mixture of"):], flush=True)


def full_demo():
    with Workplace() as place:
        folder = place.path / "demo"
        code, output = demo(folder, "--full", "--only", "shapes")
        check(code == 0 and "MISSED" not in output, f"exit code {code}:\n{output[-6000:]}")
        print(output[output.index("\nMoving shapes"):], flush=True)


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (wrong_folder, quick_demo, damaged_teacher, whole_demo, full_demo)}))
