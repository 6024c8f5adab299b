"""What the build needs besides torch, the CUDA toolkit, CMake and Ninja, and a folder to take it from.

`pack` fills a folder with packages of Debian 12, `unpack` lays them out below a folder of their own, which is then searched
before the system. Nothing is installed, and no path of the machine that packed is kept."""
import glob
import hashlib
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

from commands import Unavailable

ROOTS = ("libopenmpi-dev openmpi-bin libhdf5-dev libboost-program-options-dev libspdlog-dev nlohmann-json3-dev libxxhash-dev "
         "librandom123-dev libpng-dev libwebp-dev libgtest-dev pkg-config").split()

# Not taken along: what comes with a compiler or with every system, documentation, and what is only for uses that the build does
# not make of a package (Fortran, other programs' headers, plug-ins for graphics).
LEFT_OUT = re.compile(
    r"^(lib(c6|c-bin|c-dev-bin|c-dev|c6-dev|crypt|gcc|stdc|tinfo|selinux|pam|systemd|udev|uuid)\S*|g(cc|\+\+|fortran)\S*|libgfortran\S*|"
    r"libquadmath\S*|cpp\S*|binutils\S*|openssh-client|dpkg|perl\S*|debconf|media-types|adduser|python3\S*|libjs-\S+|libhwloc-plugins|"
    r"libjpeg\S*|libssl-dev|libcurl4-openssl-dev|catch2|googletest|libhdf5-(cpp|fortran|hl-cpp|hl-fortran)\S*|libltdl\S*|libevent-dev|"
    r"libhwloc-dev|libibverbs-dev|libpmix-dev|libnuma-dev|libtirpc\S*|libnsl\S*|ibverbs-providers|automake\S*|autotools-dev)$")

# What must be there: its name, the packages of Debian that have it, and headers of which one must be found.
HEADERS = [
    ("Open MPI", "libopenmpi-dev openmpi-bin", ["mpi.h", "mpi/mpi.h", "openmpi/mpi.h", "openmpi/include/mpi.h"]),
    ("HDF5 (serial)", "libhdf5-dev", ["hdf5.h", "hdf5/serial/hdf5.h"]),
    ("Boost.Program_options", "libboost-program-options-dev", ["boost/program_options.hpp"]),
    ("spdlog", "libspdlog-dev", ["spdlog/spdlog.h"]),
    ("fmt", "libfmt-dev", ["fmt/core.h"]),
    ("nlohmann-json", "nlohmann-json3-dev", ["nlohmann/json.hpp"]),
    ("xxhash", "libxxhash-dev", ["xxhash.h"]),
    ("Random123", "librandom123-dev", ["Random123/philox.h"]),
    ("libpng", "libpng-dev", ["png.h"]),
    ("libwebp", "libwebp-dev", ["webp/mux.h"]),
    ("GoogleTest", "libgtest-dev", ["gtest/gtest.h"]),
]
PROGRAMS = [("a C++ compiler", "g++", ["g++", "c++"]), ("CMake 3.25", "cmake", ["cmake"]), ("Ninja", "ninja-build", ["ninja"]),
            ("pkg-config", "pkg-config", ["pkg-config", "pkgconf"])]
MANIFEST = "packages.json"


def header_folders(unpacked):
    roots = [unpacked / "usr"] if unpacked else []
    roots += [pathlib.Path("/usr"), pathlib.Path("/usr/local")]
    roots += [pathlib.Path(p) for p in os.environ.get("CMAKE_PREFIX_PATH", "").split(":") if p]
    folders = [pathlib.Path(p) for p in os.environ.get("CPATH", "").split(":") if p]
    for root in roots:
        folders += [root / "include", *map(pathlib.Path, glob.glob(str(root / "include/*-linux-gnu*"))),
                    *map(pathlib.Path, glob.glob(str(root / "lib/*-linux-gnu*"))), root / "lib64"]
    return folders


def missing(unpacked=None, path=None):
    """[(what, Debian's packages)] that neither the system nor the folder `unpacked` has."""
    folders = header_folders(unpacked)
    found = [(what, packages) for what, packages, names in HEADERS
             if not any((folder / name).exists() for folder in folders for name in names)]
    if shutil.which("mpicc", path=path):  # it brings its own paths
        found = [entry for entry in found if entry[0] != "Open MPI"]
    extra = f"{unpacked}/bin" if unpacked else ""
    search = os.pathsep.join(p for p in (path or os.environ.get("PATH", ""), extra) if p)
    return [(what, package) for what, package, names in PROGRAMS
            if not any(shutil.which(name, path=search) for name in names)] + found


def describe_missing(entries):
    lines = ["not found on this machine:"]
    lines += [f"  {what:<24} Debian: {packages}" for what, packages in entries]
    return "\n".join(lines) + ("\nhint: install them, or name a folder that has them: `scripts/gpu-check --pack DIR` makes one on a "
                               "machine with Debian 12, `--from DIR` takes it")


