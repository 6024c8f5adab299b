"""The part build: configures and builds what the other parts run, and starts the program once."""
import json
import re

import context as contexts
import machine
from commands import Failed, TooLate, tail_of

TARGETS = ["tmd", "e2e_synthetic_latents"]
TINY = """[model]
heads = 2
head_dim = 16
ffn = 64
layers = 2
channels = 16
text_dim = 384
text_length = 16
[train]
global_batch = 4
threads = 1
[run]
stages = teacher
[teacher]
iterations = 2
[checkpoint]
every = 1000
[preview]
every = -1
"""


def gpu_tests(build):
    """{name: words} of the tests that are labelled gpu, as ctest would start them."""
    text = (build / "tests/CTestTestfile.cmake").read_text()
    tests, words = {}, {}
    for line in text.split("\n"):
        added = re.match(r"add_test\(\[=\[(.+?)\]=\] (.*)\)$", line)
        if added:
            words[added[1]] = re.findall(r'"((?:[^"\\]|\\.)*)"', added[2])
        labelled = re.match(r'set_tests_properties\(\[=\[(.+?)\]=\] PROPERTIES .*?LABELS "([^"]*)"', line)
        if labelled and "gpu" in labelled[2].split(";"):
            tests[labelled[1]] = words[labelled[1]]
    return tests


def program_of(words):
    """The test's own program: what comes last before its options."""
    return [word for word in words if not word.startswith("-") and "/tests/" in word][-1]


def configure(context):
    words = ["cmake", "--preset", "gpu", "-B", context.build, f"-DTMD_LIBTORCH={context.torch}"]
    if context.devices and not (context.build / "CMakeCache.txt").exists():  # for these alone: ten minutes are short
        computes = sorted({10 * device.compute[0] + device.compute[1] for device in context.devices})
        words.append("-DCMAKE_CUDA_ARCHITECTURES=" + ";".join(map(str, computes)))
    if context.packages:
        words += contexts.packages.cmake_arguments(context.packages)
    context.run(words)


def device_line(output):
    found = re.search(r"device: (.*)", output)
    if not found:
        raise Failed("the run does not say what it computes on", output[-3000:])
    return found[1].strip()


def start_once(context):
    """Two iterations of a tiny run; what it computed on."""
    folder = context.folder("start")
    (folder / "tiny.ini").write_text(TINY)
    output, _ = context.run([*context.mpi(1), context.tmd, "train", "--config", folder / "tiny.ini", "--run", folder / "run",
                             f"--data.files={context.root / 'tests/golden/clips_slice.h5'}"])
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    if len(lines) != 2 or any(json.loads(line)["skipped"] for line in lines):
        raise Failed("the run has not trained two iterations", output[-3000:])
    line = device_line(output)
    expected = "cuda" if context.devices else "CPU (no GPU:"
    if not line.startswith(expected):
        raise Failed(f"the run computes on '{line}', and '{expected}' was expected", output[-3000:])
    return line


def run(context):
    configure(context)
    contexts.store_settings(context.build, context)
    programs = sorted({program_of(words).rsplit("/", 1)[1] for words in gpu_tests(context.build).values()})
    try:
        context.run(["cmake", "--build", context.build, "--parallel", context.jobs, "--target", *TARGETS, *programs])
    except TooLate as late:
        raise TooLate("the build has not ended; started again, it goes on where it was", late.tail)
    context.figure("device of a run", start_once(context))
    cache = (context.build / "CMakeCache.txt").read_text()
    architectures = re.search(r"^CMAKE_CUDA_ARCHITECTURES:\w+=(.*)$", cache, re.MULTILINE)
    context.figure("compute capabilities", architectures[1] if architectures else "80;90;100")
    context.figure("NCCL", machine.nccl_text(machine.nccl_version(context.tmd, context.env)))
    context.figure("test programs", len(programs))
    context.clean()
    if not context.devices:
        return "compiled and linked; the program says that it found no device and trains on the CPU"
    return ""
