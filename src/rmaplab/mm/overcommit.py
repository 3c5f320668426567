"""Overcommit: may a process be promised so many more pages? vm_enough_memory, and what it adds up.

    mode 0   heuristic   what is free now, free swap, caches ...        more than is asked for?      nothing is remembered
    mode 1   always      yes
                         today: all RAM and swap, free or not
    mode 2   strict      RAM x ratio % + swap, less reserves            more than all promises?      committed pages count

Mode 0 compares one request with what is free at that moment, not the sum of all promises. That is why a benchmark of 2^L
processes with 512 MiB each can fork at all, and why it fails as soon as page tables and chains have eaten what is free.

Free swap counts, and of the swap that is used what the swap cache has in memory too, as page cache. Other page cache and reclaimable slab count too, and there are none in this house: a
box's boot use stands for what neither can give back.

Two reserves of mode 2, as they are set at boot: one for root, which others may not have, and one that a process may not have of what it has
already, a 32nd of that. (The counters of promises are exact here; 6.18 adds them up from CPUs in batches.)

Sources: 2.6.2 security/commoncap.c, cap_vm_enough_memory; 2.4.27 mm/mmap.c, vm_enough_memory; 6.x mm/util.c,
__vm_enough_memory, and mm/mmap.c, init_admin_reserve, init_user_reserve; eras.md 4.6 for where each kernel charges.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from rmaplab.mm.rules import Rules
from rmaplab.units import PAGE_SIZE

PAGE_KIB = PAGE_SIZE >> 10
UNBOUND = 1 << 62


class OvercommitMode(IntEnum):
    """vm.overcommit_memory."""

    HEURISTIC = 0
    ALWAYS = 1
    STRICT = 2


_HEURISTIC = OvercommitMode.HEURISTIC


class Request(NamedTuple):
    """A request and what it met, in pages: so that it can be asked again under another mode or with other swap."""

    nr_pages: int
    nr_free: int
    committed: int
    total_vm: int = 0
    """What the process that asks has mapped already."""
    root: bool = False
    """Whether it has CAP_SYS_ADMIN."""
    swapped: int = 0
    """Slots of swap that are used and have no page in the swap cache."""


@dataclass(frozen=True)
class Overcommit:
    """The rule of one box. Pages."""

    rules: Rules
    mode: OvercommitMode
    ratio: int
    """Percent of RAM that mode 2 promises (vm.overcommit_ratio)."""
    totalram: int
    swap: int
    """All of it, used or not."""
    nr_free_at_boot: int = 0

    def allows(self, request: Request) -> bool:
        """Whether a request passes in the state it met."""
        return request.nr_pages <= self._room(request)[0]

    def refusal(self, request: Request) -> str:
        """Why it does not, in words."""
        room, what = self._room(request)
        return f"overcommit: {request.nr_pages:,} pages are asked for, more than {what}: {max(room, 0):,}"

    def _room(self, request: Request) -> tuple[int, str]:
        """(The most pages that this request may be for, what they are.)"""
        rules = self.rules
        if self.mode is not _HEURISTIC:
            if self.mode is OvercommitMode.ALWAYS or not rules.overcommit_strict:
                return UNBOUND, ""
            left = self.limit - self._kept_from(request) - request.committed
            return left - 1, "the limit of promises leaves (mode 2)"
        if rules.overcommit_totals:
            return self.totalram + self.swap, "all RAM and swap"
        free = request.nr_free + self.swap - request.swapped
        if rules.root_reserve_divisor and not request.root:
            free -= free // rules.root_reserve_divisor
        return free - 1, "what is free, with swap"

    def _kept_from(self, request: Request) -> int:
        """Mode 2: pages of the limit that this process may not have."""
        most_admin, most_user = self.rules.admin_reserve_kib // PAGE_KIB, self.rules.user_reserve_kib // PAGE_KIB
        admin = 0 if request.root else min(self.nr_free_at_boot // 32, most_admin)
        return admin + min(request.total_vm // 32, self.nr_free_at_boot // 32, most_user)

    @property
    def counts_noreserve(self) -> bool:
        """Mode 2 charges MAP_NORESERVE too (do_mmap_pgoff: sysctl_overcommit_memory > 1)."""
        return self.mode is OvercommitMode.STRICT and self.rules.overcommit_strict

    @property
    def limit(self) -> int:
        """Mode 2: all promises together stay below it, less reserves."""
        return self.totalram * self.ratio // 100 + self.swap