def fields_of(names):
    """The newest version's fields of each package that apt knows."""
    result = subprocess.run(["apt-cache", "show", "--no-all-versions", *names], capture_output=True, text=True)
    found = {}
    for stanza in result.stdout.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE))
        if "Package" in fields:
            found[fields["Package"]] = fields
    return found


def closure():
    """ROOTS and what they depend on, less LEFT_OUT and what every Debian has."""
    known, waiting = {}, list(ROOTS)
    while waiting:
        fields = fields_of(waiting)
        unknown = [name for name in waiting if name in ROOTS and name not in fields]
        if unknown:
            raise Unavailable(f"apt knows no {', '.join(unknown)}\nhint: apt-get update; the folder is made on Debian 12")
        known.update({name: f for name, f in fields.items() if f.get("Priority") not in ("required", "important")})
        wanted = []
        for name in waiting:
            for part in (fields.get(name, {}).get("Depends", "") + "," + fields.get(name, {}).get("Pre-Depends", "")).split(","):
                depends = re.sub(r"[ (:|].*", "", part.strip())
                if depends and depends not in known and not LEFT_OUT.match(depends):
                    wanted.append(depends)
        waiting = [name for name in dict.fromkeys(wanted) if name not in known]
        if not any(name in fields_of(waiting) for name in waiting):
            break
    return known


