#!/usr/bin/env python3
"""check_case must be able to fail: a case with a changed option, an unknown key or a changed number is not passed."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

PROGRAM, CASE = sys.argv[1], pathlib.Path(sys.argv[2])


def edit_json(folder, edit):
    path = folder / "case.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def change_expected(folder):
    """Makes the first number of s1.h a thousandth larger."""
    path = folder / "expected.safetensors"
    data = bytearray(path.read_bytes())
    length = struct.unpack_from("<Q", data)[0]
    begin = 8 + length + json.loads(data[8:8 + length])["s1.h"]["data_offsets"][0]
    struct.pack_into("<d", data, begin, struct.unpack_from("<d", data, begin)[0] * 1.001)
    path.write_bytes(data)


DAMAGES = {
    "another guidance": (1, "FAR", lambda f: edit_json(f, lambda c: c["config"].update(cfg1=4))),
    "another gate learning rate": (1, "FAR", lambda f: edit_json(f, lambda c: c["s1.adamw"].update(gate_lr_mult=50))),
    "a changed number": (1, "s1.h", change_expected),
    "an unknown key": (65, "unknown key", lambda f: edit_json(f, lambda c: c["config"].update(kappa=1))),
    "an unknown optimizer key": (65, "unknown key", lambda f: edit_json(f, lambda c: c["s1.adamw"].update(nesterov=1))),
    "a missing key": (65, "delta", lambda f: edit_json(f, lambda c: c["config"].pop("delta"))),
}


def main():
    failed = 0
    for name, (code, word, damage) in DAMAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "case"
            shutil.copytree(CASE, copy)
            damage(copy)
            result = subprocess.run([PROGRAM, str(copy)], capture_output=True, text=True, env=os.environ)
            output = result.stdout + result.stderr
            good = result.returncode == code and word in output
            print(f"{'ok    ' if good else 'FAILED'}  {name}: exit code {result.returncode}, expected {code} with '{word}'")
            if not good:
                print(output[-1500:])
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
