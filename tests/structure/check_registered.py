#!/usr/bin/env python3
"""Compares the *_test.cpp files on disk with those that the CMake files register, and finds tests that cannot fail."""
import pathlib
import re
import sys


def main():
    tests = pathlib.Path(sys.argv[1]) / "tests"
    on_disk = {p.relative_to(tests).with_suffix("").as_posix() for p in tests.rglob("*_test.cpp")}
    registered = set()
    for cmake in tests.rglob("*.cmake"):
        registered |= set(re.findall(r"tmd(?:_mpi)?_test\(\s*([\w/]+)", cmake.read_text()))
    found = [f"{name}.cpp is not registered" for name in sorted(on_disk - registered)]
    found += [f"{name} is registered but there is no such file" for name in sorted(registered - on_disk)]
    for name in sorted(on_disk):
        text = (tests / f"{name}.cpp").read_text()
        for word in ("GTEST_" + "SKIP", "DISABLED" + "_"):
            if word in text:
                found.append(f"{name}.cpp: {word}: a skip is not a pass")
        if "_mpi_test" in name and "mpi_main.h" not in text:
            found.append(f"{name}.cpp: a multi-rank test includes mpi_main.h")
    print("\n".join(found) or f"{len(on_disk)} test files, all registered")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
