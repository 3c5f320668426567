"""Watermarks: how much of each zone a request must leave alone, depending on who asks. Two eras, two ideas.

    zone HIGHMEM  |#############################|    high   kswapd may rest
    zone NORMAL   |#########################|        low    kswapd is woken
    zone DMA      |####################|             min    who may sleep reclaims; the rest is for who may not

2.4 (the -aa form): a zone's mark is its size / 128, at most 255 pages, and a request that could have been met from a higher
zone leaves more of a lower one alone: a share of the higher zones' size (lower_zone_reserve). Each zone is tried against its
own mark.
2.6.2 to 2.6.6: all low zones together keep the square root of their size, each its share. On the way down the zone list the
marks add up: a request for high memory that ends in NORMAL must leave HIGHMEM's mark and NORMAL's together.
2.6.34 and later: four times that root, marks of 1, 1 + a step and 1 + two steps, and reserves by class again.

A *pass* is the list of zones in the order they are tried, each with the pages that must stay free. What a request may do
decides which passes it gets: everybody the low marks first, then kswapd is woken and the min marks are tried; who cannot
sleep may go below them.

Source: 2.6.2 mm/page_alloc.c, __alloc_pages and setup_per_zone_pages_min; 2.4.27 mm/page_alloc.c, free_area_init_core and
__alloc_pages; 6.x mm/page_alloc.c, __setup_per_zone_wmarks. Worked figures for 1 GB: eras.md 4.2.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from rmaplab.units import PAGE_SIZE

SWAP_CLUSTER_MAX = 32


class Gfp(Enum):
    """What a request may do to be met."""

    ATOMIC = "ATOMIC"  # cannot sleep; may dip into the reserve; low memory only
    KERNEL = "KERNEL"  # may sleep and reclaim; low memory only
    HIGHUSER = "HIGHUSER"  # may sleep and reclaim; any memory

    __hash__ = object.__hash__  # that of Enum is a call of Python, on the way of every page


class WatermarkRule(IntEnum):
    """Which kernel's marks."""

    CLASS_RESERVES = 1  # 2.4, -aa form
    SUMMED = 2  # 2.6.2 to 2.6.6
    STEPS = 3  # 2.6.34 and later; as 6.x sets them


@dataclass(frozen=True)
class Extent:
    """A zone as far as marks depend on it: name and present pages, those taken at boot included."""

    name: str
    present: int

    @property
    def is_high(self) -> bool:
        """Whether only user pages and, with HIGHPTE, page tables may lie in it."""
        return self.name == "HIGHMEM"


@dataclass(frozen=True)
class Marks:
    """One zone's marks, in pages."""

    min: int
    low: int
    high: int


Pass = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Watermarks:
    """All marks of a box. `passes[gfp]` is, for each pass, [(place of the zone, pages that must stay free)]."""

    zones: tuple[Marks, ...]
    passes: Mapping[Gfp, tuple[Pass, ...]]


def watermarks(rule: WatermarkRule, zones: Sequence[Extent], pages_min: int | None = None) -> Watermarks:
    """The marks of a box whose zones are given lowest first. `pages_min` overrides the sum of the low zones' min marks.

    The override is for boxes too small for any of the rules: a box of 256 frames would be all reserve.
    """
    return _RULES[rule](zones, pages_min)


