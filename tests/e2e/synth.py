#!/usr/bin/env python3
"""tmd data synth: a teacher's samples as data files, the noise that they started from, and starts that go on."""
import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from jobs import CLIPS, MPI_ENV, TMD, Workplace, check, main
from resume import ranks_of
from verbs import data_hash, tmd

LATENTS = TMD.parent / "tests/e2e_latents_program"


@functools.cache
def work():
    """One folder for all cases, with a run of a teacher and a student and with three prompts."""
    place = Workplace()
    atexit.register(place.__exit__)
    place.run(2, place.path / "run", "--run.stages=teacher,stage2", "--method.name=dmd2v", "--teacher.iterations=4",
              "--teacher.lr=1e-2", "--stage2.iterations=5", "--stage2.ema=0.5")
    tmd("sample", "--weights", place.path / "run", "--teacher", "--prompts", CLIPS, "--count", 3, "--sampler.steps=1",
        "--output", place.path / "three")
    return place


def words_for(output, *more):
    place = work()
    return ["data", "synth", "--weights", place.path / "run", "--prompts", place.path / "three/samples.h5", "--count", 10,
            "--part", 4, "--seed", 5, "--output", place.path / output, *more]


def parts(output):
    return sorted((work().path / output).glob("synth_*.h5"))


def synth(output, *more, **options):
    """Files that it has made, or, where it is expected to fail, what it prints."""
    printed = tmd(*words_for(output, *more), **options)
    return printed if options.get("expect") else parts(output)


def compare(first, second):
    words = [str(LATENTS), *map(str, first), "--", *map(str, second)]
    result = subprocess.run(words, env={**os.environ, **MPI_ENV}, capture_output=True, text=True, timeout=60)
    check(result.returncode == 0, f"{words}: {result.stderr}")
    found = json.loads(result.stdout)
    return {**found, "close": found["difference"] <= 1e-5 * found["size"]}


def any_ranks():
    place = work()
    # on three ranks also as one part
    files = {ranks: synth(f"of-{ranks}", "--part", part, ranks=ranks) for ranks, part in ((1, 4), (2, 4), (3, 10))}
    check([file.name for file in files[1]] == [f"synth_0000{i}.h5" for i in range(3)], f"{files[1]}")
    for ranks in (2, 3):
        found = compare(files[1], files[ranks])
        check(found["samples"] == [10, 10] and found["same_text"] and found["close"], f"{ranks} ranks: {found}")
    check(found["noise"] == [[5, number] for number in range(10)], f"other noise: {found['noise']}")
    check("10 samples in 3 files, 3 of them sealed" in tmd("data", "check", *files[2]), "data check is not content")
    # A teacher that has hardly learned leaves much of its noise: that of pairs, not that of `tmd sample`.
    check(found["like_pair_noise"] > 0.5 and abs(found["like_sample_noise"]) < 0.1, f"not the noise that it says: {found}")
    # The same (seed, number) and prompt give the same latents again; another seed does not, and an evaluation of the seed
    # does not meet its training pairs.
    found = compare(files[1], synth("again", "--prompts", files[3][0]))
    check(found["samples"] == [10, 10] and found["same_text"] and found["close"], f"not made again: {found}")
    out = place.path / "sampled"
    tmd("sample", "--weights", place.path / "run", "--teacher", "--prompts", files[3][0], "--count", 10, "--seed", 5,
        "--output", out, ranks=2)
    for name, others in (("another seed", synth("sixth", "--seed", 6)), ("tmd sample", [out / "samples.h5"])):
        found = compare(files[1], others)
        check(found["samples"] == [10, 10] and found["same_text"] and found["difference"] > 0.1 * found["size"],
              f"{name} makes the same: {found}")
    # Training takes them.
    place.run(2, place.path / "next", "--run.stages=teacher", "--teacher.iterations=1", "--train.global_batch=4",
              data=str(place.path / "of-2" / "synth_*.h5"))


