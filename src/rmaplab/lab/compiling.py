"""The loops compiled before somebody waits for them: `python -m rmaplab.lab.compiling`, which `make` runs when it has installed.

Numba makes machine code of a loop when it is first called, for the kinds of its arguments, and keeps it (machine/jit.py). Which kinds there are
only calls tell; so here some kernels get random ones, as the conformance kit makes them. That is done for page tables whose entries have
8 bytes, as all commands take them unless told otherwise; what i386's have is compiled when it is first used.

What is kept holds for this machine, this Python, this Numba and these source files: a wheel cannot bring it along. Whoever installs for others
(root) does this once for all; where nothing can be kept it says so.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import boot
from rmaplab.lab.conformance.holes_run import HolesRun
from rmaplab.lab.conformance.pressure_run import PressureRun
from rmaplab.lab.conformance.shared_pressure_run import SharedPressureRun
from rmaplab.objects.flags import MAP_PRIVATE, MAP_SHARED, PROT_READ
from rmaplab.units import PAGE_SIZE

PAGING, RAM, SEED = "x86-64", "256M", 1
GATHERED = 12_000 * PAGE_SIZE  # more than unmapping collects before it frees, on any kernel
KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1", "2.6.5-rc1+00100", "2.6.7", "6.18")
"""No other one has loops that none of these has."""
CALLS = {HolesRun: 80, PressureRun: 30, SharedPressureRun: 50}
"""How many each run makes: then it has met all loops that its kernel uses, or nearly."""


class Compiled(NamedTuple):
    """Versions of loops that this process has, by kinds of arguments; those of them that it had to make; and whether they are kept."""

    versions: int
    made: int
    kept: bool


def exercise(kernel: str, seed: int = SEED) -> None:
    """Random calls: of memory and files; and, where its reclaim is here, on boxes too small for them."""
    reclaims = bool(find_kernel(kernel).reclaim)
    for kind, calls in CALLS.items():
        if kind is HolesRun or reclaims:
            kind(kernel, seed, paging=PAGING).run(calls)
    everyday(kernel)


def everyday(kernel: str) -> None:
    """What programs do in stretches of many pages, which random calls seldom have: memory and a file touched, forked, copied, moved, protected, unmapped."""
    system = boot(kernel, ram=RAM, paging=PAGING)
    parent = system.spawn()
    parent.touch(parent.mmap(GATHERED), GATHERED, write=True)
    length = 64 * PAGE_SIZE
    memory = parent.mmap(length)
    parent.touch(memory, length)
    parent.touch(memory, length // 2, write=True)
    fd = parent.open(system.new_file(b"x" * length), writable=True)
    for flags in (MAP_PRIVATE, MAP_SHARED):
        shown = parent.mmap(length, flags=flags, file=fd)
        parent.touch(shown, length)
        parent.touch(shown, length, write=True)
    child = parent.fork()
    child.touch(memory, length, write=True)
    child.mprotect(memory, length // 4, PROT_READ)
    moved = child.mremap(memory + length // 2, length // 4, length // 2)
    child.munmap(moved, PAGE_SIZE)
    system.check()
    child.exit()
    parent.wait()
    parent.exit()


def dispatchers() -> Iterator[Any]:
    """The loops that are awake, as Numba has them, each once."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("rmaplab."):
            for value in vars(module).values():
                if hasattr(value, "signatures") and hasattr(value, "stats"):
                    found[id(value)] = value
    yield from found.values()


def compiled() -> Compiled:
    """As things are now."""
    awake = list(dispatchers())
    versions = sum(len(loop.signatures) for loop in awake)
    made = versions - sum(sum(loop.stats.cache_hits.values()) for loop in awake)
    return Compiled(versions, made, all(loop.stats.cache_path for loop in awake if loop.signatures))


def main() -> None:
    """Compile what is not yet, and say so."""
    began = time.perf_counter()
    sys.stderr.write("rmaplab: compiling its loops, once for this machine: some half a minute\n")
    for kernel in KERNELS:
        exercise(kernel)
    found, seconds = compiled(), time.perf_counter() - began
    kept = (
        ""
        if found.kept
        else "; they cannot be kept here, and each process makes its own (NUMBA_CACHE_DIR names a directory of yours)"
    )
    sys.stderr.write(f"rmaplab: {found.versions} loops, {found.made} compiled now, {seconds:.0f} s{kept}\n")


if __name__ == "__main__":
    main()
