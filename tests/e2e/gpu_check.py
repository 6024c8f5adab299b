#!/usr/bin/env python3
"""`scripts/gpu-check` as far as a machine without a GPU can try it: its words, its report, and with --full its parts on the CPU."""
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import time

from jobs import ROOT, TMD, Failure, Workplace, check, main, only_in_full, os

SCRIPT = ROOT / "scripts/gpu-check"
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("gpu_check_script", str(SCRIPT))
script = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
loader.exec_module(script)

import commands  # noqa: E402  of scripts/gpu_check, which the script has put on the path
import context as contexts  # noqa: E402
import kernel_parts  # noqa: E402
import number_parts  # noqa: E402
import packages  # noqa: E402
import training_parts  # noqa: E402

OK_PART = {"verdict": "ok", "reason": "", "figures": {"cases": {"value": 41, "unit": ""}}, "tail": "", "seconds": 12.0,
           "began": "2026-01-02T03:04:05Z", "commit": "abc", "devices": "NVIDIA H100"}
FAILED_PART = dict(OK_PART, verdict="failed", reason="exit code 1: a program | with a bar", tail="line one\nline two\n", figures={},
                   began="2026-01-03T00:00:00Z")


def gpu_check(*words, expect=0):
    # No device is shown, whatever this machine has.
    result = subprocess.run([str(SCRIPT), *map(str, words)], env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True,
                            timeout=60)
    output = result.stdout + result.stderr
    check(result.returncode == expect, f"exit code {result.returncode}, expected {expect}: {words}\n{output[-3000:]}")
    return output


def refused(kind, call):
    """What `call` says when it throws `kind`."""
    try:
        call()
    except kind as error:
        return str(error)
    raise Failure(f"nothing was refused, {kind.__name__} was expected")


def cpu_context(place):
    return contexts.Context(ROOT, place.path / "out", TMD.parent, [], {}, device="cpu")


def words():
    with Workplace() as place:
        for part in ([], ["--parts", "kernels,golden"], ["--parts", "build,comm"]):
            output = gpu_check(*part, "--out", place.path / "out", expect=69)
            check("no NVIDIA device: " in output and "--parts build" in output, f"the reason or the way out is missing:\n{output}")
        check(not (place.path / "out").exists(), "something was written without a device")
        listed = [line.split()[0] for line in gpu_check("--list").splitlines()]
        names = ["build", "kernels", "comm", "golden", "parity", "demo", "iteration", "checkpoint", "overhead"]
        check(listed == names, f"{listed}")
        for wrong in (["--parts", "kernel"], ["--parts", ""], ["--wrong"], ["word"], ["--jobs", "0"], ["--out"]):
            check("gpu-check: " in gpu_check(*wrong, expect=64), f"{wrong} is not explained")
        check("there is no part 'kernel'" in gpu_check("--parts", "kernel", expect=64), "the wrong part is not named")
        output = gpu_check("--parts", "build", "--from", place.path, "--out", place.path / "out", expect=69)
        check("is no folder of" in output, f"a folder without packages is taken:\n{output}")


