"""System V shared memory of 6.18 beside the running kernel's: the same calls, what each returns, VMAs and nattch after each.

Random calls on three segments in a window of 48 pages that nobody else uses; then rows of files.md F2, G2.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import rmaplab
from rmaplab.errors import SyscallError, errno_name
from rmaplab.host.bpf.btf import kernel_btf
from rmaplab.objects.flags import (
    IPC_CREAT,
    IPC_EXCL,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_STAT,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    SHM_EXEC,
    SHM_LOCK,
    SHM_NORESERVE,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_UNLOCK,
)
from rmaplab.units import PAGE_SIZE as P

from .conftest import REQUIRE_ALL

AT, ROOM = 0x10_0000_0000, 48
RW = PROT_READ | PROT_WRITE
MOVES = MREMAP_MAYMOVE | MREMAP_FIXED
RELEASE = tuple(map(int, platform.release().split(".")[:2]))
pytestmark = pytest.mark.skipif(
    not REQUIRE_ALL and (RELEASE < (6, 18) or os.geteuid() != 0),
    reason="6.18 and root: the model's rules, and its rights",
)
Row = tuple[int, int, str, int]
"""A VMA: first page of the window, pages, what it allows, its first page of the segment."""


class Host:
    """This process."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        for name in ("shmat", "mremap"):
            getattr(self.libc, name).restype = ctypes.c_void_p
        self.ids: list[int] = []
        self.keys = os.getpid() << 8

    def call(self, name: str, *arguments: int | None) -> int | str:
        """What it returns, or its errno."""
        sized = [ctypes.c_void_p(each) if each is None or each > 0xFFFF else each for each in arguments]
        result = getattr(self.libc, name)(*sized)
        return errno_name(ctypes.get_errno()) if result in (-1, (1 << 64) - 1) else result or 0

    def get(self, key: int, size: int, flags: int) -> int | str:
        """Ids are the tests' own: the n-th segment that there was."""
        key += self.keys if key else 0
        got = self.call("shmget", key, size, flags)
        return got if isinstance(got, str) else self.known(got)

    def known(self, shmid: int) -> int:
        if shmid not in self.ids:
            self.ids.append(shmid)
        return self.ids.index(shmid)

    def at(self, index: int, address: int, flags: int) -> int | str:
        return self.call("shmat", self.ids[index], address, flags)

    def detach(self, address: int) -> int | str:
        return self.call("shmdt", address)

    def control(self, index: int, command: int) -> int | str:
        return self.call("shmctl", self.ids[index], command, None)

    def stat(self, index: int) -> tuple[int, ...] | str:
        """Whether it has a key, size, mode, nattch."""
        buffer = ctypes.create_string_buffer(256)
        if self.libc.shmctl(self.ids[index], IPC_STAT, buffer):
            return errno_name(ctypes.get_errno())
        key, mode = struct.unpack_from("i16xI", buffer)
        (size,), (nattch,) = struct.unpack_from("Q", buffer, 48), struct.unpack_from("Q", buffer, 88)
        return int(key != 0), size, mode, nattch

    def protect(self, address: int, length: int, prot: int) -> int | str:
        return self.call("mprotect", address, length, prot)

    def unmap(self, address: int, length: int) -> int | str:
        return self.call("munmap", address, length)

    def remap(self, address: int, old: int, new: int, flags: int, to: int) -> int | str:
        return self.call("mremap", address, old, new, flags, to)

    def show(self, address: int, length: int, pgoff: int) -> int | str:
        return self.call("remap_file_pages", address, length, 0, pgoff, 0)

    def layout(self) -> list[Row]:
        rows = []
        for line in Path("/proc/self/maps").read_text().splitlines():
            range_, rights, offset = line.split()[:3]
            start, end = (int(each, 16) for each in range_.split("-"))
            if AT <= start < AT + 2 * ROOM * P:
                rows.append(((start - AT) // P, (end - start) // P, rights, int(offset, 16) // P))
        return rows

    def close(self) -> None:
        self.unmap(AT, 2 * ROOM * P)
        for index in range(len(self.ids)):
            self.control(index, IPC_RMID)


class Model(Host):
    """The same of a system of ours."""

    def __init__(self) -> None:
        self.system = rmaplab.boot("6.18", ram="64M")
        self.task = self.system.spawn(root=True)
        self.task.limit_memlock(1 << 40)
        self.ids, self.keys = [], 1 << 8

    def call(self, name: str, *arguments: int | None) -> int | str:
        calls: dict[str, Callable[..., Any]] = {"munmap": self.task.munmap, "mprotect": self.task.mprotect}
        arguments = arguments[:2] if name == "shmctl" else arguments
        call = calls.get(name) or getattr(self.task, name)
        try:
            return call(*arguments) or 0
        except SyscallError as error:
            return error.name
        finally:
            self.system.check()

    def stat(self, index: int) -> tuple[int, ...] | str:
        try:
            key, *rest = self.task.shm_stat(self.ids[index])
        except SyscallError as error:
            return error.name
        return (int(key != 0), *rest)

    def layout(self) -> list[Row]:
        assert self.task.mm is not None
        return [((v.start - AT) // P, v.nr_pages, repr(v).split()[1], v.pgoff) for v in self.task.mm.vmas]


@pytest.fixture
def sides() -> Iterator[tuple[Host, Model]]:
    host = Host()
    try:
        yield host, Model()
    finally:
        host.close()


def both(sides: tuple[Host, Model], call: Callable[[Host], object]) -> object:
    """The same answer of both."""
    host, model = (call(side) for side in sides)
    assert model == host
    return host


def step(choose: Random, nr: int) -> Callable[[Host], object]:
    """A call, which may make no sense. Three segments are wanted."""
    index, length = choose.randrange(nr), choose.randrange(1, 6) * P
    flags = choose.choice((0, 0, 0, SHM_RDONLY, SHM_RND, SHM_EXEC, SHM_REMAP, SHM_REMAP, SHM_REMAP | SHM_RND))
    place, to = (AT + choose.randrange(ROOM) * P for _ in range(2))
    odd = choose.choice((0, 0, 0, 1, 100))
    size, key = choose.randrange(0, 6 * P), choose.choice((IPC_PRIVATE, 1, 1, 2))
    making = choose.choice((0, IPC_CREAT, IPC_CREAT | IPC_EXCL)) | choose.choice((0o600, 0o644, 0o777, SHM_NORESERVE))
    pgoff = choose.randrange(8)
    prot = choose.choice((RW, PROT_READ, PROT_READ, PROT_NONE))
    grown, command = choose.randrange(1, 9) * P, choose.choice((SHM_LOCK, SHM_UNLOCK, 77))

    def attached(side: Host) -> int:
        """The first place where something is."""
        return next((AT + row[0] * P for row in side.layout()), place)

    calls: dict[Callable[[Host], object], int] = {
        lambda side: side.at(index, place + odd, flags): 8,
        lambda side: side.detach(place + odd): 1,
        lambda side: side.detach(attached(side) + odd): 2,
        lambda side: side.protect(place, length, prot): 8,
        lambda side: side.unmap(place, length): 3,
        lambda side: side.remap(attached(side), length, length, MOVES, to): 2,
        lambda side: side.remap(attached(side), 0, length, MOVES, to): 1,
        lambda side: side.remap(place, length, grown, 0, 0): 1,
        lambda side: side.show(place, length, pgoff): 3,
        lambda side: side.show(attached(side), length, pgoff): 1,
        lambda side: side.control(index, command): 1,
        lambda side: side.control(index, IPC_RMID): 1,
        lambda side: side.get(key, size, making): 2,
    }
    return choose.choices(list(calls), list(calls.values()))[0]


@pytest.mark.parametrize("seed", range(12))
def test_random_calls(sides: tuple[Host, Model], seed: int) -> None:
    choose = Random(seed)
    for size in (5 * P + 100, 8 * P, P):
        both(sides, lambda side, size=size: side.get(IPC_PRIVATE, size, 0o600))  # type: ignore[misc]
    for _ in range(150):
        both(sides, step(choose, len(sides[0].ids)))
        both(sides, lambda side: side.layout())
        both(sides, lambda side: [side.stat(index) for index in range(len(side.ids))])


def test_a_key(sides: tuple[Host, Model]) -> None:
    """Errnos in their order; the larger size first; and a removed one is nobody's any more."""
    made = both(sides, lambda side: side.get(1, 5 * P + 100, IPC_CREAT | 0o600))
    assert made == 0
    wanted = [(6 * P, 0), (5 * P + 101, 0), (5 * P + 100, 0), (0, 0), (1, IPC_CREAT | IPC_EXCL), (9 * P, IPC_CREAT)]
    answers = both(sides, lambda side: [side.get(1, *each) for each in wanted])
    assert answers == ["EINVAL", "EINVAL", 0, 0, "EEXIST", "EINVAL"]
    both(sides, lambda side: side.at(0, AT, 0))
    assert both(sides, lambda side: side.control(0, IPC_RMID)) == 0
    assert both(sides, lambda side: side.stat(0)) == (0, 5 * P + 100, 0o1600, 1)
    assert both(sides, lambda side: side.get(1, 1, 0)) == "ENOENT"
    assert both(sides, lambda side: side.at(0, AT + 8 * P, 0)) == AT + 8 * P
    both(sides, lambda side: [side.detach(AT), side.stat(0), side.detach(AT + 8 * P), side.stat(0)])
    assert both(sides, lambda side: side.control(0, IPC_RMID)) == "EINVAL"


@pytest.mark.parametrize("size", [0, 1 << 63, (1 << 64) - (1 << 24), (1 << 64) - 1, 40 << 30])
def test_no_such_size(sides: tuple[Host, Model], size: int) -> None:
    """What is no size, or more than can be promised."""
    answer = both(sides, lambda side: side.call("shmget", IPC_PRIVATE, size, 0o600))
    assert answer in ("EINVAL", "ENOMEM")


def test_places(sides: tuple[Host, Model]) -> None:
    """At the end of the address space, beyond it, and where addresses wrap."""
    both(sides, lambda side: side.get(IPC_PRIVATE, 8 * P, 0o600))
    top = 1 << 47
    places = [top - 8 * P, top - P, 1 << 63, (1 << 64) - P, (1 << 64) - 8 * P, (1 << 64) - 9 * P]
    answers = both(sides, lambda side: [side.at(0, place, 0) for place in places])
    assert answers == ["ENOMEM", "ENOMEM", "ENOMEM", "EINVAL", "EINVAL", "ENOMEM"]
    assert both(sides, lambda side: [side.at(0, 0, SHM_REMAP), side.at(0, 5, SHM_REMAP | SHM_RND)]) == ["EINVAL"] * 2
    assert both(sides, lambda side: side.call("shmat", -1, 0, 0)) == "EINVAL"


def test_an_old_id(sides: tuple[Host, Model]) -> None:
    """Another sequence number: nobody's."""
    both(sides, lambda side: side.get(IPC_PRIVATE, P, 0o600))
    answers = [side.call("shmctl", side.ids[0] + 32768, IPC_RMID) for side in sides]
    assert answers == ["EINVAL", "EINVAL"]


def test_sizes_of_records() -> None:
    """What a segment and an attach take."""
    rules, btf = rmaplab.boot("6.18", ram="64M").kernel.rules, kernel_btf()
    assert rules.shmid_kernel_bytes == btf.size_of("shmid_kernel")
    assert rules.shm_file_data_bytes == btf.size_of("shm_file_data")


def test_limits_are_the_hosts() -> None:
    """kernel.shmmax and its like, where nobody has set them."""
    rules = rmaplab.boot("6.18", ram="64M").kernel.rules
    for name, mine in (("shmmax", rules.shm_max_bytes), ("shmall", rules.shm_max_pages), ("shmmni", rules.shm_max_ids)):
        assert int(Path(f"/proc/sys/kernel/{name}").read_text()) == mine
