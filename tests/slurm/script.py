#!/usr/bin/env python3
"""`tmd slurm` without a cluster: what the script asks for, and what is refused. launch.py submits one."""
import os
import re
import subprocess
import sys

import lab  # noqa: F401  it knows where jobs is
from jobs import CLIPS, MPI_ENV, ROOT, TMD, Workplace, check, main

DATA = f"--data.files={CLIPS}"


def slurm(*words, expect=0):
    result = subprocess.run([str(TMD), "slurm", *map(str, words)], env={**os.environ, **MPI_ENV}, cwd=ROOT, text=True,
                            capture_output=True, timeout=120)
    check(result.returncode == expect,
          f"exit code {result.returncode}, expected {expect}: {words}\n{(result.stdout + result.stderr)[-3000:]}")
    return result.stdout if expect == 0 else result.stderr


def options(script):
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE))


def layouts():
    """Ranks of the words, of a fixed mesh, and one trainer a node."""
    with Workplace() as place:
        for words, ranks, per_node in ((["--nodes", 2, "--ranks-per-node", 3, "--mesh.data_workers=2"], "6", "3"),
                                       (["--nodes", 2, "--mesh.data_workers", 1], "4", "2"),
                                       (["--nodes", 2, "--mesh.shard=2", "--mesh.replicate=2"], "4", "2"),
                                       (["--nodes", 3, "--mesh.sequence=2"], "6", "2")):
            found = options(slurm("--config", place.config, DATA, *words))
            check((found["ntasks"], found["ntasks-per-node"]) == (ranks, per_node), f"{words}: {found}")
        found = options(slurm("--config", place.config, "--nodes=1", DATA, "--cores-per-rank", 2, "--time", "02:00:00",
                              "--partition", "p", "--account", "a"))
        check((found["cpus-per-task"], found["time"], found["partition"], found["account"], found["signal"]) ==
              ("2", "02:00:00", "p", "a", "USR1@180"), f"{found}")


def words_are_those_of_train():
    with Workplace() as place:
        output = slurm("--config", place.config, place.config, "--nodes", 1, "--stage2.iterations", 5, DATA, "--allow-change",
                       "stage2.iterations", "stage1.iterations")
        wanted = (f"slurm/train.sbatch --config {place.config} {place.config} --run runs/tiny --stage2.iterations 5 {DATA} "
                  "--allow-change stage2.iterations stage1.iterations\n")
        check(output.endswith(wanted), output)
        file = place.path / "job.sbatch"
        slurm("--config", place.config, DATA, "--nodes", 1, "--run", "runs/other/", "--output", file)
        check("--run runs/other/ " in file.read_text() and options(file.read_text())["job-name"] == "other", file.read_text())
        slurm("--config", place.config, DATA, "--nodes", 1, "--output", file, expect=64)


def memory_of_a_node():
    """It follows from the plan: it falls with the ranks that share the networks, and more is refused than there is."""
    with Workplace() as place:
        words = ["--config", place.config, DATA, "--ranks-per-node", 2, "--model.heads=8", "--model.head_dim=64",
                 "--model.ffn=2048", "--model.layers=12"]
        one, two = (int(options(slurm(*words, "--nodes", n))["mem"].removesuffix("M")) - 2 * 500 for n in (1, 2))
        check(300 < two < one < 2 * two, f"{one} and {two} MiB for tensors")
        output = slurm(*words, "--nodes", 2, "--node-memory", "1GB", expect=2)
        check("2 ranks on a node need" in output and "more nodes" in output, output)
        slurm(*words, "--nodes", 2, "--node-memory", "8GB")


def refusals():
    with Workplace() as place:
        config = ["--config", place.config, DATA]
        slurm("--nodes", 2, expect=64)
        slurm(*config, expect=64)
        slurm(*config, "--nodes", 0, expect=64)
        slurm(*config, "--nodes", 1, "--time", "tomorrow", expect=64)
        slurm(*config, "--nodes", 1, "--hosts", 2, expect=64)
        slurm(*config, "--nodes", 1, "--node-memory", "much", expect=64)
        for words, named in ((["--mesh.shard=3"], "do not fill the mesh"), (["--train.global_batch=6"], "global_batch")):
            output = slurm(*config, "--nodes", 2, "--ranks-per-node", 2, *words, expect=78)
            check(named in output, f"'{named}' is not said:\n{output}")
        slurm(*config, "--nodes", 1, "--ranks-per-node", 1, "--mesh.data_workers=1", expect=78)
        check("4 nodes" in slurm(*config, "--nodes", 4, "--mesh.shard=2", expect=78), "the nodes are not named")
        slurm(*config, "--nodes", 2, "--mesh.sequence=4", "--mesh.shard=1", expect=78)
        slurm(*config, "--nodes", 1, "--train.micro_match=1", expect=78)
        slurm("--config", place.config, "--nodes", 1, "--data.files=missing.h5", expect=65)
        check("data.files is empty" in slurm("--config", place.config, "--nodes", 1, "--latent", "4,2,2,2", expect=78), "no word about data")


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (layouts, words_are_those_of_train, memory_of_a_node, refusals)}))
