#!/usr/bin/env python3
"""`tmd doctor`: what it reports on a healthy machine, and what it says when something is wrong."""
import json
import signal
import subprocess
import sys
import time

from jobs import CLIPS, MPI_ENV, TMD, Workplace, check, main, os

HEADINGS = ["versions", "launch", "hosts", "program", "clocks", "cores", "memory", "limits", "devices", "storage",
            "communication", "speed"]
FAST = ["--seconds", 0.2]


def doctor(place, ranks, *words, expect=0, **options):
    """Findings by (heading, name), and the whole report."""
    file = place.path / "doctor.json"
    file.unlink(missing_ok=True)
    output = place.run(ranks, place.path, "--json", file, *words, verb="doctor", expect=expect, **options)
    report = json.loads(file.read_text())
    check(report["exit_code"] == expect, f"the report says {report['exit_code']}, the process ended with {expect}")
    for finding in report["findings"]:
        check(finding["text"], f"an empty text: {finding}")
        check((finding["severity"] == "ok") == (finding["hint"] == ""), f"a hint where there should be none, or none: {finding}")
        check(finding["name"] in output, f"{finding['name']} is not in the table:\n{output}")
    return {(f["heading"], f["name"]): f for f in report["findings"]}, report


def shell(script, *words, env=None):
    """`script` with "$@" for the words; returns exit code and output."""
    result = subprocess.run(["bash", "-c", script, "shell", *map(str, words)], env={**os.environ, **MPI_ENV, **(env or {})},
                            capture_output=True, text=True, timeout=120)
    return result.returncode, result.stdout + result.stderr


def alone():
    with Workplace() as place:
        findings, report = doctor(place, 0, "--run", place.path / "runs/new", *FAST)
        check(list(dict.fromkeys(f["heading"] for f in report["findings"])) == HEADINGS, f"other headings: {list(findings)}")
        check("alone" in findings["launch", "launcher"]["text"], f"{findings['launch', 'launcher']}")
        check(str(place.path) in findings["storage", "write test"]["text"], f"{findings['storage', 'write test']}")
        check(sorted(p.name for p in place.path.iterdir()) == ["doctor.json", "tiny.ini"], "something was left behind")
        check(len(report["ranks"]) == 1 and report["errors"] == 0, f"{report['ranks']}")
        findings, report = doctor(place, 0, "--seconds", 0)
        check(not any(heading == "speed" for heading, _ in findings), "--seconds 0 measures")


def three_ranks():
    with Workplace() as place:
        findings, report = doctor(place, 3, "--config", place.config, f"--data.files={CLIPS}", "--mesh.data_workers=1",
                                  "--run", place.path, *FAST)
        check(list(dict.fromkeys(f["heading"] for f in report["findings"])) == HEADINGS, f"other headings: {list(findings)}")
        for key, part in {("launch", "launcher"): "mpirun", ("launch", "world size"): "3 ranks", ("program", "data"): "every rank",
                          ("program", "mesh"): "2 trainers, 1 data worker,", ("program", "binary"): "3 rank",
                          ("storage", "free space"): "a checkpoint takes", ("communication", "messages"): "right bits",
                          ("communication", "window"): "right bits", ("speed", "all_reduce"): "GB/s"}.items():
            check(part in findings[key]["text"], f"'{part}' is not in {findings[key]}")
        host = report["ranks"][0]["host"]
        check(findings["hosts", host]["text"].startswith("ranks 0-2 on"), f"{findings['hosts', host]}")
        for rank in report["ranks"]:
            check(rank["product_gflop_per_s"] > 0 and rank["copy_gb_per_s"] > 0 and rank["memory_total_bytes"] > 0, f"{rank}")
            check(rank["file_bytes_limit"] is None, f"a limit that is not set: {rank['file_bytes_limit']}")
            check(rank["environment"]["OMPI_COMM_WORLD_SIZE"] == "3" and rank["cores"], f"{rank}")
        check(sorted(p.name for p in place.path.iterdir()) == ["doctor.json", "tiny.ini"], "something was left behind")
        run = place.path / "run"
        run.mkdir()
        doctor(place, 2, "--config", place.config, f"--data.files={CLIPS}", "--run", run, *FAST)
        place.run(2, run, "--run.stages=teacher", "--teacher.iterations=1")  # train takes the folder afterwards


