"""The box as a kernel lays it out: splits, zones, what is taken at boot, very large and very small boxes.

| image | DMA | mem_map | NORMAL ... | HIGHMEM ... |      free = RAM - image - mem_map - boot use, wherever it lies
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import pytest

import rmaplab
from rmaplab import boot
from rmaplab.errors import SyscallError, UsageError
from rmaplab.kernels.box import Box, announced
from rmaplab.kernels.prices import price_books
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.frames import PG_RESERVED
from rmaplab.machine.paging import SPLITS
from rmaplab.objects.flags import IPC_PRIVATE
from rmaplab.units import PAGE_SIZE, parse_size

GIB = 1 << 30
MIB = 1 << 20


@pytest.mark.parametrize(
    ("split", "lowmem_mib", "task_mib", "middle_tables"),
    [
        ("3:1", 896, 3072, 3),  # 1024 - 128 for vmalloc; three user pmds with PAE (history.md 2.4, 2.5)
        ("2:2", 1920, 2048, 2),  # CONFIG_2GB: PAGE_OFFSET 0x80000000
        ("4:4", 3936, 4080, 4),  # PAGE_OFFSET 0x02000000, TASK_SIZE 0xff000000
    ],
)
def test_splits(split: str, lowmem_mib: int, task_mib: int, middle_tables: int) -> None:
    """What each side has of 4 GiB, and how many middle tables come with a PAE pgd."""
    system = rmaplab.boot("2.6.2", ram="8G", split=split)
    zones = {zone.name: zone for zone in system.machine.allocator.zones}
    assert zones["NORMAL"].end * PAGE_SIZE == lowmem_mib * MIB
    assert zones["HIGHMEM"].end * PAGE_SIZE == 8 * GIB
    task = system.spawn()
    assert task.mm is not None
    assert task.mm.nr_tables == middle_tables
    last = task_mib * MIB - PAGE_SIZE
    task.mmap(PAGE_SIZE, 3, 0x32, last)
    task.write(last, b"the last page")
    with pytest.raises(rmaplab.SyscallError):
        task.mmap(PAGE_SIZE, 3, 0x32, last + PAGE_SIZE)
    child = task.fork()
    assert child.read(last, 13) == b"the last page"
    assert len(system.who_maps(child, last)) == 2
    system.check()
    child.exit()
    task.exit()
    system.check()


@pytest.mark.parametrize("highpte", [True, False])
@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1-aa1"])
def test_what_lies_high(kernel: str, highpte: bool) -> None:
    """User pages; with HIGHPTE leaf tables; never chains, VMAs, stacks, middle tables (history.md 2.4, 2.5)."""
    system = rmaplab.boot(kernel, ram="2G", highpte=highpte)
    task = system.spawn()
    area = task.mmap("64M")
    task.touch(area, "64M", write=True)
    child = task.fork()
    machine = system.machine
    border = machine.paging.lowmem_bytes // PAGE_SIZE
    leaf, upper = [], []
    for mm in (task.mm, child.mm):
        assert mm is not None
        entries = machine.words[mm.pgd // 8 : mm.pgd // 8 + 3] >> 12
        upper += entries.tolist()
        for table in entries.tolist():
            words = machine.words[table * 512 : table * 512 + 512]
            leaf += (words[words != 0] >> 12).tolist()
    assert len(leaf) == 2 * 32
    assert max(upper) < border
    assert (min(leaf) >= border) == highpte
    assert (max(leaf) >= border) == highpte
    data = [int(machine.words[table * 512] >> 12) for table in leaf if machine.words[table * 512]]
    assert min(data) >= border
    slabs = machine.slab_pages.owner.nonzero()[0]
    assert slabs.max() < border
    assert max(int(t.stack[0]) for t in (task, child)) < border
    system.check()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"])
def test_a_box_of_64_gib(kernel: str) -> None:
    """mem_map takes 512 to 768 MiB of 896 (history.md 2.1), the machine goes on, and costs the host next to nothing."""
    system = rmaplab.boot(kernel, ram="64G")
    low = [zone for zone in system.machine.allocator.zones if zone.name != "HIGHMEM"]
    page_struct = {"2.4.21": 48, "2.6.2": 44, "2.6.5-rc1-aa1": 40}[kernel]
    assert system.boot_use.mem_map * PAGE_SIZE == page_struct * (64 << 18)
    assert sum(zone.nr_free for zone in low) * PAGE_SIZE < (896 - page_struct * 16) * MIB
    task = system.spawn()
    area = task.mmap("512M")
    task.touch(area, "512M", write=True)
    task.fork().exit()
    task.exit()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"])
def test_a_box_of_256_frames(kernel: str) -> None:
    """1 MiB, a watermark of our own, nothing taken but mem_map: it boots, forks, runs out, and all adds up."""
    system = rmaplab.boot(kernel, ram="1M", boot_use=0, pages_min=4, overcommit=1)
    assert [zone.name for zone in system.machine.allocator.zones] == ["DMA"]
    task = system.spawn()
    area = task.mmap("1M")
    with pytest.raises((rmaplab.NoMemory, rmaplab.OomKilled)):  # 2.4 gives up where there is no swap
        task.touch(area, "1M", write=True)
    system.check()
    if system.kernel.tasks:  # 2.4 has killed it
        task.exit()
    system.check()


def test_boot_use_is_shared_out_as_the_kernels_own_figures() -> None:
    """Image first, the rest between kernel and user pages; what is taken is what was asked for, and mem_map."""
    for use in ("0", "2M", "3M", "20M", "38M", "200M"):
        system = rmaplab.boot("2.6.2", ram="1G", boot_use=use)
        reserved = int((system.machine.frames.flags & PG_RESERVED != 0).sum())
        assert (reserved - system.boot_use.mem_map) * PAGE_SIZE == parse_size(use)
        assert reserved == system.boot_use.nr_pages
        assert system.machine.allocator.nr_free == (1 << 18) - reserved
        system.check()


@pytest.mark.parametrize(
    ("box", "hint"),
    [
        ({"split": "1:3"}, "3:1, 2:2, 4:4"),
        ({"split": "2:2", "paging": "x86-64"}, "--split"),
        ({"ram": "64G", "boot_use": "400M"}, "another --split"),
        ({"boot_use": "900M"}, "too small"),
        ({"boot_use": "-1"}, "size"),
        ({"pages_min": -1}, "0 or more"),
        ({"pages_min": 1 << 18}, "after boot"),
    ],
)
def test_what_cannot_boot_says_so_in_a_line(box: dict[str, object], hint: str) -> None:
    with pytest.raises(UsageError) as error:
        rmaplab.boot("2.6.2", **box)  # type: ignore[arg-type]
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("reserved", ["1M", "3M", "5M", "40M", "48M", "49M", "200M"])
def test_a_box_too_small_says_what_is_large_enough(reserved: str) -> None:
    """The kernel may take three quarters of RAM at most; the size that the error suggests works."""
    with pytest.raises(UsageError, match="too small") as refusal:
        rmaplab.boot("2.6.2", ram=reserved, boot_use=reserved)
    suggested = re.search(r"--ram (\S+)$", str(refusal.value))
    assert suggested is not None
    rmaplab.boot("2.6.2", ram=suggested[1], boot_use=reserved)


def test_splits_leave_room_for_both() -> None:
    """User addresses end where the kernel's begin, but for 4:4, where each has its own."""
    for name, split in SPLITS.items():
        assert (split.task_size <= split.page_offset) == (name != "4:4")


