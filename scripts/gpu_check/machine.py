"""What machine this is, asked without anything that has to be built."""
import ctypes
import os
import pathlib
import platform
import re
import shutil
import subprocess

CUDA_CORE_NAMES = {0: "no error", 3: "CUDA_ERROR_NOT_INITIALIZED", 34: "CUDA_ERROR_STUB_LIBRARY", 100: "CUDA_ERROR_NO_DEVICE",
                   101: "CUDA_ERROR_INVALID_DEVICE", 803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", 999: "CUDA_ERROR_UNKNOWN"}
COMPUTE_MAJOR, COMPUTE_MINOR, PROCESSORS = 75, 76, 16  # CUdevice_attribute


class Device:
    def __init__(self, name, memory_bytes, compute, multiprocessors):
        self.name, self.memory_bytes, self.compute, self.multiprocessors = name, memory_bytes, compute, multiprocessors


def find_devices():
    """The devices that this process can see, and why there is none. Makes no context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return [], f"no NVIDIA driver: {error}"
    code = driver.cuInit(0)
    if code:
        return [], f"cuInit: {CUDA_CORE_NAMES.get(code, code)}"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    found = []
    for index in range(count.value):
        device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(name, 256, device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

        def attribute(which):
            value = ctypes.c_int()
            driver.cuDeviceGetAttribute(ctypes.byref(value), which, device)
            return value.value

        found.append(Device(name.value.decode(errors="replace"), memory.value,
                            (attribute(COMPUTE_MAJOR), attribute(COMPUTE_MINOR)), attribute(PROCESSORS)))
    return found, "" if found else "the driver shows none to this process (CUDA_VISIBLE_DEVICES?)"


def devices_text(devices):
    """"4 x NVIDIA H100 80GB HBM3", "NVIDIA A, NVIDIA B"."""
    counts = {}
    for device in devices:
        counts[device.name] = counts.get(device.name, 0) + 1
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


# Products in bfloat16 without sparsity, TFLOP/s, as NVIDIA's data sheets state them for the SXM boards.
BF16_TFLOPS = [("H100", 989), ("H200", 989), ("H800", 989), ("GH200", 989), ("A100", 312), ("A800", 312), ("B200", 2250)]


def bf16_rate(name):
    """TFLOP/s against which utilisation is counted, and where it is from."""
    for part, rate in BF16_TFLOPS:
        if part in name and "PCIe" not in name:
            return rate, f"{rate} TFLOP/s, the data sheet's dense bfloat16 of {part} SXM"
    return 989, f"989 TFLOP/s of an H100 SXM: {name} is not in the table of scripts/gpu_check/machine.py"


def first_line(words):
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip().split("\n")[0] if result.returncode == 0 else ""


def nccl_version(program, env):
    """Of the library that `program` loads, as NCCL codes it (22809); 0 when that cannot be found out."""
    try:
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, env=env, timeout=60).stdout
        path = re.search(r"libnccl\.so\S* => (\S+)", listed)[1]
        version = ctypes.c_int()
        ctypes.CDLL(path).ncclGetVersion(ctypes.byref(version))
        return version.value
    except (OSError, TypeError, subprocess.TimeoutExpired):
        return 0


def nccl_text(version):
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}" if version else "not known"


def torch_version(folder):
    """Of the torch in `folder`/torch; empty when there is none."""
    try:
        text = (pathlib.Path(folder) / "torch/version.py").read_text()
        return re.search(r"__version__ = '([^']+)'", text)[1]
    except (OSError, TypeError):
        return ""


def cpu_name():
    try:
        return re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor()


def commit(root):
    """Short, with a plus when the tree has changes; "not known" outside of a repository."""
    if not shutil.which("git"):
        return "not known"
    name = first_line(["git", "-C", str(root), "rev-parse", "--short", "HEAD"])
    changed = first_line(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return name + "+" * bool(name and changed) or "not known"


def facts(root, devices, torch_folder, program, env):
    """What stands on top of a report; NCCL is that of `program`, once it is built."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "GPUs": devices_text(devices) or "none",
        "memory of each": ", ".join(sorted({f"{d.memory_bytes / 1e9:.1f} GB" for d in devices})) or "–",
        "driver": first_line(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]) or "not known",
        "CUDA toolkit": nvcc_version(env),
        "NCCL": nccl_text(nccl_version(program, env)),
        "torch": torch_version(torch_folder) if torch_folder else "not known",
        "processors": f"{len(os.sched_getaffinity(0))} cores of {cpu_name()}",
        "host memory": f"{memory / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, glibc {platform.libc_ver()[1]}",
        "commit": commit(root),
    }


def nvcc_version(env):
    """"13.0", or "not found"."""
    found = re.search(r"release (\S+),", "\n".join(lines_of(["nvcc", "--version"], env)))
    return found[1] if found else "not found"


def lines_of(words, env):
    try:
        return subprocess.run(words, capture_output=True, text=True, env=env, timeout=60).stdout.split("\n")
    except (OSError, subprocess.TimeoutExpired):
        return []