def folders():
    with Workplace() as place:
        (place.path / "file").write_text("in the way")
        for run in (place.path / "file", place.path / "file/run", "/proc/none"):
            findings, _ = doctor(place, 3, "--run", run, *FAST, expect=74)
            finding = findings["storage", "write test"]
            check("rank 0 on " in finding["text"] and "share" in finding["hint"], f"{finding}")
            check(("speed", "all_reduce") in findings, "the report ends at the first error")
        run = place.path / "small"
        run.mkdir()
        config = ["--config", place.config, f"--data.files={CLIPS}"]
        words = ["--json", place.path / "doctor.json", *config, "--run", run, *FAST]
        output = place.run(2, run, *words, verb="doctor", free_bytes=500_000, expect=74)
        check("a checkpoint takes" in output and "1 error" in output, f"the small disk is not reported:\n{output}")
        # Rank 1 has a folder of its own under the same name.
        doctor_words = f"{TMD} doctor --seconds 0 --run {run}"
        own = f'unshare --map-root-user --mount sh -c "mount -t tmpfs tmpfs {run} && exec {doctor_words}"'
        code, output = shell(f"mpirun --oversubscribe --bind-to none -n 1 {doctor_words} : -n 1 {own}",
                             env={"OMPI_MCA_btl_vader_single_copy_mechanism": "none"})
        check(code == 74 and "rank 1 on" in output and "all hosts share" in output, f"exit code {code}:\n{output}")
        check(not any(run.iterdir()), f"left behind: {list(run.iterdir())}")
        output = place.run(0, place.path, "--json", place.path / "file/doctor.json", verb="doctor", expect=74)
        check("versions" not in output, "a report that cannot be stored is found out at the end")


def words():
    with Workplace() as place:
        for wrong in (["--wrong"], ["--seconds", "-1"], ["--seconds", "soon"], ["--seconds", "1e9"], ["--run"], ["--deadline", "x"], ["word"]):
            output = place.run(2, place.path, *wrong, verb="doctor", expect=64)
            check("tmd doctor" in output, f"the verb is not named:\n{output}")
        for wrong in (["--train.batch=3"], ["--config", place.path / "none.ini"], ["--train.global_batch=5"]):
            findings, _ = doctor(place, 2, *wrong, *FAST, expect=78)
            bad = [f for (heading, _), f in findings.items() if heading == "program" and f["severity"] == "error"]
            check(len(bad) == 1, f"{wrong}: {bad}")
        findings, _ = doctor(place, 2, f"--data.files={place.path / 'none.h5'}", *FAST, expect=65)
        check("none.h5" in findings["program", "data"]["text"], f"{findings['program', 'data']}")
        one, two = (f'-n 1 "$0" doctor --seconds 0 --run.seed={seed}' for seed in (1, 2))
        code, output = shell(f"mpirun --oversubscribe --bind-to none {one} : {two}".replace("$0", str(TMD)))
        check(code == 78 and "rank 1 disagrees" in output, f"ranks with other settings, exit code {code}:\n{output}")


def hanging_rank():
    """A rank stops in the speed check: the other one waits for it in a collective, and its deadline speaks."""
    with Workplace() as place:
        file = place.path / "doctor.json"
        process = place.start(2, place.path, "--run", place.path, "--seconds", 4, "--deadline", 8, "--json", file, verb="doctor")
        time.sleep(3)
        ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(ranks[1]), signal.SIGSTOP)
        output, _ = process.communicate(timeout=60)
        check(process.returncode == 69 and "no end after" in output and "versions" in output,
              f"exit code {process.returncode}:\n{output}")
        report = json.loads(file.read_text())
        check(report["findings"][-1]["heading"] == "deadline" and report["exit_code"] == 69, f"{report['findings'][-1]}")


def limits():
    with Workplace() as place:
        json_file = place.path / "doctor.json"
        words = [TMD, "doctor", "--run", place.path, "--json", json_file, *FAST]
        code, output = shell('ulimit -n 200 && "$@"', *words)
        check(code == 0 and "200 a process" in output and "ulimit -n 4096" in output, f"exit code {code}:\n{output}")
        code, output = shell('ulimit -f 128 && "$@"', *words)
        check(code == 0 and "files may have at most 128.0 KiB" in output, f"exit code {code}:\n{output}")
        code, output = shell('ulimit -f 128 && "$@"', *words, "--config", place.config, f"--data.files={CLIPS}")
        check(code == 74 and "a checkpoint has larger ones" in output, f"exit code {code}:\n{output}")
        launched = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", 2, *words]
        code, output = shell('ulimit -n 200 && "$@"', *launched)
        check(code == 0 and "200 a process" in output, f"exit code {code}:\n{output}")


def launchers():
    with Workplace() as place:
        words = [TMD, "doctor", "--run", place.path, *FAST]
        code, output = shell('"$@"', *words, env={"SLURM_NTASKS": "3"})
        check(code == 69 and "--mpi=pmix" in output, f"many worlds of one rank, exit code {code}:\n{output}")
        code, output = shell('SLURM_NTASKS=7 mpirun --oversubscribe --bind-to none -n 2 "$@"', *words)
        check(code == 0 and "allocation for 7 tasks" in output, f"exit code {code}:\n{output}")
        ranks = len(os.sched_getaffinity(0)) + 1
        code, output = shell(f'mpirun --oversubscribe --bind-to none -n {ranks} "$@"', *words, env={"OMPI_MCA_mpi_yield_when_idle": "0"})
        check(code == 0 and "OMPI_MCA_mpi_yield_when_idle=1" in output, f"ranks that do not yield, exit code {code}:\n{output}")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (alone, three_ranks, folders, words, hanging_rank, limits, launchers)}, sample=4))