def pack(folder):
    """Fills `folder` with packages and their list."""
    if not shutil.which("apt-get"):
        raise Unavailable("--pack needs apt-get: it takes packages of Debian 12")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-qq", "-o", "APT::Sandbox::User=root"]
    names = sorted(closure())
    listed = subprocess.run(["apt-get", "download", "--print-uris", *options, *names], capture_output=True, text=True)
    files = dict(re.findall(r"^'[^']*' (\S+\.deb) \d+ SHA256:(\w+)$", listed.stdout, re.MULTILINE))
    if len(files) != len(names):
        raise Unavailable(f"apt-get offers {len(files)} of {len(names)} packages:\n{listed.stderr[-2000:]}")
    result = subprocess.run(["apt-get", "download", *options, *names], cwd=folder, capture_output=True, text=True)
    for name, digest in files.items():
        if result.returncode or hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise Unavailable(f"apt-get download failed at {name}:\n{result.stderr[-2000:]}")
    stale = [p for p in folder.glob("*.deb") if p.name not in files]
    for path in stale:
        path.unlink()
    manifest = {"format": "tmd-packages", "version": 1, "glibc": os.confstr("CS_GNU_LIBC_VERSION").split()[-1],
                "architecture": "amd64", "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    total = sum((folder / name).stat().st_size for name in files)
    return f"{len(files)} packages, {total / 1e6:.1f} MB, in {folder}"


def data_of(package):
    """The member data.tar.* of a .deb, which is an ar archive, as a file and its compression."""
    file = open(package, "rb")
    if file.read(8) != b"!<arch>\n":
        raise Unavailable(f"{package} is no Debian package")
    while True:
        header = file.read(60)
        if len(header) < 60:
            raise Unavailable(f"{package} has no data")
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return file, name[len("data.tar"):]
        file.seek(size + size % 2, 1)


def extract(package, folder):
    if shutil.which("dpkg-deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
        return
    file, compression = data_of(package)
    with file:
        opened = lzma.open(file) if compression == ".xz" else file
        mode = {".xz": "r|", ".gz": "r|gz", "": "r|"}.get(compression)
        if mode is None:
            raise Unavailable(f"{package} is compressed as {compression}, which needs dpkg-deb")
        # Newer versions of Python refuse absolute links unless told otherwise; mend_links sees to those.
        trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
        with tarfile.open(fileobj=opened, mode=mode) as archive:
            for member in archive:
                if member.name.startswith("/") or ".." in pathlib.PurePath(member.name).parts:
                    raise Unavailable(f"{package} has a file outside of its folder: {member.name}")
                archive.extract(member, folder, **trusted)


def mend_links(folder):
    """Absolute links point into the folder; those of update-alternatives, which nobody has made, go."""
    for path in folder.rglob("*"):
        if not path.is_symlink() or not os.readlink(path).startswith("/"):
            continue
        target = folder / os.readlink(path)[1:]
        path.unlink()
        if target.exists():
            path.symlink_to(os.path.relpath(target, path.parent))


def write_wrappers(folder):
    """bin/NAME starts a program of the packages from wherever the folder lies; what it starts inherits the same."""
    lib = f"$here/usr/lib/{library_folder(folder).name}"
    variables = {
        "LD_LIBRARY_PATH": f"{lib}:{lib}/pmix2/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}",
        "PKG_CONFIG_LIBDIR": f"{lib}/pkgconfig:$here/usr/share/pkgconfig", "PKG_CONFIG_SYSROOT_DIR": "$here",
        "OPAL_PREFIX": "$here/usr", "OPAL_BINDIR": "$here/usr/bin", "OPAL_LIBDIR": f"{lib}/openmpi/lib",
        "OPAL_PKGLIBDIR": f"{lib}/openmpi/lib/openmpi3", "OPAL_DATADIR": "$here/usr/share",
        "OPAL_PKGDATADIR": "$here/usr/share/openmpi", "OPAL_SYSCONFDIR": "$here/etc/openmpi",
        "PMIX_INSTALL_PREFIX": f"{lib}/pmix2", "PMIX_PKGLIBDIR": f"{lib}/pmix2/lib/pmix",
        "PMIX_PKGDATADIR": "$here/usr/share/pmix2",
    }
    exports = "".join(f'export {name}="{value}"\n' for name, value in variables.items())
    (folder / "bin").mkdir()
    for name, program in (("mpirun", "mpirun.openmpi"), ("pkg-config", "pkgconf")):
        wrapper = folder / "bin" / name
        wrapper.write_text(f'#!/bin/sh\nhere=$(cd "$(dirname "$0")/.." && pwd)\n{exports}exec "$here/usr/bin/{program}" "$@"\n')
        wrapper.chmod(0o755)


def unpack(source, cache):
    """Lays the packages of `source` out below `cache`, once for each content, and returns the folder."""
    source = pathlib.Path(source)
    try:
        manifest = json.loads((source / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise Unavailable(f"{source} is no folder of `scripts/gpu-check --pack`: {error}")
    key = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:12]
    folder = pathlib.Path(cache) / f"packages-{key}"
    if (folder / "usr").exists():
        return folder
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, digest in manifest["files"].items():
        file = source / name
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise Unavailable(f"{file} is missing or damaged\nhint: copy the folder again")
        extract(file, partial)
    mend_links(partial)
    # FindHDF5 would believe what they say of the system's folders.
    for wrapper in (partial / "usr/bin").glob("h5*cc*"):
        wrapper.unlink()
    write_wrappers(partial)
    partial.rename(folder)
    return folder


def glibc_warning(source):
    """Text when this system is older than the one that the packages are for, else empty."""
    manifest = json.loads((pathlib.Path(source) / MANIFEST).read_text())
    try:
        here = os.confstr("CS_GNU_LIBC_VERSION").split()[-1]
    except (OSError, ValueError, AttributeError):
        return "this system has no glibc, and the packages need one"
    if [int(n) for n in here.split(".")] >= [int(n) for n in manifest["glibc"].split(".")]:
        return ""
    return f"glibc {here} is older than that of the packages ({manifest['glibc']}): a program may ask for symbols that are not there"


def library_folder(unpacked):
    """lib/x86_64-linux-gnu of what was unpacked."""
    found = sorted((unpacked / "usr/lib").glob("*-linux-gnu"))
    if not found:
        raise Unavailable(f"{unpacked} has no libraries")
    return found[0]


def library_folders(unpacked):
    lib = library_folder(unpacked)
    return [lib, lib / "openmpi/lib", lib / "pmix2/lib", lib / "hdf5/serial"]


def cmake_arguments(unpacked):
    """What makes CMake find it before the system."""
    usr, lib = unpacked / "usr", library_folder(unpacked)
    mpi = lib / "openmpi"
    arguments = {
        "CMAKE_PREFIX_PATH": usr, "CMAKE_LIBRARY_ARCHITECTURE": lib.name,
        "CMAKE_BUILD_RPATH": ";".join(map(str, library_folders(unpacked))),
        # For what those libraries need themselves; GNU ld alone wants to see it.
        "CMAKE_EXE_LINKER_FLAGS": "-Wl,-rpath-link," + ":".join(map(str, library_folders(unpacked))),
        # Its compiler wrapper knows the system's folders only.
        "MPI_SKIP_COMPILER_WRAPPER": "ON", "MPI_ASSUME_NO_BUILTIN_MPI": "ON",
        "MPI_C_HEADER_DIR": mpi / "include", "MPI_C_LIB_NAMES": "mpi", "MPI_mpi_LIBRARY": mpi / "lib/libmpi.so",
        "MPIEXEC_EXECUTABLE": unpacked / "bin/mpirun", "PKG_CONFIG_EXECUTABLE": unpacked / "bin/pkg-config",
        "HDF5_C_INCLUDE_DIR": usr / "include/hdf5/serial", "HDF5_hdf5_LIBRARY_RELEASE": lib / "hdf5/serial/libhdf5.so",
        "PNG_PNG_INCLUDE_DIR": usr / "include", "ZLIB_INCLUDE_DIR": usr / "include",
    }
    return [f"-D{name}={value}" for name, value in arguments.items()]
