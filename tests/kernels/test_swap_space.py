"""The swap of a box: what is written, what is made of it, and that pages go where they should.

box        "16K@1, 32K@7, ./area@7"
list       the file and 32K in turn, then 16K
"""

import os
from pathlib import Path

import pytest

from rmaplab import UsageError, boot
from rmaplab.cache.area_store import FileAreaStore, MemoryAreaStore
from rmaplab.cache.swap_area import SwapHeader, write_header
from rmaplab.errors import SyscallError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.swap_space import SwapWords, parse_swap
from rmaplab.kernels.system import System
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.machine.pagetable import lookup
from rmaplab.reclaim.page_out import page_out
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

everywhere = pytest.mark.parametrize(
    ("kernel", "paging"), [(kernel, paging) for kernel in EVERY_KIND for paging in find_kernel(kernel).architectures]
)


def area_file(path: Path, pages: int, header: SwapHeader | None = None) -> Path:
    """As mkswap leaves a file of `pages` pages."""
    page = write_header(header or SwapHeader(pages - 1))
    path.write_bytes(page + b"\xee" * (pages - 1) * PAGE_SIZE)
    return path


@pytest.mark.parametrize(
    ("words", "areas"),
    [
        ("0", []),
        (0, []),
        ("4095", []),
        ("64M", [(64 << 20, None)]),
        (4096, [(4096, None)]),
        (" 32M@5 , 1G@0,8K", [(32 << 20, 5), (1 << 30, 0), (8192, None)]),
        ("/a/b@3,./c@x,d/e@@7", [(Path("/a/b"), 3), (Path("./c@x"), None), (Path("d/e@"), 7)]),
        (Path("area@7"), [(Path("area@7"), None)]),
        (["16K@32767", 8192, Path("area")], [(16384, 32767), (8192, None), (Path("area"), None)]),
        ([], []),
    ],
)
def test_words_and_what_they_mean(words: SwapWords, areas: list[tuple[int | Path, int | None]]) -> None:
    assert parse_swap(words) == [(*area, None) for area in areas]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("swap", "'swap' is no swap: write a size such as 64M or a file"),
        ("", "'' is no swap"),
        (
            "64M,cript=twofish",
            r"'cript=' is nothing of swap \(did you mean crypt\?\): write it behind a size or a file",
        ),
        ("prio=5,64M", "'prio=5' is no swap: write a size such as 64M or a file such as ./swap, each with @PRIORITY"),
        ("a=b", r"'a=b' is no swap: write a size such as 64M or a file such as \./swap"),
        ("64M,crypt", "'crypt' is no swap by itself: write it behind a size or a file, such as 64M,crypt=twofish"),
        ("64M,Twofish", "'Twofish' is no swap by itself"),
        ("64M,twofish", "'twofish' is no swap by itself: write it behind a size or a file, such as 64M,crypt=twofish"),
        (None, "'None' is no swap: write a size such as 64M or a file"),
        ([None], "'None' is no swap"),
        (1.5, "'1.5' is no swap"),
        (b"64M", "is no swap"),
        ("32M,", "'' is no swap"),
        ("32M@x", "'32M@x' is no swap"),
        ("32M@32768", "a swap priority of 32768: give 0 to 32767"),
        ("32M@-1", "a swap priority of -1"),
        (-4096, "-4096 bytes of swap: give a size of 0 or more"),
        (["8K", -1], "-1 bytes"),
        ("./missing\n", r"cannot open missing\.?.*No such file.*give swap a file that is there"),
        ("/dev/null@1", "/dev/null: slots are kept in regular files only: name one"),
        ("./", "Is a directory"),
    ],
)
def test_what_is_no_swap(words: SwapWords, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=why) as refused:
        boot("2.6.2", ram="64M", swap=words)
    assert "\n" not in str(refused.value)


def test_a_file_is_checked_as_swapon_does(tmp_path: Path) -> None:
    """Its signature, its length, its bad pages, its holes, and whether it is on already: one line each, and the errno."""
    plain = tmp_path / "plain"
    plain.write_bytes(b"\xee" * 8 * PAGE_SIZE)
    short = area_file(tmp_path / "short", 8, SwapHeader(99))
    hollow = tmp_path / "hollow"
    hollow.write_bytes(write_header(SwapHeader(99)))
    os.truncate(hollow, 100 * PAGE_SIZE)
    cases = {
        plain: "plain: there is no swap-space signature .EINVAL of swapon.: prepare a file with mkswap",
        short: "short: the swap area has 8 pages, its header says 99 .EINVAL",
        hollow: "hollow has holes .EINVAL",
    }
    for path, why in cases.items():
        with pytest.raises(UsageError, match=why):
            boot("2.6.7", ram="64M", swap=str(path))
    good = area_file(tmp_path / "good", 8)
    with pytest.raises(UsageError, match=r"good is swapped to already .EBUSY"):
        boot("2.6.7", ram="64M", swap=[good, good])
    one = boot("2.6.7", ram="64M", swap=good)
    with pytest.raises(UsageError, match="EBUSY"):
        boot("2.6.7", ram="64M", swap=good)
    assert one.kernel.swap.nr_free == 6
    one.close()
    assert boot("2.6.7", ram="64M", swap=good).kernel.swap.nr_free == one.kernel.swap.nr_free
    assert plain.read_bytes() == b"\xee" * 8 * PAGE_SIZE


