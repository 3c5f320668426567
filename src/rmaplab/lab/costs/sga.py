"""How many users of a large shared segment a kernel has memory for, and what that memory has become.

    boot, a segment       users attach and touch all of it, one by one, until a request for memory is not met: by the allocator, not by a rule here
    that moment           what each zone's frames are: page tables, chains, VMAs, other slabs, stacks, the segment, free
    per user              what the users before that have taken, divided by their number

Users are real ones as far as `most` of them, or the host's memory, goes (page tables and slabs are really there; the segment's pages, which nobody
writes bytes to, cost the host nothing). Beyond that the number of users is computed from what each of them has taken: such a row says `arithmetic`.

Without swap the kernel's own OOM killer is there (reclaim/oom_kill.py). With swap its reclaim is, if the box says so: the segment goes to swap and comes back for each user, until a request is made in vain. That is soon where what is
short is low memory, which holds nothing that could be swapped (history.md 2.7); its killer does nothing while swap is free. Else every user more takes a round of the disk. In arithmetic what could go to swap counts as free.
"""

import gc
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from errno import ENOSYS
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from rmaplab.errors import Hung, NoMemory, OomKilled, SyscallError, UsageError
from rmaplab.host.procfs import read_fields
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import HUNG, hardware_as_json
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.frames import PG_RESERVED, PG_SLAB, PG_TABLE
from rmaplab.machine.slab import SlabCache
from rmaplab.mm.process import PID_MAX, RESERVED_PIDS
from rmaplab.reclaim.oom_kill import OomKiller
from rmaplab.units import PAGE_SIZE, format_size, page_align
from rmaplab.workloads.sga import SEGMENT, How, Sga, largest

HOST_BYTES = 8 << 30
"""What page tables and slabs may take of the host: with the rest of us that stays below 10 GB."""
HOST_SPARE = 1 << 30
"""What is left alone of what the host has."""
MOST_USERS = PID_MAX - RESERVED_PIDS - 1
_GIB = 1 << 30
PUBLISHED = {
    ("pte_chain", 8 * _GIB, "3:1", SEGMENT): (100, 150),
    ("pte_chain", 8 * _GIB, "4:4", SEGMENT): (700,),
    ("pte_chain", 64 * _GIB, "4:4", SEGMENT): (700,),
}
"""By design, RAM, split and segment: Andrea Arcangeli, LKML, 8 March 2004 (100 and 700: arithmetic) and 27 February 2004 (150; 700 "even on a 8G box (not only
on 64G boxes)"). His 6,000 to 7,500 users with windows of 512 MB are of 2.4-aa, which merges files' VMAs, on a box that is not told: no kernel here is that."""
NO_CALL = "no such call"
"""What is short where the kernel has not the call that maps the segment: nobody has come to need memory."""


class PerUser(NamedTuple):
    """Bytes that a user takes, on average; of an object in a slab, its share of that. `other`: stacks, and all slabs besides but the nodes of the segment's index."""

    page_tables: int
    reverse_map: int
    vmas: int
    other: int


