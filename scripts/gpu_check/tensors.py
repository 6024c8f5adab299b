"""Safetensors files without a library, for tensors of a few thousand numbers."""
import array
import json
import math
import struct
import sys


def values_of(dtype, data):
    if dtype in ("F32", "F64"):
        values = array.array("f" if dtype == "F32" else "d", data)
        if sys.byteorder == "big":
            values.byteswap()
        return values
    if dtype == "BF16":  # the upper half of a float32
        words = struct.unpack(f"<{len(data) // 2}H", data)
        return array.array("f", struct.pack(f"<{len(words)}I", *(word << 16 for word in words)))
    raise ValueError(f"no numbers are read of type {dtype}")


def read(path):
    """{name: numbers} of the floating-point tensors in a file."""
    content = path.read_bytes()
    size, = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + size])
    header.pop("__metadata__", None)
    return {name: values_of(entry["dtype"], content[8 + size:][slice(*entry["data_offsets"])])
            for name, entry in header.items() if entry["dtype"] in ("F32", "F64", "BF16")}


def norm(values):
    return math.sqrt(math.fsum(v * v for v in values))


def relative(actual, expected):
    """Of the difference to the expected, in the 2-norm; infinite for other sizes and what is not finite."""
    if len(actual) != len(expected) or not all(map(math.isfinite, actual)):
        return math.inf
    return norm([a - b for a, b in zip(actual, expected)]) / norm(expected)


def largest(actual, expected):
    return max(abs(a - b) for a, b in zip(actual, expected))


def cosine(a, b):
    return math.fsum(x * y for x, y in zip(a, b)) / (norm(a) * norm(b))
