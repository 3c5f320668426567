"""Overcommit: may a process be promised so many more pages? vm_enough_memory, and what it adds up.

    mode 0   heuristic   what is free now, free swap, caches ...        more than is asked for?      nothing is remembered
    mode 1   always      yes
    mode 2   strict      RAM x ratio % + swap                           more than all promises?      committed pages count

Mode 0 compares one request with what is free at that moment, not the sum of all promises. That is why a benchmark of 2^L
processes with 512 MiB each can fork at all, and why it fails as soon as page tables and chains have eaten what is free.

Swap counts although nothing is swapped. The page cache and reclaimable slab count too, and there are none in this house: a
box's boot use stands for what neither can give back.

Sources: 2.6.2 security/commoncap.c, cap_vm_enough_memory; 2.4.27 mm/mmap.c, vm_enough_memory; 6.x mm/util.c,
__vm_enough_memory; eras.md 4.6 for where each kernel charges.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from rmaplab.mm.rules import Rules


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


@dataclass(frozen=True)
class Overcommit:
    """The rule of one box. Pages."""

    rules: Rules
    mode: OvercommitMode
    ratio: int
    """Percent of RAM that mode 2 promises (vm.overcommit_ratio)."""
    totalram: int
    swap: int
    """All of it is free: nothing is swapped yet."""

    def allows(self, request: Request) -> bool:
        """Whether a request passes in the state it met."""
        rules = self.rules
        nr_pages, nr_free, committed = request
        if self.mode is not _HEURISTIC:
            if self.mode is OvercommitMode.ALWAYS or not rules.overcommit_strict:
                return True
            return committed + nr_pages < self.limit
        if rules.overcommit_totals:
            return nr_pages <= self.totalram + self.swap
        free = nr_free + self.swap
        if rules.root_reserve_divisor:
            free -= free // rules.root_reserve_divisor
        return free > nr_pages

    @property
    def counts_noreserve(self) -> bool:
        """Mode 2 charges MAP_NORESERVE too (do_mmap_pgoff: sysctl_overcommit_memory > 1)."""
        return self.mode is OvercommitMode.STRICT and self.rules.overcommit_strict

    @property
    def limit(self) -> int:
        """Mode 2: all promises together stay below it."""
        return self.totalram * self.ratio // 100 + self.swap
