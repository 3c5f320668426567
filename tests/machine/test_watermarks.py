"""Watermarks against worked figures: eras.md 4.2 has those of a 1 GB i386 box, page by page.

DMA 4096 pages | NORMAL 225,280 | HIGHMEM 32,768
"""

import pytest

from rmaplab.machine.watermarks import Extent, Gfp, Marks, WatermarkRule, min_free_pages, watermarks

ONE_GB = [Extent("DMA", 4096), Extent("NORMAL", 225_280), Extent("HIGHMEM", 32_768)]
DMA, NORMAL, HIGHMEM = range(3)


def test_2_6_2_adds_the_marks_up_along_the_zone_list() -> None:
    """2.6.2: HIGHUSER needs 1+64, 1+64+468, 1+64+468+8; GFP_KERNEL in NORMAL 469 in pass 1, 235 in pass 2."""
    low, least = watermarks(WatermarkRule.SUMMED, ONE_GB).passes[Gfp.HIGHUSER]
    assert low == ((HIGHMEM, 64), (NORMAL, 64 + 468), (DMA, 64 + 468 + 8))
    assert least == ((HIGHMEM, 32), (NORMAL, 32 + 234), (DMA, 32 + 234 + 4))
    low, least = watermarks(WatermarkRule.SUMMED, ONE_GB).passes[Gfp.KERNEL]
    assert (dict(low)[NORMAL] + 1, dict(least)[NORMAL] + 1) == (469, 235)
    assert HIGHMEM not in dict(low)


def test_2_4_tries_each_zone_by_itself_and_keeps_low_ones_for_who_needs_them() -> None:
    """2.4: HIGHUSER needs more than 510, 510+1024, 64+1008; GFP_KERNEL in NORMAL more than 510."""
    low, least = watermarks(WatermarkRule.CLASS_RESERVES, ONE_GB).passes[Gfp.HIGHUSER]
    assert low == ((HIGHMEM, 510), (NORMAL, 510 + 1024), (DMA, 64 + 1008))
    assert least == ((HIGHMEM, 255), (NORMAL, 255 + 1024), (DMA, 32 + 1008))
    assert dict(watermarks(WatermarkRule.CLASS_RESERVES, ONE_GB).passes[Gfp.KERNEL][0])[NORMAL] == 510


@pytest.mark.parametrize("rule", WatermarkRule)
def test_who_cannot_sleep_goes_lower_and_nobody_lower_than_nothing(rule: WatermarkRule) -> None:
    """ATOMIC's last marks are at most KERNEL's, zone by zone; both are at or above 0, and low marks above min marks."""
    passes = watermarks(rule, ONE_GB).passes
    for (zone, atomic), (same, kernel) in zip(passes[Gfp.ATOMIC][1], passes[Gfp.KERNEL][1], strict=True):
        assert zone == same
        assert 0 <= atomic <= kernel
    for gfp in Gfp:
        first, last = passes[gfp]
        assert all(low >= least for (_, low), (_, least) in zip(first, last, strict=True))


@pytest.mark.parametrize(
    ("low_mib", "min_free_kbytes"),
    [(16, 128), (32, 181), (64, 256), (128, 362), (256, 512), (512, 724), (896, 957), (1024, 1024), (4096, 2048)],
)
def test_min_free_kbytes(low_mib: int, min_free_kbytes: int) -> None:
    """The comment above init_per_zone_pages_min, 2.6.2 mm/page_alloc.c; 957 kB for 896 MB is history.md 2.6."""
    assert min_free_pages(low_mib * 256) == min_free_kbytes // 4


def test_highmem_has_a_mark_of_its_own() -> None:
    """Present / 1024 within [32, 128]: "highmem 128 MB: 32/64/96" (history.md 2.6)."""
    assert watermarks(WatermarkRule.SUMMED, ONE_GB).zones[HIGHMEM] == Marks(32, 64, 96)
    for present, least in ((4096, 32), (65_536, 64), (1 << 20, 128)):
        box = [*ONE_GB[:2], Extent("HIGHMEM", present)]
        assert watermarks(WatermarkRule.SUMMED, box).zones[HIGHMEM].min == least


def test_an_override_for_tiny_boxes() -> None:
    """256 frames are below every rule's least; told 8, a zone keeps 8 / 16 / 24, on either rule."""
    for rule in (WatermarkRule.SUMMED, WatermarkRule.CLASS_RESERVES):
        assert watermarks(rule, [Extent("DMA", 256)], pages_min=8).zones == (Marks(8, 16, 24),)
        assert watermarks(rule, [Extent("DMA", 256)], pages_min=0).passes[Gfp.KERNEL] == (((0, 0),), ((0, 0),))
