"""Holds the Wan transformer of tmd against diffusers and prints a table of errors; scripts/parity starts it."""
import argparse
import gc
import platform
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import diffusers
import torch

import models
import shapes
from comparisons import compare_full_size, compare_golden, compare_shape
from exports import compare_export
from loading import measure_loading
from runs import ROOT, Tmd
from students import compare_students
from table import Table
from vae import compare_vae

QUICK = [shape.name for shape in shapes.TINY] + ["golden", "export", "students", "vae"]
FULL = QUICK + [shapes.REAL_WIDTH.name, shapes.FULL.name, "loading"]
DISK = {shapes.REAL_WIDTH.name: 2.5e9, shapes.FULL.name: 3.2e9, "loading": 3.2e9}  # of work files, one at a time


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/parity", description="Holds the Wan transformer of tmd against "
                                     "diffusers on random models and prints errors against limits (docs/parity.md). "
                                     "Exit code 1: a limit is missed.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="tiny shapes, the committed reference, exports, students and the VAE only")
    size.add_argument("--full", action="store_true", help="also real width, 1.3B and its loading (the default)")
    parser.add_argument("--only", action="append", choices=FULL, metavar="NAME",
                        help=f"one part, may be repeated: {', '.join(FULL)}")
    parser.add_argument("--tmd", default=ROOT / "build/release/tmd", metavar="FILE", help="default: build/release/tmd")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for work files (default: a folder for temporary files)")
    parser.add_argument("--keep", action="store_true", help="leave the work files there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write it here, as docs/parity.md shows it")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of one process (default: 2)")
    options = parser.parse_args(arguments)
    options.parts = options.only or (QUICK if options.quick else FULL)
    return options


def require_disk(folder, parts):
    needed, free = max(DISK.get(part, 1e8) for part in parts), shutil.disk_usage(folder).free
    if free < 1.1 * needed:
        raise SystemExit(f"parity: {folder} has {free / 1e9:.1f} GB free, work files need {needed / 1e9:.1f} GB; "
                         "take another --folder, or --quick")


def full_size_folder(folder, layout):
    """A 1.3B model in bfloat16 in one layout (2.8 GB)."""
    model = models.random_model(shapes.FULL, seed=1, dtype=torch.bfloat16)
    if layout == "original":
        models.write_original(model, shapes.FULL, folder)
    else:
        model.save_pretrained(folder, max_shard_size="100GB")
    return folder


def run_part(part, table, tmd, folder):
    if part == "export":
        compare_export(table, tmd, shapes.TINY_TP, folder)
    elif part == "students":
        compare_students(table, tmd, folder)
    elif part == "vae":
        compare_vae(table, tmd, folder)
    elif part == "golden":
        compare_golden(table, tmd)
    elif part == "loading":
        measure_loading(table, tmd, shapes.FULL,
                        full_size_folder(folder, "original") / "diffusion_pytorch_model.safetensors")
    elif part == shapes.FULL.name:
        compare_full_size(table, tmd, shapes.FULL, full_size_folder(folder, "diffusers"))
    else:
        compare_shape(table, tmd, shapes.BY_NAME[part], folder)


def main(arguments):
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    diffusers.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the work files go
    work = Path(tempfile.mkdtemp(prefix="tmd-parity-", dir=options.folder))
    try:
        require_disk(work, options.parts)
        tmd = Tmd(options.tmd, work, options.threads)
        about = {"tmd": tmd.call(["--version"]).strip(), "torch": torch.__version__, "diffusers": diffusers.__version__,
                 "machine": platform.machine(), "threads": options.threads}
        print(f"diffusers {about['diffusers']}, torch {about['torch']}, {options.threads} threads\n", flush=True)
        table = Table()
        for part in options.parts:
            run_part(part, table, tmd, work / part)
            gc.collect()
            if not options.keep:
                shutil.rmtree(work / part, ignore_errors=True)
        if options.json:
            table.write(options.json, about)
        if options.markdown:
            options.markdown.write_text(table.markdown())
        return table.finish()
    finally:
        if options.keep:
            print(f"work files are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
