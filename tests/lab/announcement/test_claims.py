"""The memory claims: arithmetic and machine agree, and both with what was published (history.md 2.1, 2.4, 3.1)."""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.lab.announcement import claims
from rmaplab.lab.announcement.claims import MIB, Claim, Reach

MIB_AT_BOOT = {"2.4.21": 48, "2.6.2": 44, "2.6.5-rc1-aa1": 40}


def test_struct_page_gives_four_bytes_back_with_pae_and_highpte_alone() -> None:
    """history.md 2.1: 44 -> 40 there, 40 -> 40 elsewhere on i386, 80 -> 80 on x86-64; 48 and 88 in 2.4."""
    found = {claim.about: claim for claim in claims.page_struct_claims()}
    assert all(claim.arithmetic == claim.machine for claim in found.values())

    def size(kernel: str, where: str) -> int:
        return found[f"{kernel}, {where}"].machine

    gains = {
        w: size("2.6.2", w) - size("2.6.5-rc1-aa1", w) for w in ("i386", "i386-pae", "i386-pae, HIGHPTE", "x86-64")
    }
    assert gains == {"i386": 0, "i386-pae": 0, "i386-pae, HIGHPTE": 4, "x86-64": 0}
    assert (size("2.4.21", "i386-pae"), size("2.4.21", "x86-64")) == (48, 88)


def test_mem_map_from_1_to_64_gib() -> None:
    """history.md 2.1's table: 12/11/10 MiB at 1 GB ... 768/704/640 at 64."""
    found = list(claims.mem_map_claims())
    assert all(claim.arithmetic == claim.machine for claim in found)
    by_name = {claim.about: claim.machine for claim in found}
    for kernel, size in MIB_AT_BOOT.items():
        for gib in (1, 4, 16, 32, 64):
            assert by_name[f"{kernel}, {gib} GiB"] == size * gib * MIB // 4


def test_page_tables_at_level_9() -> None:
    """history.md 3.1: 256 MiB without PAE, 512 with, besides the upper tables; "about 400" is more than the one can be."""
    flat, pae = claims.table_claims()
    assert flat.arithmetic == flat.machine == (256 + 2) * MIB
    assert pae.arithmetic == pae.machine == (512 + 6) * MIB
    assert flat.machine < 400 * MIB < pae.machine


def test_chains_at_every_level_and_line_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks a page by history.md 3.1 (7 slots: 10, 19, 37, 74; 15: 5, 9, 18, 35; 31: 3, 5, 9, 17), slabs by eras.md 4.4."""
    monkeypatch.setattr(claims, "LEVELS", (6, 7))
    found = {claim.about: claim for claim in claims.chain_claims()}
    assert all(claim.arithmetic == claim.machine for claim in found.values())
    per_slab = {32: 113, 64: 59, 128: 30}
    blocks = {
        ("32", ""): (10, 19),
        ("64", ""): (5, 9),
        ("128", ""): (3, 5),
        ("64", ", HIGHPTE"): (10, 19),
        ("128", ", HIGHPTE"): (5, 9),
    }
    for (line, highpte), counts in blocks.items():
        for level, nr in zip((6, 7), counts, strict=True):
            slabs = -(-4096 * nr // per_slab[int(line)])
            assert found[f"level {level}, {line}-byte lines{highpte}"].machine == slabs * 32 * 4096


@pytest.mark.parametrize("highpte", [False, True])
def test_the_need_decides_at_the_border(highpte: bool) -> None:
    """With as much low memory as was measured the processes fit, with a MiB less they need reclaim."""
    size, nr = 8 << 20, 40
    need = claims.low_memory_need("2.6.2", nr, highpte=highpte, size=size, ram="2G")
    free = claims.low_memory_free("2.6.2", 2, highpte=highpte, split="3:1")
    for spare, fits in ((MIB, True), (-MIB, False)):
        system = rmaplab.boot("2.6.2", ram="2G", highpte=highpte, overcommit=1)
        allocator = system.machine.allocator
        hog = (free - need - spare) // 4096
        allocator.alloc(hog, rmaplab.machine.allocator.Gfp.KERNEL)
        parent = system.spawn()
        parent.touch(parent.mmap(size), size, write=True)
        try:
            for _ in range(nr - 1):
                parent.fork()
            assert fits
        except rmaplab.NoMemory:
            assert not fits


def test_chains_shorten_the_reach_of_3_1() -> None:
    """Few processes, the same order: with chains the least RAM can be used; HIGHPTE lengthens it for who keeps no chains."""
    cases = [("2.6.2", True), ("2.6.5-rc1-aa1", True), ("2.6.5-rc1-aa1", False)]
    chains, objects, tables_low = claims.reaches(64, cases=cases)
    assert objects.low_need_bytes < tables_low.low_need_bytes < chains.low_need_bytes
    assert objects.largest_gib == 64
    with pytest.raises(UsageError, match="try fewer"):
        claims.low_memory_need("2.6.2", 50, highpte=True, ram="600M")


def test_a_difference_is_shown() -> None:
    """A claim whose two sides differ says both; one that agrees says so once."""
    from rmaplab.report.claims import both

    assert both(Claim("x", 48, 48, "bytes"), human=False) == "48 ="
    assert both(Claim("x", 48, 52, "bytes"), human=False) == "48, machine: 52"
    assert Reach("x", True, "3:1", 1, 1, {1: 1}, None).as_json()["largest_gib"] is None


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2"])
def test_too_many_processes_for_the_box_is_one_line(kernel: str) -> None:
    """Whether a kernel then returns nothing (2.4 without swap) or would reclaim."""
    with pytest.raises(UsageError, match="try fewer"):
        claims.low_memory_need(kernel, 2000, highpte=False, size=1 << 20, ram="64M")