# -- one record --------------------------------------------------------------------------------------------------------


def test_keywords_and_a_box_are_the_same() -> None:
    """boot(kernel, ram=...) describes a Box; a Box may be given, and keywords change it."""
    box = Box(ram="64M", cpus=2, paging="i386", overcommit=1)
    named, given, changed = (
        boot("2.6.2", ram="64M", cpus=2, paging="i386", overcommit=1),
        boot("2.6.2", box),
        boot("2.6.2", replace(box, cpus=8), cpus=2),
    )
    assert named.box == given.box == changed.box == box
    assert named.machine.hardware == given.machine.hardware == changed.machine.hardware
    with pytest.raises(TypeError, match="colour"):
        boot("2.6.2", colour="beige")


def test_every_field_reaches_the_system() -> None:
    """What a box says differs from what it says by default, and so does what is booted: no field is forgotten."""
    told: dict[str, object] = {
        "ram": "65M", "swap": "1M", "cpus": 2, "paging": "i386", "l1_cache_bytes": 64, "highpte": False, "split": "2:2",
        "boot_use": "9M", "overcommit": 1, "overcommit_ratio": 60, "pages_min": 5, "ht": "on", "prices": "2004-line",
        "mmap_base": 0x5000_0000, "heap_base": 0x900_0000, "max_map_count": 9, "file_index": "rbtree",
        "disable_cap_mlock": True, "shmmax": "1M", "readahead_kib": 64, "disk_seek_us": 4000, "disk_rpm": 15_000, "disk_kib_per_s": 80_000,
        "reclaim": True,
    }  # fmt: skip
    assert told.keys() == {entry.name for entry in fields(Box)}

    def seen(kernel: str = "2.4.21", **changes: Any) -> tuple[object, ...]:
        system = boot(kernel, Box(ram="64M", paging="i386-pae", split="3:1"), **changes)
        machine, overcommit = system.machine, system.kernel.overcommit
        index = system.kernel.page_cache.new_file(b"").i_mmap.name
        prices, marks = machine.ledger.prices.name, [zone.marks for zone in machine.allocator.zones]
        return (
            machine.hardware,
            system.boot_use,
            overcommit.mode,
            overcommit.ratio,
            prices,
            marks,
            (index, system.kernel.rules),
            system.killer is None,
        )

    plain = seen()
    told["prices"] = next(name for name in price_books() if name != plain[4])
    for name, value in told.items():
        kernel = "2.6.5-rc3-aa3" if name == "disable_cap_mlock" else "2.4.21"
        assert seen(kernel, **{name: value}) != (plain if kernel == "2.4.21" else seen(kernel)), name


