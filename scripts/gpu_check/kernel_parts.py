"""The parts kernels and comm: device code against the host's, and NCCL against the contract of communicators."""
import re
import shutil

import machine
from build_part import gpu_tests, program_of
from commands import Failed, Skipped, TooLate

# racecheck watches shared memory, which few kernels use, and makes them hundreds of times slower.
RACE_SECONDS = 120
SHARED_DEVICE_VERSION = 23000


def count_cases(output):
    return sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) tests?", output))


def kernels(context):
    tests = {name: words for name, words in gpu_tests(context.build).items() if not name.startswith("comm/")}
    if not tests:
        raise Failed("no test of the build is labelled gpu")
    names = "|".join(re.escape(name) for name in tests)
    output, _ = context.run(["ctest", "--test-dir", context.build, "-R", f"^({names})$", "--no-tests=error", "-V"])
    context.figure("test programs", len(tests))
    context.figure("cases of GoogleTest", count_cases(output))
    sanitizer = shutil.which("compute-sanitizer", path=context.env["PATH"] + ":/usr/local/cuda/bin")
    if not sanitizer:
        return "compute-sanitizer is not there: nothing was run under it"
    for name, words in tests.items():
        program = [program_of(words)]
        context.run([sanitizer, "--tool", "memcheck", "--leak-check", "no", "--error-exitcode", "99", *program],
                    CUDA_LAUNCH_BLOCKING="1")
        context.figure(f"memcheck {name}", "clean")
    late = []
    for name, words in tests.items():
        try:
            context.run([sanitizer, "--tool", "racecheck", "--error-exitcode", "99", program_of(words)],
                        limit=min(RACE_SECONDS, context.clock.left() - 5), CUDA_LAUNCH_BLOCKING="1")
            context.figure(f"racecheck {name}", "clean")
        except TooLate:
            late.append(name)
            context.figure(f"racecheck {name}", f"no end after {RACE_SECONDS} s")
    return f"racecheck was given up on {', '.join(late)}" if late else ""


def comm(context):
    program = context.program("comm_nccl_device_mpi_test")
    version = machine.nccl_version(program, context.env)
    context.figure("NCCL", machine.nccl_text(version))
    ranks = context.ranks
    if len(context.devices) == 1 and version >= SHARED_DEVICE_VERSION:
        ranks = 2
    # Few blocks for an operation: two ranks on one device must both find room.
    variables = {"NCCL_MAX_CTAS": "4"} if len(context.devices) < ranks else {}
    output, _ = context.run([*context.mpi(ranks), program], **variables)
    context.figure("ranks", ranks)
    context.figure("cases", count_cases(output))
    for name, value, unit in re.findall(r"^figure (\S+) (\S+) (\S+)$", output, re.MULTILINE):
        context.figure(name, float(value), f"{unit} that reach a rank")
    if ranks == 1:
        raise Skipped(f"one device, and NCCL {machine.nccl_text(version)} lets no two ranks share it (2.30 does): a group of one rank "
                      "keeps the contract, NCCL itself was not exercised")
    return "two ranks shared one device" if len(context.devices) == 1 else ""