def report():
    """Pieces of several starts and machines add up to one report; the newer one of two stays."""
    with Workplace() as place:
        out, other = place.path / "out", place.path / "other.json"
        out.mkdir()
        head = {"format": "tmd-gpu-report", "version": 1, "machine": {"GPUs": "2 x NVIDIA H100"}}
        (out / "gpu-report.json").write_text(json.dumps({**head, "parts": {"kernels": OK_PART, "golden": FAILED_PART}}))
        older, newer = dict(OK_PART, began="2025-01-01T00:00:00Z", commit="old"), dict(OK_PART, began="2026-02-01T00:00:00Z")
        other.write_text(json.dumps({**head, "parts": {"comm": FAILED_PART, "kernels": older, "golden": newer}}))
        output = gpu_check("--merge", other, "--out", out)
        check("comm, golden" in output, f"other parts were taken:\n{output}")
        parts = json.loads((out / "gpu-report.json").read_text())["parts"]
        check({name: part["verdict"] for name, part in parts.items()} == {"kernels": "ok", "golden": "ok", "comm": "failed"}, f"{parts}")
        check(parts["kernels"]["commit"] == "abc", "an older result has replaced a newer one")
        text = (out / "gpu-report.md").read_text()
        for piece in ("| GPUs | 2 x NVIDIA H100 |", "| kernels | ok | 12 |", "| comm | failed |", "a program \\| with a bar", "    line two",
                      "| cases | 41 |", "Not run: build, parity"):
            check(piece in text, f"'{piece}' is not in the report:\n{text}")
        check("## kernels" in text, "the figures of a part that is ok are missing")
        other.write_text("{}")
        check("is no report" in gpu_check("--merge", other, "--out", out, expect=65), "a file that is no report is taken")


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def deadlines():
    """A part ends in time with all that it has started; what it throws becomes its verdict."""
    with Workplace() as place:
        context = cpu_context(place)
        child = place.path / "child"
        script.PARTS["slow"] = (lambda c: c.run(["sh", "-c", f"echo begun; sleep 100 & echo $! > {child}; wait"], limit=0.5), "")
        script.PARTS["wrong"] = (lambda c: c.run(["sh", "-c", "echo what went wrong; exit 3"]), "")
        script.PARTS["absent"] = (lambda c: refuse_here(), "")
        script.PARTS["good"] = (lambda c: c.figure("number", 7) or "well", "")

        def refuse_here():
            raise commands.Skipped("only one device")

        began = time.monotonic()
        slow = script.run_part("slow", context)
        check(slow["verdict"] == "too late" and "begun" in slow["tail"] and time.monotonic() - began < 10, f"{slow}")
        time.sleep(0.1)  # for whoever inherits the child
        check(not is_running(int(child.read_text())), "what the program had started still runs")
        wrong = script.run_part("wrong", context)
        check(wrong["verdict"] == "failed" and "exit code 3" in wrong["reason"] and "what went wrong" in wrong["tail"], f"{wrong}")
        absent = script.run_part("absent", context)
        check((absent["verdict"], absent["reason"]) == ("skipped", "only one device"), f"{absent}")
        good = script.run_part("good", context)
        check(good["verdict"] == "ok" and good["figures"] == {"number": {"value": 7, "unit": ""}} and good["tail"] == "", f"{good}")
        for name in ("slow", "wrong", "absent", "good"):
            del script.PARTS[name]