def goes_on():
    place = work()
    whole = synth("whole", ranks=2)
    hashes, written = [data_hash(file) for file in whole], whole[0].stat().st_mtime_ns
    whole[1].unlink()
    (place.path / "whole/synth_00001.h5.tmp-1").write_text("of a start that was killed")
    (place.path / "whole/notes.txt").write_text("the user's")
    printed = tmd(*words_for("whole"), ranks=2)
    check("2 of 3 parts are there" in printed and "synth_00001.h5: 10 of 10 samples" in printed, printed[-2000:])
    check([data_hash(file) for file in parts("whole")] == hashes, "the part that was made again is another")
    check(whole[0].stat().st_mtime_ns == written, "an intact part was written again")
    names = {path.name for path in (place.path / "whole").iterdir()}
    check(names == {*(file.name for file in whole), "notes.txt", "in_use"}, f"{names}")
    # The same weights from another place are the same.
    tmd("export", place.path / "run", "--teacher", "--for", "wan", "--dtype", "f32", "--output", place.path / "teacher")
    printed = tmd(*words_for("whole", "--weights", place.path / "teacher"))
    check("3 of 3 parts are there" in printed, printed[-2000:])


def other_settings():
    place = work()
    synth("other")
    for differs, words in (("seed: 5 there, 6 here", ["--seed", 6, "--sampler.steps=3"]), ("prompts: ", ["--prompts", CLIPS]),
                           ("sampler.skip_block: -1 there, 1 here", ["--sampler.skip_block=1"]), ("--count", ["--count", 9])):
        printed = synth("other", *words, expect=78)
        check("synth_0000" in printed and differs in printed, f"{differs} is not named:\n{printed[-2000:]}")
    # One prompt in the middle: the data hash, which `prompts` holds, does not see it.
    changed = place.path / "changed.h5"
    content = bytearray(CLIPS.read_bytes())
    content[len(content) // 3] ^= 1
    changed.write_bytes(content)
    check(data_hash(changed) == data_hash(CLIPS), "the changed row is the first or the last")
    synth("clips", "--prompts", CLIPS, "--count", 1)
    printed = synth("clips", "--prompts", changed, "--count", 1, expect=78)
    check("prompt_rows: " in printed, f"other prompts are not refused as such:\n{printed[-2000:]}")
    place.run(2, place.path / "younger", "--run.stages=teacher", "--teacher.iterations=1")
    printed = synth("other", "--weights", place.path / "younger", ranks=2, expect=78)
    check("weights: " in printed, f"other weights are not refused as such:\n{printed[-2000:]}")
    last = parts("other")[2]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    check("synth_00002.h5 is broken" in synth("other", ranks=2, expect=65), "the broken part is not named")
    check(len(parts("other")) == 3, "a refused start has removed parts")


def ended_early():
    slow = ["--part", 1, "--sampler.steps=10", "--sampler.skip_block=2"]
    for sent, code in ((signal.SIGTERM, 75), (signal.SIGKILL, 137)):
        # So many that no machine makes them before the signal.
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", str(TMD),
                   *map(str, words_for("ended", *slow, "--count", 100000))]
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, env={**os.environ, **MPI_ENV}, stdout=log, stderr=subprocess.STDOUT)
            try:
                before, deadline = len(parts("ended")), time.time() + 60
                while len(parts("ended")) == before and time.time() < deadline and process.poll() is None:
                    time.sleep(0.01)
                ranks = ranks_of(process)
                if len(ranks) == 2:
                    os.kill(ranks[1], sent)
                    process.wait(timeout=60)
            finally:
                if process.poll() is None:
                    process.terminate()  # mpirun ends its ranks
                    process.wait(timeout=60)
            log.seek(0)
            check(process.returncode == code, f"{sent.name} ends with {process.returncode}:\n{log.read()[-2000:]}")
            check(len(parts("ended")) > before, f"{sent.name} has made nothing")
    slow += ["--count", len(parts("ended")) + 1]
    files, expected = synth("ended", *slow, ranks=2), synth("expected", *slow, ranks=2)
    check([data_hash(file) for file in files] == [data_hash(file) for file in expected], "an interrupted set is another")
    plain = synth("plain", *slow, "--sampler.skip_block=-1", "--count", 1, ranks=2)
    found = compare(plain, files[:1])
    check(found["difference"] > 1e-3 * found["size"], f"the block that is left out changes nothing: {found}")


def refusals():
    for words in (["--count", 0], ["--part", 0], ["--frames", 17], ["more"]):
        synth("none", *words, expect=64)
    synth("none", "--prompts", work().path / "nothing.h5", expect=65)
    check("a network with 4 blocks" in synth("none", "--sampler.skip_block=4", expect=78), "block 4 of 4 is taken")
    check("is a student" in synth("none", "--average", expect=64), "a student is taken")
    check(not (work().path / "none").exists(), "a refused start leaves a folder")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (any_ranks, goes_on, other_settings, ended_early, refusals)}, sample=3))