@dataclass(frozen=True)
class SgaRow:
    """One kernel on one box. `users` have attached and touched the segment; the next one could not: with `arithmetic` that is computed, from `run` users that have."""

    kernel: str
    design: str
    hardware: dict[str, Any]
    how: str
    segment_bytes: int
    users: int
    run: int
    arithmetic: bool
    short_of: str
    """What could not be had, and where it must lie; by arithmetic, what will be short. NO_CALL: no user there could be."""
    then: str | None
    """What the kernel has made of that."""
    why: str | None
    """Where nobody gets on: who goes on trying."""
    per_user: PerUser
    """The mean over all `users`."""
    zones: dict[str, dict[str, int]]
    """Low and high memory, in bytes by what it is used for: at the first request that was not met, or after the last user that was run."""
    swap: dict[str, int]
    """pages_in, pages_out."""
    published: tuple[int, ...]
    wall_s: float = field(default=0.0, compare=False)

    @property
    def outcome(self) -> str:
        """As reports of other workloads call it."""
        return self.then or ""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes."""
        return {
            "kernel": self.kernel,
            "design": self.design,
            "hardware": self.hardware,
            "how": self.how,
            "segment_bytes": self.segment_bytes,
            "users": self.users,
            "users_run": self.run,
            "arithmetic": self.arithmetic,
            "short_of": self.short_of,
            "then": self.then,
            "why": self.why,
            "per_user_bytes": self.per_user._asdict(),
            "zones_bytes": self.zones,
            "swap": self.swap,
            "published_users": list(self.published) or None,
        }


def compare_sga(
    kernels: Sequence[str],
    boxes: Sequence[Box],
    segment: int | None,
    most: int,
    hows: Sequence[How],
    told: Callable[[str], None] = lambda _: None,
) -> tuple[Iterator[SgaRow], int]:
    """Rows, and how many there will be: each kernel on each box, the segment mapped in each way, with `most` users that are really there.

    `segment` in bytes; None: 2.7 GiB, or what a user's addresses hold. After each user `told` is how many there are. What can be refused is refused before the first: UsageError.
    """
    for kernel, box in product(kernels, boxes):
        _sga(_boot(kernel, box, segment), segment, How.WHOLE)
    cases = list(product(boxes, hows, kernels))
    return (_run(kernel, box, segment, most, how, told) for box, how, kernel in cases), len(cases)


def _boot(kernel: str, box: Box, segment: int | None) -> System:
    """With a kernel.shmmax for the segment, as who installs a database sets it."""
    return boot(kernel, box, shmmax=page_align(max(segment or 0, SEGMENT)))


def _sga(system: System, segment: int | None, how: How) -> Sga:
    size = min(SEGMENT, largest(system)) if segment is None else segment
    try:
        return Sga(system, size, how)
    except (SyscallError, NoMemory) as failure:
        raise UsageError(_refused(system, size, failure)) from None


def _refused(system: System, segment: int, failure: SyscallError | NoMemory) -> str:
    machine = system.machine
    free = (machine.allocator.nr_free + machine.swap_pages) * PAGE_SIZE
    why = f"{format_size(free)} are free, swap included" if segment > free else getattr(failure, "why", "") or failure
    ram = format_size(machine.hardware.ram_bytes)
    return f"a segment of {format_size(segment)} is refused on {ram}: {why}; try more --ram or a smaller --segment"


def _run(kernel: str, box: Box, segment: int | None, most: int, how: How, told: Callable[[str], None]) -> SgaRow:
    gc.collect()  # the RAM of the last one
    began = time.perf_counter()
    system = _boot(kernel, box, segment)
    sga = _sga(system, segment, how)
    run = _Users(system, sga)
    run.go(min(most, MOST_USERS), lambda users: told(f"{kernel}, {box.split or box.paging}: {users:,} users so far"))
    users, short_of, per_user = run.reached()
    hardware, counts = hardware_as_json(system), system.machine.ledger.counts
    design = system.kernel.design.name
    return SgaRow(
        system.spec.name,
        design,
        hardware,
        how.value,
        sga.segment,
        users,
        run.users,
        run.then is None,
        short_of,
        run.then,
        run.why,
        per_user,
        run.zones or zones(system, sga),
        {"pages_in": counts["swap_read"], "pages_out": counts["swap_write"]},
        PUBLISHED.get((design, hardware["ram_bytes"], hardware["split"], sga.segment), ()) if how is How.WHOLE else (),
        time.perf_counter() - began,
    )


class _Users:
    """Users on a system, until one more is not to be had: `then` says what came of that, `zones` what memory was at that moment."""

    def __init__(self, system: System, sga: Sga) -> None:
        self.system, self.sga = system, sga
        self.users = 0
        self.then: str | None = None
        self.why: str | None = None
        self.zones: dict[str, dict[str, int]] | None = None
        self.short_of = ""
        self._makes_room = system.killer is not None and system.machine.swap_pages > 0
        self.killer: OomKiller | None = None
        if self._makes_room:
            self.killer = system.killer
        elif not system.machine.swap_pages:
            self.killer = OomKiller(system.kernel)
        if self.killer is not None:
            self.killer.told = self._note
        self._reclaim: Callable[[int, int], None] = system.machine.allocator.reclaim
        system.machine.allocator.reclaim = self._not_met
        self._before = self._now = self._counted()

    def go(self, most: int, told: Callable[[int], None]) -> None:
        """Up to `most` users, as long as the host has memory for them; two at least: the first entry of a page needs no chain."""
        host = min(HOST_BYTES, _available() - HOST_SPARE)
        while self.then is None and (self.users < 2 or (self.users < most and self._held() < host)):
            self.then = self._attach()
            if self.then is None:
                self.users += 1
                self._now = self._counted()
                told(self.users)

    def per_user(self) -> PerUser:
        """What each of those that were run has taken, on average."""
        taken = (self._now - self._before) / max(self.users, 1)
        return PerUser(*(round(nr_bytes) for nr_bytes in taken.tolist()))

    def reached(self) -> tuple[int, str, PerUser]:
        """(Users, what was short then, what each of them has taken), by what has happened or by arithmetic: chain blocks come in rounds."""
        each = self.per_user()
        if self.then is not None:
            return self.users, self.short_of, each
        machine = self.system.machine
        low = machine.allocator.obtainable(Gfp.KERNEL) * PAGE_SIZE
        high = max(machine.allocator.obtainable(Gfp.HIGHUSER) * PAGE_SIZE - low, 0)
        lower, upper = self._could_go()
        low, high = low + lower, high + upper
        slots = self.system.kernel.design.page_slots
        a_round = each.reverse_map * self.users / -(-self.users // slots)

        middle = self.system.kernel.tables_at_birth * PAGE_SIZE  # these lie low, always
        leaves = each.page_tables - middle if high and machine.hardware.highpte else 0

        def reverse_map(users: int) -> float:
            return -(-users // slots) * a_round

        def fits(more: int) -> bool:
            in_high = min(more * leaves, high)
            added = reverse_map(self.users + more) - reverse_map(self.users)
            return more * (each.page_tables + each.vmas + each.other) - in_high + added <= low

        more = bisect_left(range(1, MOST_USERS - self.users + 1), True, key=lambda nr: not fits(nr))
        users = self.users + more
        short_of = "low memory" if machine.hardware.paging.split else "memory"
        if leaves and more * leaves >= high:
            short_of = "low memory, as high memory is full"
        mean = each._replace(reverse_map=round(reverse_map(users) / users))
        return users, "a pid" if users == MOST_USERS else short_of, mean

    def _could_go(self) -> tuple[int, int]:
        """Bytes of low and of high memory whose pages could be made room of: those on the lists, as far as there are slots."""
        machine, slots = self.system.machine, self.system.kernel.swap.nr_free if self._makes_room else 0
        by_zone = machine.allocator.lru.nr.sum(axis=1).tolist()
        high = min(sum(by_zone[2:]), slots)
        return min(sum(by_zone[:2]), slots - high) * PAGE_SIZE, high * PAGE_SIZE

    def _attach(self) -> str | None:
        """A user more; or what has become of it, or of another one in its place."""
        tasks = self.system.kernel.tasks
        before = [pid for pid, task in tasks.items() if task.exit_code is None]
        try:
            self.sga.attach()
        except SyscallError as failure:
            self.short_of = self.short_of or (NO_CALL if failure.errno == ENOSYS else failure.name)
            return f"{failure.call}: {failure.name}"
        except OomKilled:
            return "its fault kills the user"
        except Hung as failure:
            self.why = failure.why
            return HUNG
        except NoMemory as failure:
            if self.killer is not None and self.killer.kill_chosen():
                return "the OOM killer takes the user itself"
            return str(failure) if self._makes_room else "nobody makes room, and it waits for ever"
        gone = [pid for pid in before if pid not in tasks or tasks[pid].exit_code is not None]
        if gone:
            return f"the OOM killer takes user {gone[0] - self.sga.listener.pid} in its place"
        return None

    def _not_met(self, nr: int, order: int) -> None:
        """The allocator's hook: what the kernel does, and memory as it is when that comes to nothing."""
        if not self._makes_room:
            self._note()
        try:
            self._reclaim(nr, order)
        except NoMemory:
            if nr == 1:  # of more, the half is asked for next
                self._note()
            raise

    def _note(self) -> None:
        """Memory as it is, the first time: a request is not met."""
        if self.zones is None:
            unmet = self.system.machine.allocator.unmet
            self.zones = zones(self.system, self.sga)
            if unmet is not None:
                low = unmet.gfp is not Gfp.HIGHUSER and self.system.machine.hardware.paging.split
                self.short_of = f"{unmet.what}{', in low memory' if low else ''}"

    def _counted(self) -> Any:
        """Bytes, as PerUser has them."""
        machine, k = self.system.machine, self.system.kernel
        slabs = sum(map(_share, machine.caches.values())) - (_share(nodes) if (nodes := k.page_cache.nodes) else 0)
        reverse_map, vmas = sum(map(_share, k.design.caches())), _share(k.vma_cache)
        stacks = (len(k.tasks) << k.stack_order) * PAGE_SIZE
        counted = (machine.nr_tables * PAGE_SIZE, reverse_map, vmas, slabs - reverse_map - vmas + stacks)
        return np.array(counted, np.int64)

    def _held(self) -> int:
        """Bytes that the host holds for it."""
        return int(self._counted().sum())


