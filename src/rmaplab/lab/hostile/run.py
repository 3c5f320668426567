"""One hostile run: a program on a small machine with bounds, how it has ended, and what of it is wrong.

    seed ---> kind, bits, kernel, box ---> program in root/prog/self ---> run ---> exit, signal, hung, full, waits, or a bound
                                                                           |
                       the root and what is outside: hashed before ... and after; System.check(); what it has written is written out

Whatever else it ends with is a finding: it is raised.
"""

import hashlib
import os
import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from rmaplab.cpu.files.filesystem import FileLimits
from rmaplab.cpu.files.tree import FileTree
from rmaplab.cpu.start import start
from rmaplab.cpu.userland import Bounds, Userland
from rmaplab.errors import KernelBug, UsageError
from rmaplab.harmless import printable
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import OK, run_to_the_end
from rmaplab.lab.hostile.escapes import CANARY, escapes
from rmaplab.lab.hostile.programs import KINDS, calls, garbled

WIDE = ("6.18", "6.18", "2.6.5-rc1-aa1", "2.6.2", "2.6.7")
NARROW = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7")
RECLAIMS = "2.6.7"
KIND_NAMES = ("instructions", "calls", "bombs", "escapes", "garbled")
SECRET = b"rmaplab-canary-5f3a"
BOUNDS = Bounds(output_bytes=256 << 10, blocks=60_000, processes=40, simulated_s=60)
BOMBS_S = 1
"""Of simulated time, for who makes the kernel work without an end."""
FILES = FileLimits(made=300, seen=10_000, disk_bytes=8 << 20)
PROGRAM = "prog/self"


@dataclass(frozen=True)
class HostileEnd:
    """How a run has ended: in a word, and in one line."""

    kind: str
    seed: int
    how: str
    more: str = ""


class HostilePlace:
    """A directory of its own with a root to show and a canary outside it; `samples` are programs to be garbled, with what they need of a root."""

    def __init__(self, above: Path, samples: dict[str, bytes] | None = None) -> None:
        self.above, self.root, self.canary = above, above / "root", above / CANARY
        self.samples = list[tuple[int, bytes]]()
        for directory in ("root/etc", "root/prog", "root/deep/er", "root/bin", "root/var", CANARY):
            (above / directory).mkdir(parents=True)
        (self.canary / "secret").write_bytes(SECRET)
        (self.root / "etc" / "motd").write_bytes(b"welcome\n" * 600)
        (self.root / "out").symlink_to(f"../{CANARY}")
        (self.root / "abs").symlink_to(self.canary)
        os.link(self.root / "etc" / "motd", self.root / "etc" / "same")
        for name, data in (samples or {}).items():
            path = self.root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755)
            if path.parent.name == "bin":
                self.samples.append((64 if data[4] == 2 else 32, data))

    def put(self, program: bytes) -> None:
        """The program of the next run."""
        path = self.root / PROGRAM
        path.write_bytes(program)
        path.chmod(0o755)

    def digest(self) -> str:
        """Of all names, kinds, modes, times and bytes. O(bytes)."""
        seen = hashlib.blake2b()
        for path in sorted(self.above.rglob("*")):
            found = path.lstat()
            seen.update(
                repr(
                    (os.fsencode(path), found.st_mode, found.st_size, found.st_mtime_ns, found.st_nlink, found.st_uid)
                ).encode()
            )
            if path.is_symlink():
                seen.update(os.fsencode(path.readlink()))
            elif path.is_file():
                seen.update(path.read_bytes())
        return seen.hexdigest()


def run(seed: int, place: HostilePlace, bounds: Bounds = BOUNDS) -> HostileEnd:
    """The run of a seed, within `bounds`. Raises KernelBug, and whatever a defect of ours raises."""
    draw = random.Random(seed)  # noqa: S311
    kind = KIND_NAMES[seed % len(KIND_NAMES)]
    bits = draw.choice((64, 64, 32))
    if kind == "garbled":
        own = calls(draw, bits)
        bits, whole = draw.choice([*place.samples, (bits, own)])
        program = garbled(draw, bits, whole)
    elif kind == "escapes":
        program = escapes(draw, bits, os.fsencode(place.canary))
    else:
        program = KINDS[kind](draw, bits)
    place.put(program)
    before = place.digest()
    kernel, box = _machine(draw, bits)
    with tempfile.TemporaryFile() as output:
        bounds = replace(bounds, simulated_s=min(bounds.simulated_s, BOMBS_S)) if kind == "bombs" else bounds
        how, more = _execute(kernel, box, bounds, place, seed, output.fileno())
        output.seek(0)
        written = output.read()
    if SECRET in written:
        raise KernelBug("hostile", "the program has read what is outside its root")
    if len(written) > bounds.output_bytes:
        raise KernelBug("hostile", f"{len(written)} bytes of output")
    if place.digest() != before:
        raise KernelBug("hostile", "the host's files have changed")
    return HostileEnd(kind, seed, how, more)


def _machine(draw: random.Random, bits: int) -> tuple[str, Box]:
    """A kernel and a small box: with and without swap, some with too little memory."""
    kernel = draw.choice(WIDE if bits == 64 else NARROW)
    paging = "x86-64" if bits == 64 else draw.choice(("i386", "i386-pae"))
    small = draw.random() < 0.5
    return kernel, Box(
        ram="32M" if small else "64M",
        boot_use="16M",
        paging=paging,
        swap="16M" if kernel == RECLAIMS and draw.random() < 0.5 else "0",
        reclaim=None,
        overcommit=draw.choice((0, 0, 1, 2)),
        cpus=draw.choice((1, 2, 4)),
    )


def _execute(kernel: str, box: Box, bounds: Bounds, place: HostilePlace, seed: int, output: int) -> tuple[str, str]:
    system = boot(kernel, box)
    tree = FileTree(system, place.root, limits=FILES, seed=seed)
    nothing = os.open(os.devnull, os.O_RDONLY)
    userland = Userland(system, tree, bounds=bounds, seed=seed, streams=(nothing, output, output))
    try:
        init = start(userland, [b"/" + PROGRAM.encode(), b"argument"], [b"HOME=/"])
        end, why = run_to_the_end(System.run, system)
        with tempfile.TemporaryDirectory() as scratch:
            tree.write_out(scratch)
    except UsageError as failure:
        return _bound(str(failure))
    else:
        if end != OK:
            return end, why or ""
        system.check()
        if init.ended is None:
            return "waits", ""
        status = userland.status(init)
        return ("exit", str(status)) if not init.ended & 0x7F else ("signal", str(init.ended & 0x7F))
    finally:
        system.close()
        userland.close()
        tree.close()
        os.close(nothing)


def _bound(line: str) -> tuple[str, str]:
    """A bound has ended it, or it is no program: it says so in one line."""
    if printable(line) != line or ": " not in line:
        raise KernelBug("hostile", f"no clear line: {line!r}")
    return "bound" if "more than" in line else "refused", line
