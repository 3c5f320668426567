"""A real program's mappings, as this kernel shows them in /proc/self/maps, and as 6.18 has them when its recorded calls are replayed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from rmaplab.host.strace import record
from rmaplab.kernels.system import boot
from rmaplab.lab.replay.passed import PASSED
from rmaplab.lab.replay.plan_processes import KNOWN, plan_of
from rmaplab.lab.replay.player import LogPlayer
from rmaplab.objects.flags import VM_MAYSHARE
from rmaplab.workloads.strace_log import parse

MAPS = "".join(f"\\x{byte:02x}" for byte in b"/proc/self/maps")
MMAPS = 0x7F00_0000_0000
"""Above it lies what mmap has placed, up to the loader."""
KERNELS_OWN = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")
PROGRAM = """
import mmap, subprocess, sys, threading
threads = [threading.Thread(target=lambda: [bytearray(1 << k) for k in range(22)]) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
kept = [bytearray(200_000) for _ in range(50)]
del kept[::2]
shared = mmap.mmap(-1, 1 << 22)
subprocess.run(["/bin/true"])
open(sys.argv[1], "w").write(open("/proc/self/maps").read())
"""


NOT_RANDOM = """
import ctypes, os, sys
ctypes.CDLL(None).personality(0x0040000)  # ADDR_NO_RANDOMIZE
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_program_maps_on_6_18_what_it_maps_here(strace: str, tmp_path: Path, running_6_18: None) -> None:
    """As many mappings in the same order, each as long and with the same rights: of the program, its libraries, threads, heap and stack. And where mmap had to find a place, the same place."""
    log = tmp_path / "log"
    python = [sys.executable, "-I", "-S", "-c"]
    assert record([*python, NOT_RANDOM, "-I", "-S", "-c", PROGRAM, str(tmp_path / "maps")], log, packed=False) == 0
    here, starts, kernels_own, loader = [], [], 0, 1 << 47
    for line in (tmp_path / "maps").read_text().splitlines():
        place, rights, *_, name = line.split()
        start, end = (int(word, 16) for word in place.split("-"))
        if name not in KERNELS_OWN:
            here.append((end - start >> 12, rights))
            starts.append(start)
            loader = min(loader, start) if "/ld-" in name else loader
        elif name != "[vsyscall]":
            kernels_own += end - start
    lines = log.read_text().splitlines()
    opened = next(i for i, line in enumerate(lines) if "openat(" in line and MAPS in line)
    read = next(i for i, line in enumerate(lines) if i > opened and re.search(r" read\(", line))
    told = [line for line in lines if line.startswith("# ")]
    plan = plan_of(parse([*lines[:read], *told], KNOWN, PASSED))
    assert not plan.misunderstood
    base = (
        boot("6.18", ram="64M").machine.paging.unmapped_base - kernels_own
    )  # which lie between ld.so and what is mapped first
    player = LogPlayer(boot("6.18", ram="1G", paging="x86-64", mmap_base=base), plan, "used")
    player.play(lambda: None)
    assert (player.differs, player.lost) == ({}, {})
    (task,) = (task for task in player.tasks if task is not None and task.mm is not None)
    assert task.mm is not None
    there = [
        (vma.nr_pages, repr(vma).split()[1][:3] + ("s" if vma.flags & VM_MAYSHARE else "p")) for vma in task.mm.vmas
    ]
    assert there == here
    by_mmap = [i for i, start in enumerate(starts) if MMAPS <= start < loader]
    assert len(by_mmap) > 20
    assert [task.mm.vmas[i].start for i in by_mmap] == [starts[i] for i in by_mmap]


@pytest.fixture
def running_6_18() -> None:
    """What is compared is this kernel's."""
    if not Path("/proc/sys/kernel/osrelease").read_text().startswith("6.18."):
        pytest.skip("this is no 6.18")
