"""Errors against limits, as rows that are printed when they are known; those that missed once more at the end."""
import json
import math
import sys
from dataclasses import asdict, dataclass

import torch


def relative(actual, expected):
    """Relative L2 distance in float64. Nothing is compared with zero."""
    expected = expected.double()
    norm = expected.norm()
    if not norm > 0 or not norm.isfinite():
        raise ValueError(f"the reference has norm {norm}: that would prove nothing")
    return ((actual.double() - expected).norm() / norm).item()


def largest(actual, expected):
    """Largest absolute difference."""
    relative(actual, expected)
    return (actual.double() - expected.double()).abs().max().item()


def cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return (a @ b / (a.norm() * b.norm())).item()


def differing(actual, expected):
    """Elements that are not bit-equal; tensors of another type or shape differ everywhere."""
    relative(actual, expected)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return expected.numel()
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[expected.element_size()]
    return int((actual.contiguous().view(integer) != expected.contiguous().view(integer)).sum())


def worst(errors):
    """The largest of (error, name) pairs; one that is no number is worse than any."""
    return max((error if error == error else math.inf, name) for error, name in errors)


@dataclass
class Row:
    shape: str
    layout: str
    mode: str
    what: str
    error: float
    limit: str  # a number as Python writes it, behind "> " where the value must be above it; "" is for information
    verdict: str
    detail: str = ""  # e.g. which tensor


_WIDTHS = (10, 10, 14, 56, 12, 8, 6)


def _line(cells):
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS)).rstrip()


class Table:
    def __init__(self):
        self.rows = []
        print(_line(("shape", "layout", "mode", "what", "error", "limit", "")), flush=True)

    def _add(self, row):
        self.rows.append(row)
        print(self.text(row), flush=True)

    @staticmethod
    def text(row):
        error = f"{row.error:.10g}" if row.limit.startswith("> ") else f"{row.error:.3g}"
        return _line((row.shape, row.layout, row.mode, row.what, error, row.limit, row.verdict)) + row.detail

    def below(self, shape, layout, mode, what, error, limit, detail=""):
        verdict = "ok" if error <= limit else "MISSED"
        self._add(Row(shape, layout, mode, what, error, f"{limit:g}", verdict, f"  {detail}" if detail else ""))

    def above(self, shape, layout, mode, what, value, limit):
        self._add(Row(shape, layout, mode, what, value, f"> {limit:g}", "ok" if value > limit else "MISSED"))

    def note(self, shape, layout, mode, what, value):
        self._add(Row(shape, layout, mode, what, value, "", ""))

    def missed(self):
        return [row for row in self.rows if row.verdict == "MISSED"]

    def finish(self):
        """Prints the verdict; the exit code."""
        missed = self.missed()
        print(f"\n{sum(row.verdict == 'ok' for row in self.rows)} comparisons within their limits, {len(missed)} not")
        for row in missed:
            print(self.text(row), file=sys.stderr)
        return 1 if missed else 0

    def markdown(self):
        """A line for every comparison, a column for every shape."""
        shapes = list(dict.fromkeys(row.shape for row in self.rows))
        lines = {}
        for row in self.rows:
            cells = lines.setdefault((row.layout, row.mode, row.what, row.limit), {})
            cells[row.shape] = (f"{row.error:.5g}" if row.limit.startswith(">") else f"{row.error:.2g}") + (
                " **missed**" if row.verdict == "MISSED" else "")
        head = ["layout", "mode", "what", "limit", *shapes]
        rows = [[*key, *(cells.get(shape, "") for shape in shapes)] for key, cells in lines.items()]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)) + "\n"

    def write(self, file, about):
        file.write_text(json.dumps({"about": about, "rows": [asdict(row) for row in self.rows]}, indent=1) + "\n")
