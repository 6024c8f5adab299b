#!/usr/bin/env python3
"""Every header compiles alone, with the shared precompiled header for libraries, so that each names what it uses of ours.

The build has shown it for a header that its own .cpp includes before anything else; the others are compiled here. A header that uses at:: must include ATen itself: the precompiled header would hide that, so it is checked by text.
"""
import concurrent.futures
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile


def command_of(build):
    """The compile command of the precompiled header's own unit, up to its -o."""
    for entry in json.loads((build / "compile_commands.json").read_text()):
        if entry["file"].endswith("cmake/pch.cpp"):
            words = shlex.split(entry["command"])
            words = words[next(i for i, w in enumerate(words) if w.endswith(("c++", "g++"))):]
            return words[:words.index("-o")]
    sys.exit("no compile command of cmake/pch.cpp")


def stands_first_in_its_source(root, header):
    source = (root / header).with_suffix(".cpp")
    if not source.exists():
        return False
    first = re.search(r"^#include .*$", source.read_text(), re.MULTILINE)
    return first is not None and first[0] == f'#include "{header}"'


def main():
    root, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    command = command_of(build)
    headers = (build / "headers.txt").read_text().split()
    found = []
    for header in headers:
        text = (root / header).read_text()
        if re.search(r"\bat::", text) and not re.search(r"#include <ATen/", text) and '.h"' not in text:
            found.append(f"{header}: uses at:: without an ATen header")

    def check(header):
        with tempfile.NamedTemporaryFile("w", suffix=".cpp") as unit:
            unit.write(f'#include "{header}"\n')
            unit.flush()
            result = subprocess.run([*command, "-fsyntax-only", unit.name], capture_output=True, text=True)
            return "" if result.returncode == 0 else f"{header}:\n{result.stderr[:2000]}"

    to_compile = [header for header in headers if not stands_first_in_its_source(root, header)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found += [message for message in pool.map(check, to_compile) if message]
    print("\n".join(found) or f"{len(headers)} headers compile alone, {len(to_compile)} of them tried here")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
