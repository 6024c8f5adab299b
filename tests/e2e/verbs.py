#!/usr/bin/env python3
"""The verbs around training, on a run of a few iterations: sample, eval, data, inspect."""
import json
import re
import subprocess
import sys

from jobs import CLIPS, MPI_ENV, TMD, Workplace, check, main, os

SHORT = ["--run.stages=teacher,stage1,stage2", "--teacher.iterations=2", "--stage1.iterations=2", "--stage2.iterations=5",
         "--stage2.ema=0.9"]


def tmd(*words, expect=0, ranks=0):
    launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks else []
    result = subprocess.run([*launcher, str(TMD), *map(str, words)], env={**os.environ, **MPI_ENV}, capture_output=True,
                            text=True, timeout=300)
    output = result.stdout + result.stderr
    check(result.returncode == expect, f"exit code {result.returncode}, expected {expect}: {words}\n{output[-3000:]}")
    return output


def data_hash(file):
    return re.search(r"data hash (\w+)", tmd("data", "check", file))[1]


def trained(place, name="run", *words):
    place.run(2, place.path / name, *SHORT, *words)
    return place.path / name


def sample():
    with Workplace() as place:
        run = trained(place)
        first, second, other = place.path / "first", place.path / "second", place.path / "other"
        for folder in (first, second):
            tmd("sample", "--weights", run, "--count", 3, "--seed", 5, "--output", folder, ranks=2)
        check(data_hash(first / "samples.h5") == data_hash(second / "samples.h5"), "the same seed gives other samples")
        for name in ("samples.png", "samples.webp"):
            check((first / name).stat().st_size > 1000, f"{name} is empty")
        newest = sorted((run / "checkpoints").iterdir())[-1]
        tmd("sample", "--weights", newest, "--prompts", first / "samples.h5", "--count", 2, "--average", "--seed", 6,
            "--output", other, ranks=2)
        check(data_hash(other / "samples.h5") != data_hash(first / "samples.h5"), "another seed gives the same samples")
        tmd("sample", "--weights", run, "--teacher", "--steps", 2, "--count", 1, "--output", place.path / "t", ranks=2)
        tmd("sample", "--weights", run, "--steps", 0, "--output", other, ranks=2, expect=64)
        tmd("sample", "--weights", place.path, "--output", other, ranks=1, expect=65)
        (place.path / "file").write_text("in the way")
        tmd("sample", "--weights", run, "--output", place.path / "file", ranks=2, expect=74)
        # of other ranks than those that trained it
        check("8 samples in" in tmd("sample", "--weights", run, "--output", other, ranks=3), "three ranks do not sample what two trained")


def evaluate():
    with Workplace() as place:
        run = trained(place)
        output = tmd("eval", "--run", run, "--samples", 34, ranks=2)
        for word in ("real data", "teacher-4", "teacher-2", "student-2", "temporal energy", "frechet", "student-2 against teacher-2"):
            check(word in output, f"'{word}' is not in the output:\n{output[-2000:]}")
        first = next((run / "eval").glob("step_*.json"))
        check(first.name == "step_00000009_samples34.json", f"the default name is {first.name}")
        stored = json.loads(first.read_text())
        check(stored["format"] == "tmd-eval" and stored["version"] == 2 and stored["judge"] == "latents", f"{list(stored)}")
        check([row["name"] for row in stored["rows"]] == ["teacher-4", "teacher-2", "student-2"], f"{stored['rows']}")
        check(stored["real"]["frechet"] == stored["rows"][2]["metrics"]["frechet_floor"] > 0, "the floor is not that of real data")
        check(len(stored["prompt_of_sample"]) >= 34 and stored["prompts"][0]["text"].startswith("a fat rabbit"),
              f"{stored['prompts'][:2]}")
        student = stored["rows"][2]
        for metric in stored["metrics"]:
            check(isinstance(student["metrics"][metric["key"]], float), f"{metric['key']} is {student['metrics'][metric['key']]}")
        check(len(student["values"]["teacher_distance"]) == 34, f"{student['values'].keys()}")
        check([(pair["a"], pair["b"]) for pair in stored["differences"]] == [("teacher-2", "student-2")], f"{stored['differences']}")
        own, again, seed = (place.path / "deep" / f"{name}.json" for name in ("own", "again", "seed"))
        tmd("eval", "--run", sorted((run / "checkpoints").iterdir())[-1], "--samples", 34, "--average", "--json", own, ranks=2)
        tmd("eval", "--run", run, "--samples", 34, "--json", again)
        tmd("eval", "--run", run, "--samples", 34, "--seed", 2, "--json", seed, ranks=2)
        before = first.read_bytes()
        for words in (["--average"], ["--average", "--seed", 2], ["--sampler.cfg=2"], ["--sampler.cfg=1"]):
            tmd("eval", "--run", run, "--samples", 34, *words, ranks=2)
        names = sorted(re.sub("options[0-9a-f]{8}", "options", path.name) for path in (run / "eval").iterdir())
        check(names == [f"step_00000009{name}.json" for name in ("_average_samples34", "_average_samples34_seed2", "_samples34",
                                                                "_samples34_options", "_samples34_options")], f"{names}")
        check(first.read_bytes() == before, "another evaluation has replaced the first")
        differing = [tmd("eval", "--compare", first, path) for path in (run / "eval").glob("*options*")]
        check(any(re.search("left out: .*teacher_distance, since", text) and "\nsampled differently" in text for text in differing), f"{differing}")
        # one rank or two: the same samples to rounding
        for row, other in zip(stored["rows"], json.loads(again.read_text())["rows"], strict=True):
            for key in ("sliced_w1", "frechet", "saturation_ratio"):
                a, b = row["metrics"][key], other["metrics"][key]
                check(abs(a / b - 1) < 1e-3, f"{row['name']} {key}: {a} on two ranks, {b} on one")
        output = tmd("eval", "--compare", first, own)
        for word in ("A = ", "averaged weights", "teacher-4", "student-2", "prompt_diversity_ratio", "no difference", "95 % interval"):
            check(word in output, f"'{word}' is not in the output:\n{output[-2000:]}")
        check("seeds, 1 and 2" in tmd("eval", "--compare", first, seed, expect=65), "the seeds are not named")
        tmd("eval", "--compare", first, place.path / "none.json", expect=65)
        tmd("eval", "--compare", first, expect=64)
        tmd("eval", "--compare", first, own, "--samples", 34, expect=64)
        check("needs 33" in tmd("eval", "--run", run, "--samples", 32, ranks=2, expect=64), "the number needed is not named")
        tmd("eval", "--run", run, "--samples", 100000, ranks=2, expect=65)