def test_shmmax_is_the_longest_segment() -> None:
    """kernel.shmmax, to the byte."""
    task = boot("2.6.2", ram="64M", shmmax=(1 << 20) + 1).spawn()
    task.shmget(IPC_PRIVATE, (1 << 20) + 1, 0o600)
    with pytest.raises(SyscallError, match="SHMMAX"):
        task.shmget(IPC_PRIVATE, (1 << 20) + 2, 0o600)
    for bad in (-1, "much"):
        with pytest.raises(UsageError):
            boot("2.6.2", ram="64M", shmmax=bad)


@pytest.mark.parametrize("name", ["readahead_kib", "disk_seek_us", "disk_rpm", "disk_kib_per_s"])
def test_no_disk_is_slower_than_time(name: str) -> None:
    bad: dict[str, Any] = {name: -1}
    with pytest.raises(UsageError, match="0 or more"):
        boot("2.6.2", ram="64M", **bad)


def test_the_announcements_box() -> None:
    """512 MiB of swap and PAE are what boot() does not take by itself; what nobody knows may be otherwise."""
    assert announced() == Box(swap="512M", paging="i386-pae")
    assert announced(swap="0", boot_use="20M", overcommit=2, ht="on", prices="2004").is_the_announcements
    changes: list[dict[str, object]] = [
        {"ram": "2G"},
        {"cpus": 2},
        {"paging": "i386"},
        {"highpte": False},
        {"l1_cache_bytes": 64},
    ]
    for change in changes:
        assert not announced(**change).is_the_announcements


@pytest.mark.parametrize("ram", ["16M", "32M"])
def test_the_page_of_zeros_is_nobodys(ram: str) -> None:
    """Frame 0, also where nothing at all is in use after boot: it is never given out."""
    system = rmaplab.boot("2.6.2", ram=ram, boot_use=0, pages_min=0, overcommit=1)
    frames, allocator = system.machine.frames, system.machine.allocator
    assert frames.flags[0] & PG_RESERVED
    given = allocator.alloc(sum(zone.nr_free for zone in allocator.zones) - 256, Gfp.HIGHUSER)
    assert given.min() > 0
