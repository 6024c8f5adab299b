#!/usr/bin/env python3
"""Everything a user may get wrong: a clear message, the right exit code, and nothing lost."""
import os
import re
import struct
import subprocess
import sys

from jobs import CLIPS, MPI_ENV, TMD, Workplace, check, main, records

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


def newer_version(data):
    """The attribute `version`: its value follows its name, its type and its space."""
    name = data.find(b"version\0")
    at = data.find(struct.pack("<q", 1), name + 28)
    check(0 <= at < name + 48, "the file has no attribute version")
    data[at:at + 8] = struct.pack("<q", 2)
    return data


def data_files():
    with Workplace() as place:
        expect(place, 65, "no such file", TEACHER, data=place.path / "missing.h5")
        text = place.path / "text.h5"
        text.write_text("this is no HDF5 file\n" * 100)
        check("text.h5" in expect(place, 65, "HDF5", TEACHER, data=text), "the file is not named")
        other = broken_copy(place, "a.h5", replaced(b"tmd-latents", b"tmd-lantern"))
        expect(place, 65, "tmd-lantern", TEACHER, data=other)
        newer = broken_copy(place, "b.h5", newer_version)
        expect(place, 65, "version 2", TEACHER, data=newer)
        cut = broken_copy(place, "cut.h5", lambda data: data[:len(data) // 2])
        check("cut.h5" in expect(place, 65, "truncated", TEACHER, data=cut), "the file is not named")
        unguided = broken_copy(place, "c.h5", replaced(b"negative_text\0", b"negative_tent\0"))
        expect(place, 65, "negative_text", TEACHER, data=unguided)
        check(not (place.path / "run").exists(), "a refused start leaves no run folder")
        place.run(2, place.path / "run", TEACHER, "--teacher.iterations=2", "--teacher.condition_drop=0", "--sampler.cfg=1",
                  data=unguided)
        place.run(2, None, "--weights", place.path / "run", "--count", 2, "--output", place.path / "out", verb="sample")


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
        half_nan = struct.pack("<e", float("nan"))
        at = len(data) // 2
        data[at - at % 2:at - at % 2 + 2] = half_nan
        path = place.path / "nan.h5"
        path.write_bytes(data)
        output = place.run(2, run, TEACHER, "--teacher.iterations=20", data=path, expect=65)
        check(re.search(r"nan\.h5 sample \d+", output) and "max_bad" in output, f"the sample is not named:\n{output[-2500:]}")
        check(len(records(run)) > 0, "the iteration that met the sample is not in the metrics")
        output = place.run(2, place.path / "replaced", TEACHER, "--teacher.iterations=20", "--data.max_bad=1", data=path)
        check("left out and replaced" in output, f"no word about the replacement:\n{output[-2500:]}")
        manifest = sorted((place.path / "replaced" / "checkpoints").glob("step_*/manifest.json"))[-1].read_text()
        check("nan.h5 sample" in manifest, "the checkpoint does not list the broken sample")


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
        expect(place, 78, "teacher.iterations", TEACHER, "--teacher.iterations=0")
        expect(place, 64, "log-every", TEACHER, "--log-every", "0")
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


def ranks_that_differ():
    """One rank of three is started with other settings, with another build, with another verb."""
    with Workplace() as place:
        other_build = place.path / "other_build"
        other_build.write_bytes(TMD.read_bytes() + b"\0")
        other_build.chmod(0o755)
        usual = place.command(0, place.path / "run", TEACHER)
        libraries = {**os.environ, **MPI_ENV}
        for text, other in (("the configuration differs between ranks: rank 1 disagrees", [*usual, "--teacher.lr=2e-4"]),
                            ("the program differs between ranks: rank 1 disagrees", [str(other_build), *usual[1:]]),
                            ("the program differs between ranks: rank 1 disagrees", [str(TMD), "inspect", str(CLIPS)])):
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "1", *usual, ":", "-n", "1", *other, ":", "-n", "1",
                       *usual]
            done = subprocess.run(command, env=libraries, capture_output=True, text=True, timeout=120)
            output = done.stdout + done.stderr
            check(done.returncode == 78 and text in output, f"exit code {done.returncode}, '{text}':\n{output[-2500:]}")
        check(not (place.path / "run").exists(), "a refused start leaves no run folder")


def contents(run):
    """Every file of a run but its logs and journals, and the name of its last user."""
    return {p: p.read_bytes() for p in run.rglob("*")
            if p.is_file() and p.parent.name not in ("log", "journal") and p.name != "in_use"}


def other_experiment():
    with Workplace() as place:
        run = place.path / "run"
        words = [TEACHER, "--teacher.iterations=4"]
        place.run(2, run, *words)
        before = contents(run)
        output = expect(place, 78, "teacher.lr", *words, "--teacher.lr=0.5")
        check("--allow-change" in output, f"no way out is offered:\n{output[-2000:]}")
        check(contents(run) == before, "the refused start changed the run")
        # A start that fails while it makes its networks leaves no experiment behind: the corrected command is accepted.
        expect(place, 65, "typo.safetensors", *words, "--model.weights=typo.safetensors", run="typo")
        place.run(2, place.path / "typo", *words)
        stranger = place.path / "stranger"
        stranger.mkdir()
        (stranger / "thesis.txt").write_text("precious")
        expect(place, 78, "no run folder", *words, run="stranger")
        check((stranger / "thesis.txt").read_text() == "precious", "a foreign folder was touched")


def back_to_an_earlier_stage():
    with Workplace() as place:
        run, words = place.path / "run", ["--run.stages=stage1,stage2", "--stage1.iterations=2", "--stage2.iterations=5"]
        place.run(2, run, *words)
        before = contents(run)
        longer = [*words, "--stage1.iterations=20", "--allow-change", "stage1.iterations"]
        output = expect(place, 78, "cannot go back", *longer)
        check("stage1" in output and contents(run) == before, "the refused start changed the run")
        check("RESUMED step 7" in place.run(2, run, *words), "the first command does not go on any more")


def command_line():
    for words, code, text in ((["trian"], 64, "train"), (["train", "--nonsense"], 64, "nonsense"), (["data", "check"], 64, "data")):
        result = subprocess.run([str(TMD), *words], env={**os.environ, **MPI_ENV}, capture_output=True, text=True, timeout=120)
        output = result.stdout + result.stderr
        check(result.returncode == code, f"{words}: exit code {result.returncode}\n{output}")
        check(text in output, f"{words}: '{text}' is not in the output\n{output}")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (data_files, models_that_do_not_fit, samples_that_are_broken, configuration, ranks_that_differ,
                                           lone_rank_under_an_allocation, other_experiment, back_to_an_earlier_stage,
                                           command_line)}))
