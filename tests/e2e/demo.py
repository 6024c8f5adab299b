#!/usr/bin/env python3
"""The README's second command, whole: it keeps its promises, writes its report, and the second start repeats nothing."""
import json
import subprocess
import sys

from jobs import MPI_ENV, ROOT, Workplace, check, main, os


def demo(folder, *words):
    command = [str(ROOT / "scripts/demo"), "--run", str(folder), *words]
    result = subprocess.run(command, env={**os.environ, **MPI_ENV}, cwd=ROOT, capture_output=True, text=True, timeout=2400)
    return result.returncode, result.stdout + result.stderr


def whole_demo():
    with Workplace() as place:
        folder = place.path / "demo"
        code, output = demo(folder)
        check(code == 0 and "MISSED" not in output, f"exit code {code}:\n{output[-6000:]}")
        for word in ("left]", "NFE", "teacher, 50 steps", "DMD2-v, 2 steps", "TMD-N2, 2 steps", "Next: "):
            check(word in output, f"'{word}' is not in the output:\n{output[-6000:]}")
        print(output[output.index("\n2-D mixture of"):], flush=True)
        report = (folder / "report.html").read_text()
        check(report.count("data:image/") >= 48 and "http" not in report, "the report lacks pictures or needs a network")
        parts = json.loads((folder / "demo.json").read_text())["parts"]
        check(set(parts) == {"mixture", "shapes"}, f"demo.json holds {set(parts)}")


def wrong_folder():
    code, output = demo("/tmp/tmd_no_demo", "--configs", "/nowhere")
    check(code == 64 and "hint: " in output, f"exit code {code}:\n{output[-2000:]}")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (wrong_folder, whole_demo)}))