def evaluate_with_kept_samples():
    """The teacher's samples in a file: the same numbers without sampling it, and a file of anything else is refused."""
    with Workplace() as place:
        run = trained(place)
        kept, made, read, none = (place.path / name for name in ("teacher.safetensors", "made.json", "read.json", "none.json"))
        tmd("eval", "--run", run, "--samples", 34, "--teacher", kept, "--json", made, ranks=2)
        bytes_made = kept.read_bytes()
        tmd("eval", "--run", run, "--samples", 34, "--teacher", kept, "--json", read, ranks=2)
        a, b = (json.loads(path.read_text()) for path in (made, read))
        for row, other in zip(a["rows"], b["rows"], strict=True):
            check(row["metrics"] == other["metrics"] and row["values"] == other["values"], f"{row['name']} differs with kept samples")
        check(a["rows"][0]["seconds_per_sample"] == b["rows"][0]["seconds_per_sample"], "the teacher was sampled again")
        tmd("eval", "--run", run, "--samples", 34, "--teacher", kept, "--json", read)
        alone = json.loads(read.read_text())["rows"]
        check(alone[0]["seconds_per_sample"] is None and alone[1]["seconds_per_sample"] > 0, "one rank has the speed of two")
        for words, what in (("--seed", "2"), "seed"), (("--sampler.cfg=2",), "method"), (("--run", trained(place, "other", "--run.seed=2")), "weights"):
            words = words if "--run" in words else ("--run", run, *words)
            said = tmd("eval", *words, "--samples", 34, "--teacher", kept, "--json", none, expect=65)
            check("keeps samples of something else" in said and what in said, f"{what} is not named:\n{said[-600:]}")
        check(kept.read_bytes() == bytes_made, "a refused file was written to")
        said = tmd("eval", "--run", run, "--samples", 34, "--teacher", place.path / "no/folder.safetensors", expect=74)
        check("there is no folder" in said, said[-600:])


def data():
    with Workplace() as place:
        copy = place.path / "copy.h5"
        copy.write_bytes(CLIPS.read_bytes())
        before = data_hash(copy)
        tmd("data", "seal", copy)
        check(data_hash(copy) == before, "sealing changed the content's hash")
        content = bytearray(copy.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)
        check("checksum" in tmd("data", "check", copy, expect=65), "the damaged sample is not named")
        for toy in ("shapes", "mixture"):
            file = place.path / f"{toy}.h5"
            tmd("data", "toy", toy, file, "--count", 12)
            tmd("data", "check", file)
        tmd("data", "check", place.path / "none.h5", expect=65)


def inspect():
    with Workplace() as place:
        run = trained(place)
        checkpoint = sorted((run / "checkpoints").iterdir())[-1]
        part = sorted(checkpoint.glob("*.student.safetensors"))[0]
        output = tmd("inspect", run, checkpoint, part, CLIPS)
        for word in ("run", "checkpoint of step 9", "student", "dct-4x8x8"):
            check(word in output, f"'{word}' is not in the output:\n{output[-2000:]}")
        check("--stage2.gan_weight" in tmd("inspect", "options"), "the options are not listed")
        check("MPI_ABORT" not in tmd("inspect", place.path / "nothing", expect=65), "a lone process prints an abort")


