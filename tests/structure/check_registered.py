#!/usr/bin/env python3
"""Compares the *_test.cpp files on disk with those that the CMake files register, and finds tests that cannot fail."""
import pathlib
import re
import sys


def main():
    tests = pathlib.Path(sys.argv[1]) / "tests"
    on_disk = {p.relative_to(tests).with_suffix("").as_posix() for p in tests.rglob("*_test.c[pu]*")}
    registered = set()
    for cmake in tests.rglob("*.cmake"):
        registered |= set(re.findall(r"tmd(?:_mpi|_gpu)?_test\(\s*([\w/]+)", cmake.read_text()))
    found = [f"{name}.cpp is not registered" for name in sorted(on_disk - registered)]
    found += [f"{name} is registered but there is no such file" for name in sorted(registered - on_disk)]
    scripts = {p.stem for p in (tests / "e2e").glob("*.py")} - {"jobs"}
    registrations = (tests / "e2e/tests.cmake").read_text()
    e2e = {script for _, script in re.findall(r"^tmd_e2e_test\((\w+) (\w+)", registrations, re.MULTILINE)}
    found += [f"e2e/{name}.py is not registered" for name in sorted(scripts - e2e)]
    for script in sorted(scripts):
        text = (tests / f"e2e/{script}.py").read_text()
        body, listed = text.split('if __name__ == "__main__":')
        cases = re.findall(r"^def (\w+)\(\):$", body, re.MULTILINE)
        found += [f"e2e/{script}.py: the case {case} is not listed" for case in cases
                  if not re.search(rf"\b{case}\b", listed) and f"{case}()" not in body.replace(f"def {case}()", "")]
    for name in sorted(on_disk):
        if not (tests / f"{name}.cpp").exists():
            continue
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