def stopped():
    """A signal ends the script and what it has started."""
    with Workplace() as place:
        bin_folder, torch, pid = place.path / "bin", place.path / "site/torch", place.path / "pid"
        (torch / "lib").mkdir(parents=True)
        (torch / "version.py").write_text("__version__ = '2.11.0'\n")
        (torch / "lib/libtorch_cuda.so").touch()
        bin_folder.mkdir()
        for name, text in (("cmake", "cmake version 3.25.1"), ("nvcc", "release 13.0, V13.0.88")):
            (bin_folder / name).write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec echo "{text}"\necho $$ > {pid}\nsleep 100\n')
            (bin_folder / name).chmod(0o755)
        words = [str(SCRIPT), "--parts", "build", "--build", str(place.path / "build"), "--out", str(place.path / "out"),
                 "--torch", str(torch.parent)]
        process = subprocess.Popen(words, env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not pid.exists() or not pid.read_text():
            check(process.poll() is None and time.monotonic() < deadline, f"the build did not begin: {process.poll()}")
            time.sleep(0.02)
        process.terminate()
        check(process.wait(timeout=30) == 143, f"exit code {process.returncode}")
        time.sleep(0.1)
        check(not is_running(int(pid.read_text())), "CMake still runs")


def made_package(path, files, links):
    """A .deb with these files and links, as far as unpacking looks at it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w:xz") as archive:
        entry = tarfile.TarInfo("./control")
        text = b"Package: example\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\nDescription: example\n"
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, content in (("debian-binary", b"2.0\n"), ("control.tar.xz", control.getvalue()), ("data.tar.xz", data.getvalue())):
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package_folder():
    """--from: contents are checked, links stay inside, and both ways of unpacking give the same."""
    with Workplace() as place:
        source = place.path / "packages"
        source.mkdir()
        lib = "usr/lib/x86_64-linux-gnu"
        digest = made_package(source / "example.deb", {f"./{lib}/libexample.so.1": b"library", "./usr/include/example.h": b"header"},
                              {f"./{lib}/libexample.so": f"/{lib}/libexample.so.1", "./usr/bin/example": "/etc/alternatives/example"})
        manifest = {"format": "tmd-packages", "version": 1, "glibc": "2.36", "architecture": "amd64", "files": {"example.deb": digest}}
        (source / packages.MANIFEST).write_text(json.dumps(manifest))
        found, which = [], packages.shutil.which
        for with_dpkg in (True, False):
            packages.shutil.which = lambda name, path=None: which(name, path=path) if with_dpkg or name != "dpkg-deb" else None
            try:
                folder = packages.unpack(source, place.path / f"cache_{with_dpkg}")
            finally:
                packages.shutil.which = which
            library = folder / "usr/lib/x86_64-linux-gnu/libexample.so"
            check(library.read_bytes() == b"library" and not os.readlink(library).startswith("/"), f"{library} leads elsewhere")
            check(not (folder / "usr/bin/example").is_symlink(), "a link into the system has stayed")
            check(os.access(folder / "bin/mpirun", os.X_OK), "mpirun has no wrapper")
            found.append(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))
        check(found[0] == found[1], f"dpkg-deb and Python unpack differently: {found}")
        manifest["files"]["example.deb"] = "0" * 64
        (source / packages.MANIFEST).write_text(json.dumps(manifest))
        check("damaged" in refused(commands.Unavailable, lambda: packages.unpack(source, place.path / "cache")), "other bytes are taken")
        text = packages.describe_missing([("HDF5 (serial)", "libhdf5-dev")])
        check("libhdf5-dev" in text and "--pack" in text and "--from" in text, text)


def judgements():
    """What the parts conclude from outputs: of a plan, of two runs, of ctest's list."""
    with Workplace() as place:
        context = cpu_context(place)
        context.begin("judgements")
        phases, saved = training_parts.plan(context)
        check(set(phases) == {"stage1", "critic", "student"}, f"{phases}")
        check(all(tflop > 500 and 20 < peak < 100 for tflop, peak in phases.values()), f"{phases}")
        check(15 < saved["stage1"] < saved["stage2"] < 50, f"{saved}")
        record = {"samples": [1, 2], "phase": "teacher", "loss": {"teacher": 1.0}, "grad_norm": {"teacher": 0.5}, "diag": {"t": 0.25}}
        host = [{"iteration": i, **record} for i in range(1, 21)]
        number_parts.compare_runs(context, host, host)
        check(context.figures["samples and draws"]["value"] == "identical", f"{context.figures}")
        for change in ({"loss": {"teacher": 1.00002}}, {"grad_norm": {"teacher": 0.5001}}, {"samples": [2, 1]}, {"diag": {"t": 0.2500001}},
                       {"loss": {"teacher": float("nan")}}):
            refused(commands.Failed, lambda: number_parts.compare_runs(context, host, [*host[:10], {**host[10], **change}, *host[11:]]))
        refused(commands.Failed, lambda: number_parts.compare_runs(context, host, host[:19]))
        number_parts.compare_bits(context, host, host)
        changed = {**host[5], "loss": {"teacher": 1.0000000000000002}}
        refused(commands.Failed, lambda: number_parts.compare_bits(context, host, [*host[:5], changed, *host[6:]]))
        listed = place.path / "tests"
        listed.mkdir()
        (listed / "CTestTestfile.cmake").write_text(
            'add_test([=[base/a]=] "/b/tests/base_a")\nset_tests_properties([=[base/a]=] PROPERTIES  LABELS "gpu" TIMEOUT "300")\n'
            'add_test([=[base/b]=] "/b/tests/base_b")\nset_tests_properties([=[base/b]=] PROPERTIES  LABELS "long" TIMEOUT "300")\n'
            'add_test([=[comm/c]=] "mpirun" "-n" "1" "/b/tests/comm_c" "--x")\nset_tests_properties([=[comm/c]=] PROPERTIES  LABELS "mpi;gpu")\n')
        tests = kernel_parts.gpu_tests(place.path)
        programs = {name: kernel_parts.program_of(line) for name, line in tests.items()}
        check(programs == {"base/a": "/b/tests/base_a", "comm/c": "/b/tests/comm_c"}, f"{programs}")


@only_in_full
def parts():
    """The parts themselves, where a CPU can stand for the device, on a tiny model in the place of 1.3B."""
    sizes = ["--model.heads=2", "--model.head_dim=16", "--model.ffn=64", "--model.layers=4", "--model.text_dim=32",
             "--model.text_length=8", "--method.head_blocks=1", "--method.feature_blocks=1,2", "--method.discriminator_hidden=16",
             "--method.discriminator_scales=1,2", "--train.precision=fp32"]
    own_words = training_parts.job_words
    training_parts.job_words = lambda context: [*own_words(context), *sizes]
    training_parts.LATENT, training_parts.TEXT = (16, 3, 8, 8), (8, 32)
    with Workplace() as place:
        context = cpu_context(place)
        for name in ("golden", "parity", "iteration", "checkpoint"):
            result = script.run_part(name, context)
            check(result["verdict"] == "ok", f"{name}: {result['reason']}\n{result['tail']}")
            check(len(result["figures"]) >= 5, f"{name}: {result['figures']}")
        check(not list((place.path / "out/work").iterdir()), "runs were left behind")
        number_parts.FP32 = 1e-9
        result = script.run_part("golden", context)
        check(result["verdict"] == "failed" and "float32 output" in result["reason"], f"a limit that is not kept: {result}")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (words, report, deadlines, stopped, package_folder, judgements, parts)}))