def _class_reserves(zones: Sequence[Extent], pages_min: int | None) -> Watermarks:
    """2.4: per zone, and by class."""
    total = sum(zone.present for zone in zones)
    masks = [
        min(max(zone.present // 128, 20), 255) if pages_min is None else pages_min * zone.present // total
        for zone in zones
    ]
    marks = tuple(Marks(mask, 2 * mask, 3 * mask) for mask in masks)

    def reserve(place: int, best: int) -> int:
        """Pages of a zone kept from requests whose best zone is a higher one."""
        above = sum(zone.present for zone in zones[place + 1 : best + 1])
        return 0 if pages_min is not None or not above else above // (256 if zones[place].name == "DMA" else 32)

    passes: dict[Gfp, tuple[Pass, ...]] = {}
    for gfp in Gfp:
        best = _best(zones, gfp)
        order = range(best, -1, -1)
        low = tuple((i, marks[i].low + reserve(i, best)) for i in order)
        least = [(i, marks[i].min + reserve(i, best)) for i in order]
        passes[gfp] = (low, tuple((i, mark // 4) for i, mark in least) if gfp is Gfp.ATOMIC else tuple(least))
    return Watermarks(marks, passes)


def _summed(zones: Sequence[Extent], pages_min: int | None) -> Watermarks:
    """2.6.2: shares of a square root, added up along the zone list."""
    low_pages = sum(zone.present for zone in zones if not zone.is_high)
    if pages_min is None:
        pages_min = min_free_pages(low_pages)
    marks = []
    for zone in zones:
        if zone.is_high:
            floor = min(max(zone.present // 1024, SWAP_CLUSTER_MAX), 128)
        else:
            floor = pages_min * zone.present // low_pages
        marks.append(Marks(floor, 2 * floor, 3 * floor))
    passes: dict[Gfp, tuple[Pass, ...]] = {}
    for gfp in Gfp:
        low: list[tuple[int, int]] = []
        least: list[tuple[int, int]] = []
        low_sum = least_sum = 0
        for i in range(_best(zones, gfp), -1, -1):
            low_sum += marks[i].low
            least_sum += marks[i].min >> (2 if gfp is Gfp.ATOMIC else 0)  # __GFP_HIGH
            # who cannot wait is also served where free is at the high mark: a test without the "1 +" of the others
            spared = marks[i].high - 1 if gfp is Gfp.ATOMIC else low_sum
            low.append((i, min(low_sum, spared)))
            least.append((i, min(least_sum, spared)))
        passes[gfp] = (tuple(low), tuple(least))
    return Watermarks(tuple(marks), passes)


def _steps(zones: Sequence[Extent], pages_min: int | None) -> Watermarks:
    """6.x: min, and two steps above it."""
    total = sum(zone.present for zone in zones)
    if pages_min is None:
        kilobytes = math.isqrt(total * (PAGE_SIZE // 1024) * 16)
        pages_min = min(max(kilobytes, 128), 262144) * 1024 // PAGE_SIZE
    marks = []
    for zone in zones:
        least = pages_min * zone.present // total
        step = max(least // 4, zone.present // 1000)
        marks.append(Marks(least, least + step, least + 2 * step))
    passes: dict[Gfp, tuple[Pass, ...]] = {}
    for gfp in Gfp:
        best = _best(zones, gfp)
        low, least_marks = [], []
        for i in range(best, -1, -1):
            reserve = sum(zone.present for zone in zones[i + 1 : best + 1]) // 256
            low.append((i, marks[i].low + reserve))
            floor = marks[i].min // 2 * 3 // 4 if gfp is Gfp.ATOMIC else marks[i].min
            least_marks.append((i, floor + reserve))
        passes[gfp] = (tuple(low), tuple(least_marks))
    return Watermarks(tuple(marks), passes)


def min_free_pages(low_pages: int) -> int:
    """min_free_kbytes of 2.6.2 in pages: the square root of the low memory in KiB, in KiB, clamped to [128, 16384]."""
    kilobytes = low_pages * PAGE_SIZE // 1024
    return min(max(math.isqrt(kilobytes), 128), 16384) * 1024 // PAGE_SIZE


def _best(zones: Sequence[Extent], gfp: Gfp) -> int:
    """The highest zone a request may be met from."""
    return max(i for i, zone in enumerate(zones) if gfp is Gfp.HIGHUSER or not zone.is_high)


_RULES = {
    WatermarkRule.CLASS_RESERVES: _class_reserves,
    WatermarkRule.SUMMED: _summed,
    WatermarkRule.STEPS: _steps,
}
