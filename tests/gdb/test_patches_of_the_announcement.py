"""The list that the announcement ends with, beside ours: each patch by its name and its own words, and what it comes to here, seen.

The words are the announcement's (18 March 2004); what has none there stands under the words of the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.gdb.world import Client, beside

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.gdb.memory import find_frame
from rmaplab.gdb.target import registers
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.releases import PATCHES
from rmaplab.kernels.spec import Patch
from rmaplab.kernels.system import System
from rmaplab.reclaim.page_out import page_out
from rmaplab.units import PAGE_SIZE

BASE, AA1 = "2.6.5-rc1", "2.6.5-rc1-aa1"
SMALL: dict[str, Any] = {"ram": "32M", "boot_use": "2M"}


def booted(name: str, paging: str = "i386") -> System:
    return rmaplab.boot(name, ram="32M", boot_use="2M", paging=paging)


def debugged(name: str, talk: Callable[[Client], None], paging: str = "i386") -> None:
    """A task that does little, with a debugger beside it."""
    system = booted(name, paging)
    system.spawn(lambda task: task.touch(task.mmap("16K"), "16K", write=True))
    session = beside(system, client := Client(talk), "little")
    system.run()
    session.end(0)
    client.join()
    assert client.lines


def extraversion(patch: Patch) -> None:
    """What uname -r ends with."""
    assert (booted(f"{BASE}+{patch.name}").uname().release.partition("+")[0], booted(BASE).uname().release) == (
        f"{BASE}-aa1", BASE
    )  # fmt: skip


def twofish(patch: Patch) -> None:
    """An area of the compatible form can be swapped to, which the base cannot; what lies there cannot be read."""
    areas = []
    for form in ("twofish", "twofish-compat"):
        system = rmaplab.boot(f"{BASE}+{patch.name}", swap=f"1M,crypt={form}", **SMALL)
        task = system.spawn()
        address = task.mmap("64K")
        task.write(address, b"a secret of sixteen bytes or more" * 100)
        assert task.mm is not None
        task.kernel.lru_add.drain(0)
        assert page_out(task.kernel, find_frame(task.kernel, task.mm, address))
        store = task.kernel.swap.stores[0]
        areas.append(store.on_disk.read(1).tobytes())
        assert b"a secret" in store.read(1).tobytes()
        assert task.read(address, 8) == b"a secret"
    assert all(any(area) and b"secret" not in area for area in areas)
    with pytest.raises(UsageError, match="crypt=twofish-compat"):
        rmaplab.boot(BASE, swap="1M,crypt=twofish-compat", **SMALL)


def objrmap(patch: Patch) -> None:
    """A page of a file is found through the file's VMAs: no chain, where the base has one of each; an anonymous page still has one."""
    slots = []
    for name in (f"{BASE}+{patch.name}", BASE):
        system = booted(name)
        file = system.new_file(b"file", "4K")
        for _ in range(2):
            task = system.spawn()
            task.read(task.mmap("4K", file=task.open(file)))
        assert len(system.who_maps(file, 0)) == 2
        slots.append(system.machine.caches["pte_chain"].nr_objects)
        system.check()
    assert slots == [0, 1]


def anon_vma(patch: Patch) -> None:
    """12 bytes for a family, 4 fewer in each struct page than with PAE and pte chains; no chain anywhere."""
    system = booted(AA1)
    parent = system.spawn()
    address = parent.mmap("64K")
    parent.write(address, bytes(16 * PAGE_SIZE))
    parent.fork()
    caches = system.machine.caches
    assert (caches["anon_vma"].nr_objects, "pte_chain" in caches) == (1, False)
    assert len(system.who_maps(parent, address)) == 2
    assert find_kernel(AA1).design == find_kernel(f"{BASE}+00100+{patch.name}").design


def kgdb(_: Patch) -> None:
    """It attaches, tasks are threads, a function of the kernel has a breakpoint."""

    def talk(gdb: Client) -> None:
        assert b'name="little"' in gdb.ask(b"qXfer:threads:read::0,1000")
        gdb.monitor("break do_anonymous_page")
        assert gdb.ask(b"c").startswith(b"T05")
        assert "do_anonymous_page(" in gdb.console
        gdb.ask(b"D")

    debugged(AA1, talk)


def recent_gcc(patch: Patch) -> None:
    """Nothing, and it says so."""
    assert patch.here.startswith("none: ")


def thread_size(_: Patch) -> None:
    """A task's kernel stack is where the box has it, as large as the figure says."""

    def talk(gdb: Client) -> None:
        told = gdb.monitor("tasks")
        assert "THREAD_SIZE, 8,192 bytes" in told
        first, end = (int(word, 16) for word in told.split("\n")[4].split()[-1].split("-"))
        assert end - first == find_kernel(AA1).figure("thread_stack_bytes", 4) == 8192
        assert gdb.monitor(f"page {first // PAGE_SIZE}").startswith(f"frame {first // PAGE_SIZE} at ")
        gdb.ask(b"D")

    debugged(AA1, talk)


def x86_64(_: Patch) -> None:
    """The registers that gdb is told are those of the box."""
    for paging, bits, name in (("i386", 32, "eip"), ("x86-64", 64, "r15")):

        def talk(gdb: Client, bits: int = bits, name: str = name) -> None:
            told = gdb.ask(b"qXfer:features:read:target.xml:0,8000")
            assert f'name="{name}"'.encode() in told
            assert (b"x86-64" in told) == (bits == 64)
            assert len(gdb.ask(b"g")) == 2 * sum(register.nr_bytes for register in registers(bits))
            gdb.ask(b"D")

        debugged(AA1, talk, paging)


ANNOUNCED: dict[str, tuple[str, Callable[[Patch], None]]] = {
    "00000_extraversion-1": ("Add -aa1.", extraversion),
    "00000_twofish-2.6": ("Compatibility cryptoloop.", twofish),
    "00100_objrmap-core-1": ("Objrmap core from Dave McCracken implementing objrmap methods for file mappings", objrmap),
    "00101_anon_vma-1": ("Implements innovative objrmap methods for anonymous memory", anon_vma),
    "00200_kgdb-ga-1": ("", kgdb),
    "00201_kgdb-ga-recent-gcc-fix-1": ("", recent_gcc),
    "00201_kgdb-THREAD_SIZE-fixes-1": ("", thread_size),
    "00201_kgdb-x86_64-support-1": ("kgdb from Andrew's -mm tree.", x86_64),
}  # fmt: skip


@pytest.mark.parametrize("name", ANNOUNCED)
def test_a_patch(name: str) -> None:
    """It is on our list, and what it is for can be seen."""
    (patch,) = (patch for patch in PATCHES[BASE] if patch.name == name)
    ANNOUNCED[name][1](patch)


def test_the_list() -> None:
    """The same patches in the same order."""
    assert [patch.name for patch in PATCHES[BASE]] == list(ANNOUNCED)
    assert not any(patch.here.startswith("nothing") for patch in PATCHES[BASE])