def bench():
    with Workplace() as place:
        file = place.path / "deep" / "rates.json"
        output = tmd("bench", "comm", "--largest", 4096, "--repeats", 2, "--json", file, ranks=3)
        stored = json.loads(file.read_text())
        check(stored["ranks"] == 3 and stored["memcpy_gb_per_s"]["all"] > 0, f"{stored}")
        found = {(row["operation"], row["algorithm"], row["bytes"]) for row in stored["rows"]}
        # 64 bytes to 4096 in steps of 4, rounded down to whole floats of three ranks.
        sizes = [size // 12 * 12 for size in (64, 256, 1024, 4096)]
        expected = {(operation, algorithm, size) for size in sizes for algorithm in ("messages", "window", "library")
                    for operation in ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "broadcast")}
        check(found == expected | {("send_recv", "messages", size) for size in sizes}, f"other rows: {found ^ expected}")
        for row in stored["rows"]:
            check(0 < row["min_s"] <= row["median_s"] and row["gb_per_s"] > 0, f"{row}")
            check(re.search(rf"{row['operation']} +{row['bytes']} +{row['algorithm']} ", output), f"not in the table: {row}")
        output = tmd("bench", "comm", "all_reduce", "--largest", 64, "--repeats", 1, ranks=2)
        check("all_reduce" in output and "all_gather " not in output, f"other operations were measured:\n{output}")
        check("memcpy" in tmd("bench", "comm", "--repeats", 1), "one rank measures nothing")
        for words in ([], ["disk"], ["comm", "all_gater"], ["comm", "--largest", 63], ["comm", "--repeats", 0], ["comm", "--size", 1]):
            tmd("bench", *words, expect=64)
        check("all_gather" in tmd("bench", "comm", "all_gater", expect=64), "the nearest operation is not named")
        (place.path / "file").write_text("in the way")
        tmd("bench", "comm", "--largest", 64, "--repeats", 1, "--json", place.path / "file" / "rates.json", ranks=2, expect=74)


def bench_step():
    with Workplace() as place:
        file = place.path / "step.json"

        def steps(*words, ranks=None):
            more = {} if ranks is None else {"ranks": ranks}
            tmd("bench", "step", "--preset", "tiny", "--iterations", 2, "--json", file, *words, **more)
            return json.loads(file.read_text())

        plain, bare = steps("--mode", "plain", "--keep_blocks", 1000), steps("--mode", "bare")
        for a, b in zip(plain["losses"], bare["losses"], strict=True):
            check(abs(a["plain"] / b["bare"] - 1) < 1e-6, f"{a} with the engine, {b} without")
        check(len({loss["plain"] for loss in plain["losses"]}) == 3, f"the steps are alike: {plain['losses']}")
        check(plain["step_s"]["passes"]["min"] < plain["step_s"]["plain"]["min"], f"{plain['step_s']}")
        whole = steps(ranks=2)
        two_levels = steps("--mesh.replicate", 2, "--mesh.two_level", ranks=2)
        for a, b in zip(whole["losses"], two_levels["losses"], strict=True):
            check(all(abs(a[step] / b[step] - 1) < 1e-5 for step in a), f"{a} and, on two levels, {b}")
        one, one_sequence = steps(), steps("--mesh.sequence", 2, ranks=2)
        for a, b in zip(one["losses"], one_sequence["losses"], strict=True):
            check(all(abs(a[step] / b[step] - 1) < 1e-5 for step in a), f"{a} and, with a cut sequence, {b}")
        muted = steps("--mute", ranks=2)
        check(muted["muted"] and muted["losses"][0] == whole["losses"][0], "the warm-up is not the usual one")
        for words, code in ((["--mute", "--warmup", 0], 64), (["--preset", "huge"], 64), (["--mode", "both", "more"], 64)):
            tmd("bench", "step", *words, expect=code)
        tmd("bench", "step", "--preset", "tiny", "--mode", "bare", ranks=2, expect=78)


def bench_checkpoint():
    with Workplace() as place:
        file, folder = place.path / "checkpoint.json", place.path / "scratch"
        for words, ranks in (([], 1), (["--mesh.replicate", 2, "--mesh.two_level"], 2)):
            tmd("bench", "checkpoint", "--preset", "tiny", "--folder", folder, "--repeats", 1, "--json", file, *words, ranks=ranks)
            result = json.loads(file.read_text())
            # three networks of 4 bytes a parameter, two of them with moments
            check(7 * 4 * 1.2e6 < result["bytes"] < 7 * 4 * 1.4e6, f"{result['bytes']} bytes in a checkpoint")
            check(0 < result["held_s"]["min"] <= result["save_s"]["min"] and result["load_warm_s"]["min"] > 0, f"{result}")
            check(not folder.exists(), "the folder is left behind")
        tmd("bench", "checkpoint", "--preset", "tiny", expect=64)
        tmd("bench", "checkpoint", "--preset", "tiny", "--folder", place.path, expect=64)


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (sample, evaluate, evaluate_with_kept_samples, data, inspect, bench, bench_step, bench_checkpoint)}, sample=5))