def _share(cache: SlabCache) -> int:
    """Bytes of slabs that its objects take, without room for others."""
    return cache.nr_objects * (PAGE_SIZE << cache.packing.order) // cache.packing.per_slab


def _available() -> int:
    """Bytes that the host could give."""
    return int(read_fields("meminfo").get("MemAvailable", "0 kB").split()[0]) << 10


def zones(system: System, sga: Sga) -> dict[str, dict[str, int]]:
    """What low memory (DMA and NORMAL) and high memory are used for, in bytes. O(frames)."""
    machine, k = system.machine, system.kernel
    sides = {"low": machine.allocator.zones[:2], "high": machine.allocator.zones[2:]}
    kinds = {k.vma_cache.name: "vmas", **{cache.name: "reverse_map" for cache in k.design.caches()}}
    if k.page_cache.nodes is not None:
        kinds[k.page_cache.nodes.name] = "index"
    shmem = sga.file.shmem
    vector = np.array([] if shmem is None or shmem.vector is None else [*shmem.vector.pages.values()], np.int64)
    used: dict[str, dict[str, int]] = {}
    for side, members in sides.items():
        for zone in members:
            extent = slice(zone.start, zone.end)
            flags = machine.frames.flags[extent]
            slabs = np.bincount(machine.slab_pages.owner[extent], minlength=len(machine.caches) + 1)
            pages = {"reverse_map": 0, "vmas": 0, "index": 0, "other_slabs": 0}
            for nr, cache in enumerate(machine.caches.values(), 1):
                pages[kinds.get(cache.name, "other_slabs")] += int(slabs[nr]) << cache.packing.order
            segment = (machine.frames.mapping[extent] == sga.file.address) & (flags & (PG_TABLE | PG_SLAB) == 0)
            mem_map = system.boot_use.mem_map if zone.name == "NORMAL" else 0
            pages |= {
                "page_tables": int(np.count_nonzero(flags & PG_TABLE)),
                "swap_vector": int(np.count_nonzero((vector >= zone.start) & (vector < zone.end))),
                "segment": int(np.count_nonzero(segment)),
                "mem_map": mem_map,
                "boot": int(np.count_nonzero(flags & PG_RESERVED)) - mem_map,
                "free": zone.nr_free + zone.nr_listed,
            }
            pages["stacks"] = zone.end - zone.start - sum(pages.values())
            total = used.setdefault(side, dict.fromkeys(pages, 0))
            for what, nr in pages.items():
                total[what] += nr * PAGE_SIZE
    return used
