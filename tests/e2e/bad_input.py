#!/usr/bin/env python3
"""Everything a user may get wrong: a clear message, the right exit code, and nothing lost."""
import os
import shutil
import struct
import subprocess
import sys

from jobs import CLIPS, MPI_ENV, TMD, Workplace, check, losses, main

TEACHER = "--run.stages=teacher"


def expect(place, code, text, *words, ranks=2, run="run", **options):
    output = place.run(ranks, place.path / run, *words, expect=code, **options)
    check(text in output, f"'{text}' is not in the output:\n{output[-2500:]}")
    return output


def broken_copy(place, name, change):
    """A copy of the clips with `change(bytes)` applied."""
    path = place.path / name
    path.write_bytes(change(bytearray(CLIPS.read_bytes())))
    return path


def replaced(old, new):
    def change(data):
        at = data.find(old)
        check(at >= 0, f"{old} is not in the file")
        data[at:at + len(old)] = new
        return data
    return change


def data_files():
    with Workplace() as place:
        expect(place, 65, "no such file", TEACHER, data=place.path / "missing.h5")
        text = place.path / "text.h5"
        text.write_text("this is no HDF5 file\n" * 100)
        expect(place, 65, "text.h5", TEACHER, data=text)
        expect(place, 65, "format", TEACHER, data=broken_copy(place, "format.h5", replaced(b"tmd-latents", b"tmd-lanterns"[:11])))
        cut = broken_copy(place, "cut.h5", lambda data: data[:len(data) // 2])
        expect(place, 65, "cut.h5", TEACHER, data=cut)
        expect(place, 65, "negative_text", TEACHER, data=broken_copy(place, "negative.h5", replaced(b"negative_text\0", b"negative_tent\0")))
        check(not (place.path / "run").exists(), "a refused start leaves no run folder")


def models_that_do_not_fit():
    with Workplace() as place:
        expect(place, 65, "16 latent channels", TEACHER, "--model.channels=12")
        expect(place, 65, "384 text features", TEACHER, "--model.text_dim=32")
        expect(place, 65, "16 text rows", TEACHER, "--model.text_length=8")


def samples_that_are_broken():
    with Workplace() as place:
        with open(CLIPS, "rb") as f:
            data = bytearray(f.read())
        run = place.path / "make"
        # 10 % of the latents become NaN: written by tmd's own toy writer they could not be, so the bytes are changed.
        half_nan = struct.pack("<e", float("nan"))
        at = len(data) // 2
        data[at - at % 2:at - at % 2 + 2] = half_nan
        path = place.path / "nan.h5"
        path.write_bytes(data)
        output = place.run(2, run, TEACHER, "--teacher.iterations=20", data=path, expect=65)
        check("sample" in output and "max_bad" in output, f"the sample is not named:\n{output[-2500:]}")
        output = place.run(2, place.path / "replaced", TEACHER, "--teacher.iterations=20", "--data.max_bad=1", data=path)
        check("left out and replaced" in output, f"no word about the replacement:\n{output[-2500:]}")


def configuration():
    with Workplace() as place:
        expect(place, 78, "teacher.iterations", TEACHER, "--teacher.iteration=5")
        misspelt = place.path / "misspelt.ini"
        misspelt.write_text("[train]\ngloball_batch = 4\n")
        output = expect(place, 78, "train.global_batch", TEACHER, "--config", misspelt)
        check("misspelt.ini" in output, f"the file is not named:\n{output[-2000:]}")
        expect(place, 78, "teacher.beta1", TEACHER, "--teacher.beta1=1.5")
        expect(place, 78, "train.global_batch", TEACHER, "--train.global_batch=0")
        expect(place, 78, "legal trainer counts", TEACHER, "--train.global_batch=7")
        expect(place, 78, "2 attention heads", TEACHER, "--mesh.sequence=4", ranks=4)
        expect(place, 78, "stage1", "--method.name=dmd2v", "--run.stages=stage1")
        expect(place, 64, "--output is missing", ranks=1, run="", verb="sample")


def lone_rank_under_an_allocation():
    with Workplace() as place:
        env = {**os.environ, **MPI_ENV, "SLURM_NTASKS": "4"}
        for name in ("OMPI_COMM_WORLD_SIZE",):
            env.pop(name, None)
        result = subprocess.run([str(TMD), "train", "--config", str(place.config), "--run", str(place.path / "run"),
                                 f"--data.files={CLIPS}"], env=env, capture_output=True, text=True, timeout=120)
        check(result.returncode == 69, f"exit code {result.returncode}:\n{result.stdout}{result.stderr}")
        check("SLURM_NTASKS" in result.stderr + result.stdout, "the allocation is not named")


def other_experiment():
    with Workplace() as place:
        run = place.path / "run"
        words = [TEACHER, "--teacher.iterations=4"]
        place.run(2, run, *words)
        before = losses(run)
        output = expect(place, 78, "teacher.lr", *words, "--teacher.lr=0.5")
        check("--allow-change" in output, f"no way out is offered:\n{output[-2000:]}")
        check(losses(run) == before, "the refused start changed the run")
        stranger = place.path / "stranger"
        stranger.mkdir()
        (stranger / "thesis.txt").write_text("precious")
        expect(place, 78, "no run folder", *words, run="stranger")
        check((stranger / "thesis.txt").read_text() == "precious", "a foreign folder was touched")


def command_line():
    for words, code, text in ((["trian"], 64, "train"), (["train", "--nonsense"], 64, "nonsense"), (["data", "check"], 64, "data")):
        result = subprocess.run([str(TMD), *words], env={**os.environ, **MPI_ENV}, capture_output=True, text=True, timeout=120)
        output = result.stdout + result.stderr
        check(result.returncode == code, f"{words}: exit code {result.returncode}\n{output}")
        check(text in output, f"{words}: '{text}' is not in the output\n{output}")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (data_files, models_that_do_not_fit, samples_that_are_broken, configuration,
                                           lone_rank_under_an_allocation, other_experiment, command_line)}))
