"""`make kernels`: Debian's cloud kernels 6.1 and 6.12, booted in qemu; `who`, `live` and `check` in each, beside memory that is known.

    apt-get download --> vmlinuz --+
    busybox, this Python, rmaplab --> initramfs --+--> qemu, plain TCG, 1 GiB --ttyS1--> one line of JSON --> a row of the table
                                                                                         a recording --> rmaplab check --against

Nothing is installed and nothing is left: packages are unpacked in a temporary directory. It needs qemu-system-x86 and a C compiler;
what cannot be had is said in a line. A minute or two a kernel, most of it Python under emulation.
"""

import argparse
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rmaplab.host.agent import OPTIONS
from rmaplab.host.compiler import compile_c, compile_kept, find_compiler

ROOT = Path(__file__).parents[1]
META = ("linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64")  # bookworm's 6.1, and its 6.12
PACKAGES = ("numpy", "click", "rich", "markdown_it", "mdurl", "pygments", "greenlet")
NOT_NEEDED = {
    "test",
    "tests",
    "idlelib",
    "ensurepip",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "__pycache__",
}
TIMEOUT_S, MEMORY = 560, "1G"
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
ip link set lo up
export {environment}
{python} -m benchmarks.kernels_guest {arguments} >/dev/ttyS1 2>&1
poweroff -f
"""


class Missing(Exception):
    """Something that this takes is not to be had; in one line."""


def download(meta: str, folder: Path) -> Path:
    """The newest image that `meta` stands for, unpacked: its vmlinuz. Raises Missing."""
    depends = _run(["apt-cache", "depends", meta], folder)
    images = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image" in line]
    if not images:
        raise Missing(f"{meta}: no such package here (apt-get update, or another release of Debian)")
    _unpack(images[0], folder / images[0])
    (kernel,) = (folder / images[0] / "boot").glob("vmlinuz-*")
    return kernel


def _unpack(package: str, folder: Path) -> None:
    folder.mkdir()
    _run(["apt-get", "download", package], folder)
    for deb in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(deb), str(folder)], folder)


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not installed") from None
    if done.returncode:
        raise Missing(f"{' '.join(command)}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
    return done.stdout


class Archive:
    """An initramfs: cpio in format newc, uncompressed, for the guest would be slow to unpack it (Documentation/driver-api/early-userspace)."""

    def __init__(self, path: Path) -> None:
        self._file, self._names = path.open("wb"), set[str]()

    def add(self, path: str, data: bytes = b"", mode: int = stat.S_IFREG | 0o755) -> None:
        """A file, and the directories above it. What is there already stays."""
        path = path.strip("/")
        if path in self._names:
            return
        above = path.rpartition("/")[0]
        if above and above not in self._names:
            self.add(above, mode=stat.S_IFDIR | 0o755)
        self._names.add(path)
        self._entry(path, data, mode)

    def _entry(self, path: str, data: bytes, mode: int) -> None:
        name = path.encode() + b"\0"
        numbers = (len(self._names), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name
        self._file.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

    def add_file(self, path: Path, where: str | None = None) -> None:
        """A file of this machine, where it is here or at `where`; a symlink as what it leads to."""
        self.add(where or str(path), path.read_bytes())

    def close(self) -> None:
        """The mark at its end."""
        self._entry("TRAILER!!!", b"", 0)
        self._file.close()


def files_of_python() -> Iterator[Path]:
    """The interpreter, its library, the packages that we need, and the shared libraries that these ask for."""
    programs = [Path(sys.executable).resolve()]
    places = [Path(sysconfig.get_path("stdlib"))]
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        places += [folder, folder.with_name(f"{package}.libs")]
    for place in places:
        for path in place.rglob("*"):
            if (
                path.is_file()
                and not NOT_NEEDED & set(path.relative_to(place).parts[:-1])
                and path.suffix not in (".a", ".h", ".pyi")
            ):
                programs += [path] if path.suffix == ".so" else []
                yield path
    yield programs[0]
    asked = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    yield from {
        Path(word) for line in asked.splitlines() for word in line.split() if word[0] == "/" and word[-1] != ":"
    }


def build(folder: Path, busybox: Path, nr_scripts: int) -> Path:
    """The initramfs. The agent of `check` is compiled here; in the guest `cc` is only a name that it is kept under."""
    path, forks = folder / "initramfs", folder / "forks"
    compile_c((ROOT / "tests/forks.c").read_bytes(), "forks.c", forks, ("-O1", "-static"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    agent = compile_kept((ROOT / "src/rmaplab/host/agent.c").read_bytes(), "agent.c", OPTIONS)
    archive = Archive(path)
    archive.add_file(busybox, "/bin/busybox")
    archive.add(find_compiler(), b"#!/bin/false\n")
    for each in (agent, forks):
        archive.add_file(each)
    for each in files_of_python():
        archive.add_file(each)
    for each in [*(ROOT / "src").rglob("*"), *(ROOT / "benchmarks").glob("*.py"), ROOT / "tests/host/fork_tree.py"]:
        if each.is_file() and each.suffix != ".pyc" and ".nb" not in each.name:
            archive.add_file(each)
    click = find_spec("click")
    assert click is not None
    assert click.origin is not None
    environment = {
        "PYTHONPATH": f"{ROOT}/src:{ROOT}:{Path(click.origin).parents[1]}",
        "PYTHONHOME": sys.base_prefix,
        "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
        "HOME": "/tmp",
        "PATH": f"{Path(find_compiler()).parent}:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    text = INIT.format(
        environment=" ".join(f"{name}={value}" for name, value in environment.items()),
        python=Path(sys.executable).resolve(),
        arguments=f"{ROOT}/tests/host/fork_tree.py {forks} {nr_scripts}",
    )
    archive.add("/init", text.encode())
    archive.close()
    return path


def boot(kernel: Path, initramfs: Path, folder: Path) -> dict[str, Any]:
    """Boots it and waits for its line. Raises Missing with the last of what it said."""
    console, result = folder / f"{kernel.name}.console", folder / f"{kernel.name}.result"
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-m", MEMORY, "-display", "none", "-no-reboot", "-nic", "none",
        "-kernel", str(kernel), "-initrd", str(initramfs), "-append", "console=ttyS0 panic=-1 quiet",
        "-serial", f"file:{console}", "-serial", f"file:{result}",
    ]  # fmt: skip
    try:
        _ = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{kernel.name}: not done in {TIMEOUT_S} s; it said: {_last(console)} {_last(result)}") from None
    for line in result.read_text(errors="replace").splitlines() if result.exists() else ():
        if line.startswith("RESULT "):
            found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return found
    raise Missing(f"{kernel.name}: no result; it said: {_last(console)} {_last(result)}")


def _last(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return " / ".join(lines[-4:])


def against(found: dict[str, Any], folder: Path) -> str:
    """What `rmaplab check --against` counts in what the guest recorded."""
    if found["record"] is None:
        return " ".join(found["check"][-1:])
    path = folder / f"{found['release']}.json"
    path.write_text(found["record"])
    command = [sys.executable, "-m", "rmaplab", "check", "--against", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=ROOT)
    lines = done.stdout.replace(f"{path}: ", "").splitlines()
    return "\n".join(lines[-2:]) if lines else done.stderr.strip()


def main() -> None:
    """Both kernels, or one; exit code 1 if something in them was not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripts", type=int, default=60, help="random scripts that are recorded in each guest")
    parser.add_argument("--only", choices=META, help="one of them")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    wrong = False
    with tempfile.TemporaryDirectory(prefix="rmaplab-kernels-") as name:
        folder = Path(name)
        try:
            if shutil.which("qemu-system-x86_64") is None:
                raise Missing("qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")
            _unpack("busybox-static", folder / "busybox")
            initramfs = build(folder, folder / "busybox/bin/busybox", asked.scripts)
        except Missing as error:
            sys.exit(f"make kernels: {error}")
        for meta in [asked.only] if asked.only else META:
            try:
                found = boot(download(meta, folder), initramfs, folder)
            except Missing as error:
                print(f"{meta}: {error}", flush=True)
                wrong = True
                continue
            wrong |= show(found, against(found, folder))
    sys.exit(wrong)


def show(found: dict[str, Any], compared: str) -> bool:
    """A kernel's lines. Whether anything was not exact."""
    who, live = found["who"], found["live"]
    walks = "" if not who["no_walk"] else f", the kernel's walk not known for {who['no_walk']}"
    print(f"Linux {found['release']} ({found['seconds']:.0f} s in the guest)")
    print(f"  who    {who['asked'] - len(who['wrong'])} of {who['asked']} pages exact{walks}")
    exact = "exact" if not live["wrong"] else "not exact"
    print(
        f"  live   rung {live['rung']}, {exact}: {live.get('pages')} anonymous pages of a family of four, chains of one of seven"
    )
    for line in [*(f"missing: {line}" for line in live["missing"]), *live["wrong"][:5], *who["wrong"][:5]]:
        print(f"         {line}")
    print("  check  " + "\n         ".join(compared.splitlines()), flush=True)
    return bool(who["wrong"] or live["wrong"] or live["rung"] is None)


if __name__ == "__main__":
    main()