def test_the_last_page_and_bad_ones_of_a_file(tmp_path: Path) -> None:
    """Up to 2.6.7 the last page is never used; a file with bad pages is taken then, and later is not (F.8)."""
    path = area_file(tmp_path / "area", 8)
    assert {
        kernel: boot(kernel, ram="64M", swap=path).kernel.swap.nr_free for kernel in ("2.4.21", "2.6.7", "6.18")
    } == {"2.4.21": 6, "2.6.7": 6, "6.18": 7}
    bad = area_file(tmp_path / "bad", 8, SwapHeader(7, (3,)))
    assert boot("2.6.2", ram="64M", swap=bad).kernel.swap.nr_free == 5
    with pytest.raises(UsageError, match="a file has no bad pages"):
        boot("6.18", ram="64M", swap=bad)


def test_all_areas_count_for_overcommit(tmp_path: Path) -> None:
    """Sizes as they are given, a file by its good pages: also where the kernel looks at all there is."""
    path = area_file(tmp_path / "area", 12)
    system = boot("2.6.7", ram="64M", swap=["16K@1", "32K", path], overcommit=2, overcommit_ratio=0)
    assert system.machine.swap_pages == system.kernel.overcommit.swap == 4 + 8 + 10
    task = system.spawn(root=True)
    task.mmap(21 * PAGE_SIZE)
    with pytest.raises(SyscallError, match="mode 2"):
        task.mmap(PAGE_SIZE)


class Stage:
    """Pages of one task, which go out one by one."""

    def __init__(self, system: System, pages: int) -> None:
        self.system, self.k = system, system.kernel
        self.task = system.spawn()
        self.at = self.task.mmap(pages * PAGE_SIZE)
        for i in range(pages):
            self.task.write(self.at + i * PAGE_SIZE, b"page %3d" % i * 512)
        self.k.lru_add.drain_all()

    def entry(self, i: int) -> int:
        assert self.task.mm is not None
        return lookup(*self.system.machine.geometry, self.task.mm.pgd, self.at + i * PAGE_SIZE)[0]

    def out(self, i: int) -> tuple[int, int]:
        """The area and the slot that its entry names."""
        while not page_out(self.k, self.entry(i) >> PAGE_SHIFT):
            assert self.entry(i) & self.system.machine.mapped
        return self.system.machine.encoding.swap_slot(self.entry(i))


@everywhere
def test_pages_go_to_the_areas_in_order_and_come_back(kernel: str, paging: str, tmp_path: Path) -> None:
    """In turn between those of priority 7, then to the last; entries say so in each era's bits; the file has its bytes where Linux would look."""
    path = area_file(tmp_path / "area", 8)
    slots = 7 if find_kernel(kernel).rules(8).swap_uses_last_page else 6
    stage = Stage(boot(kernel, ram="64M", paging=paging, swap=["16K@1", "16K@7", f"{path}@7"]), 5 + slots)
    system, swap = stage.system, stage.k.swap
    assert [type(store) for store in swap.stores] == [MemoryAreaStore, MemoryAreaStore, FileAreaStore]
    found = [stage.out(i) for i in range(5 + slots)]
    assert found[:6] == [(2, 1), (1, 1), (2, 2), (1, 2), (2, 3), (1, 3)]
    assert found[6:] == [*((2, n) for n in range(4, slots + 1)), (0, 1), (0, 2)]
    system.check()
    whole = path.read_bytes()
    for i, (area, slot) in enumerate(found):
        if area == 2:
            assert whole[slot * PAGE_SIZE :][:8] == b"page %3d" % i
    for i in range(5 + slots):
        assert stage.task.read(stage.at + i * PAGE_SIZE, PAGE_SIZE) == b"page %3d" % i * 512
    system.check()
    stage.task.exit()
    system.check()
    assert not swap.nr_used - len(swap.cached)


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1-aa1", "2.6.7"])
def test_three_areas_under_pressure(kernel: str, tmp_path: Path) -> None:
    """Three times what RAM has, patterned, over an area in memory, a file, and one that is used when both are full."""
    path = area_file(tmp_path / "area", 40)
    system = boot(
        kernel, ram=96 * PAGE_SIZE, swap=["160K@3", f"{path}@3", "1M"], boot_use=0, pages_min=4, overcommit=1, paging="i386"
    )  # fmt: skip
    install(system)
    task, pages = system.spawn(), 240
    at = task.mmap(pages * PAGE_SIZE)
    for i in range(pages):
        task.write(at + i * PAGE_SIZE, b"%8d" % i * 512)
    assert all(area.nr_free < area.pages for area in system.kernel.swap.areas.areas)
    system.check()
    for i in range(0, pages, 3):
        assert task.read(at + i * PAGE_SIZE, PAGE_SIZE) == b"%8d" % i * 512
    system.check()
