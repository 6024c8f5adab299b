#!/usr/bin/env python3
"""Holds every #include of the project against the layer table: a folder includes itself and what its row names.

Also: a C library's header is included by one file (and its twin) only, <torch/torch.h> by none, and sizes stay within the
budget (file <= 600 lines).
"""
import pathlib
import re
import sys

LAYERS = {
    "base": [],
    "comm": ["base"],
    "sharding": ["comm", "base"],
    "model": ["sharding", "base"],
    "method": ["base"],
    "data": ["base"],
    "evaluation": ["data", "base"],
    "workers": ["data", "method", "model", "sharding", "comm", "base"],
    "checkpoint": ["sharding", "comm", "base"],
    "configs": ["workers", "method", "model", "sharding", "base"],
    "orchestrator": ["configs", "workers", "checkpoint", "evaluation", "data", "method", "model", "sharding", "comm", "base"],
}
WRAPPED = {"mpi.h": "comm/mpi_library", "nccl.h": "comm/nccl_library", "cuda_runtime_api.h": "base/cuda_runtime", "hdf5.h": "base/hdf5", "xxhash.h": "base/hash", "png.h": "orchestrator/png_file",
           "webp/encode.h": "orchestrator/webp_file", "webp/mux.h": "orchestrator/webp_file",
           "Random123/philox.h": "base/portable_numbers"}
MAX_LINES = 600


def problems(root):
    for folder, allowed in LAYERS.items():
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".cpp", ".cu", ".cuh"):
                continue
            name = path.relative_to(root).as_posix()
            lines = path.read_text().splitlines()
            if len(lines) > MAX_LINES:
                yield f"{name}: {len(lines)} lines"
            for number, line in enumerate(lines, 1):
                match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
                if not match:
                    continue
                quote, header = match.groups()
                if header == "torch/torch.h":
                    yield f"{name}:{number}: <torch/torch.h> costs half a minute a file"
                if header in WRAPPED and not name.startswith(WRAPPED[header]):
                    yield f"{name}:{number}: {header} is wrapped by {WRAPPED[header]}"
                if quote == '"':
                    layer = header.split("/")[0]
                    if layer not in LAYERS or "/" not in header:
                        yield f"{name}:{number}: include from the project root, not \"{header}\""
                    elif layer != folder and layer not in allowed:
                        yield f"{name}:{number}: {folder} may not include {layer}"


def main():
    root = pathlib.Path(sys.argv[1])
    found = list(problems(root))
    print("\n".join(found) or "every include follows the layer table")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
