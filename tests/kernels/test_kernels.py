"""What a kernel is: every rule a figure with a source, sizes as published; and what those who ask nonsense are told."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pytest

import rmaplab
from rmaplab.kernels.catalogue import KERNELS, find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.kernels.releases import PATCHES
from rmaplab.kernels.spec import Patch
from rmaplab.machine.frames import PG_RESERVED
from rmaplab.machine.paging import FORMATS
from rmaplab.mm.rules import Rules
from rmaplab.rmap.anon_vma import AnonVmaMap
from rmaplab.rmap.pte_chain import PteChain
from rmaplab.units import PAGE_SIZE, parse_size

MIB = 1 << 20
OF_2004 = ["2.6.2", "2.6.5-rc1", "2.6.5-rc1-aa1"]


# -- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
def test_every_rule_has_a_figure_with_a_source(name: str) -> None:
    """Nothing is set elsewhere, and nothing is made up."""
    spec = KERNELS[name]
    assert spec.name == name
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", spec.released)
    assert {field.name for field in fields(Rules)} <= spec.figures.keys()
    for key, figure in spec.figures.items():
        assert figure.source.strip(), key
        assert isinstance(figure.status, Status), key
        assert figure.value >= 0, key
        assert figure.value64 is None or figure.value64 >= figure.value, key


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("word_bytes", [4, 8])
def test_rules_are_the_figures(name: str, word_bytes: int) -> None:
    """Each rule has its figure's value for the architecture, as a number or as a yes or no."""
    spec, rules = KERNELS[name], KERNELS[name].rules(word_bytes)
    for field in fields(Rules):
        figure = spec.figures[field.name]
        value = figure.value if word_bytes == 4 or figure.value64 is None else figure.value64
        assert getattr(rules, field.name) == value, field.name
        assert isinstance(getattr(rules, field.name), bool if field.type == "bool" or field.type is bool else int)


def test_what_the_kernels_of_2004_do() -> None:
    """Where the announcement's kernels differ, and where they do not (history.md 2.7, 4.1, 4.2; eras.md 0.7, 3.2)."""
    rules = {name: KERNELS[name].rules(4) for name in OF_2004}
    assert {
        name: (KERNELS[name].design_class().linear, r.mprotect_merges, r.mremap_merges) for name, r in rules.items()
    } == {
        "2.6.2": (False, True, True),
        "2.6.5-rc1": (False, True, True),
        "2.6.5-rc1-aa1": (True, False, False),
    }
    assert {name: r.fork_cond_resched for name, r in rules.items()} == {
        "2.6.2": False,
        "2.6.5-rc1": False,
        "2.6.5-rc1-aa1": True,
    }
    for r in rules.values():
        assert r.fork_charges
        assert r.fork_failure_uncharges_twice
        assert r.root_reserve_divisor == 32
        assert r.max_map_count == 65536
        assert r.thread_stack_bytes == 8192


def test_designs() -> None:
    """Chains up to 2.6.5-rc1, anon_vma in aa1; each a class that can be imported."""
    designs = {name: KERNELS[name].design_class() for name in OF_2004}
    assert designs == {"2.6.2": PteChain, "2.6.5-rc1": PteChain, "2.6.5-rc1-aa1": AnonVmaMap}
    for name, design in designs.items():
        assert type(rmaplab.boot(name, ram="64M").kernel.design) is design


# -- patches ---------------------------------------------------------------------------------------------------------


def test_aa1_is_a_base_plus_patches() -> None:
    """2.6.5-rc1 and the announcement's list, in its order; and it differs in nothing that no patch changes."""
    base, aa1 = KERNELS["2.6.5-rc1"], KERNELS["2.6.5-rc1-aa1"]
    assert aa1.base == base.name
    assert aa1.released == "2004-03-18"
    assert [patch.name for patch in aa1.patches] == [patch.name for patch in PATCHES["2.6.5-rc1"]]
    changed = {key for patch in aa1.patches for key in patch.figures or {}}
    assert changed
    for key, figure in aa1.figures.items():
        if key not in changed:
            assert figure == base.figures[key]
    assert base.base is None
    assert base.patches == ()
    assert base.design != aa1.design


def test_patches_go_on_top_in_order() -> None:
    """The last one to change a thing wins; the base stays as it was."""
    base = find_kernel("2.6.2")
    first = Patch("a", "me", "one", "here", figures={"max_map_count": Figure(1, "here", Status.BELIEVED)}, design="x:X")
    second = Patch("b", "me", "two", "here", figures={"max_map_count": Figure(2, "here", Status.BELIEVED)})
    both = base.patched("2.6.2-me", "2026-11-22", "a test", first, second)
    assert (both.figure("max_map_count", 4), both.design, both.base) == (2, "x:X", "2.6.2")
    assert both.patches == (first, second)
    assert base.figure("max_map_count", 4) == 65536
    assert "max_map_count" in base.figures


# -- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "paging", "nr_bytes"),
    [
        ("2.6.2", "i386", 64),
        ("2.6.2", "i386-pae", 64),
        ("2.6.2", "x86-64", 128),
        ("2.6.5-rc1-aa1", "i386", 76),
        ("2.6.5-rc1-aa1", "i386-pae", 76),
        ("2.6.5-rc1-aa1", "x86-64", 152),
    ],
)
def test_vm_area_struct(kernel: str, paging: str, nr_bytes: int) -> None:
    """64 ("exactly 64") and 12 more for anon_vma (history.md 2.2); twice that on 64 bits."""
    assert rmaplab.boot(kernel, ram="64M", paging=paging).machine.caches["vm_area_struct"].object_bytes == nr_bytes


@pytest.mark.parametrize(
    ("line", "per_page"),
    [
        (32, {"vma": 59, "aa1 vma": 50, "anon_vma": 253, "pte_chain": 113}),
        (64, {"vma": 59, "aa1 vma": 50, "anon_vma": 250, "pte_chain": 59}),
        (128, {"vma": 58, "aa1 vma": 50, "anon_vma": 250, "pte_chain": 30}),
    ],
)
def test_objects_a_page(line: int, per_page: dict[str, int]) -> None:
    """eras.md 4.4; 50 aa1 VMAs and 250 anon_vmas a page were seen in slabinfo (history.md 1.5.1)."""
    old = rmaplab.boot("2.6.2", ram="64M", l1_cache_bytes=line).machine.caches
    new = rmaplab.boot("2.6.5-rc1-aa1", ram="64M", l1_cache_bytes=line).machine.caches
    assert {
        "vma": old["vm_area_struct"].packing.per_slab,
        "aa1 vma": new["vm_area_struct"].packing.per_slab,
        "anon_vma": new["anon_vma"].packing.per_slab,
        "pte_chain": old["pte_chain"].packing.per_slab,
    } == per_page


def page_struct_bytes(kernel: str, paging: str, *, highpte: bool) -> float:
    """sizeof(struct page), weighed: what 1 GiB more of RAM costs in frames that are taken at boot."""
    taken = []
    for ram in ("1G", "2G"):
        system = rmaplab.boot(kernel, ram=ram, paging=paging, highpte=highpte)
        taken.append(int(np.count_nonzero(system.machine.frames.flags & PG_RESERVED)))
    return (taken[1] - taken[0]) * PAGE_SIZE / (1 << 30 >> 12)


@pytest.mark.parametrize(
    ("paging", "highpte", "mainline", "aa1"),
    [
        ("i386-pae", True, 44, 40),  # "this releases 4byte of page_t"
        ("i386-pae", False, 40, 40),  # a 4-byte union for a 4-byte mapcount: nothing gained
        ("i386", True, 40, 40),
        ("x86-64", False, 80, 80),
    ],
)
def test_struct_page(paging: str, highpte: bool, mainline: int, aa1: int) -> None:
    """history.md 2.1, by the memory that is really taken at boot."""
    assert page_struct_bytes("2.6.2", paging, highpte=highpte) == mainline
    assert page_struct_bytes("2.6.5-rc1", paging, highpte=highpte) == mainline
    assert page_struct_bytes("2.6.5-rc1-aa1", paging, highpte=highpte) == aa1


@pytest.mark.parametrize(("kernel", "mem_map_mib"), [("2.6.2", 11), ("2.6.5-rc1-aa1", 10)])
def test_mem_map_of_the_announcements_box(kernel: str, mem_map_mib: int) -> None:
    """1 GB, PAE and HIGHPTE: 11 MiB at 44 bytes, 10 at 40 (history.md 2.1); beside it image and what boots."""
    spec, system = find_kernel(kernel), rmaplab.boot(kernel)
    rest = sum(spec.figure(name, 4) for name in ("image_bytes", "boot_kernel_bytes", "boot_user_bytes"))
    assert system.machine.allocator.nr_free == (1024 - mem_map_mib) * MIB // PAGE_SIZE - rest // PAGE_SIZE


@pytest.mark.parametrize("paging", FORMATS)
def test_stack_and_pgd(paging: str) -> None:
    """A stack is a block of two pages; a PAE pgd is 32 bytes of slab and three tables, the others are a page (2.4)."""
    system = rmaplab.boot("2.6.2", ram="64M", paging=paging)
    task = system.spawn()
    assert system.kernel.stack_order == 1
    assert task.mm is not None
    assert task.mm.nr_tables == (3 if paging == "i386-pae" else 1)
    assert ("pgd" in system.machine.caches) == (paging == "i386-pae")
    if paging == "i386-pae":
        assert system.machine.caches["pgd"].object_bytes == 32


# -- what cannot be booted -------------------------------------------------------------------------------------------


def refused(**options: object) -> str:
    """The message of the UsageError: one line."""
    kernel = options.pop("kernel", "2.6.2")
    with pytest.raises(rmaplab.UsageError) as error:
        rmaplab.boot(kernel, **options)  # type: ignore[arg-type]
    message = str(error.value)
    assert "\n" not in message
    return message


def test_an_unknown_kernel() -> None:
    """The names there are."""
    message = refused(kernel="2.6.2-mine")
    assert "2.6.2-mine" in message
    assert all(name in message for name in KERNELS)


def test_an_unknown_page_table_format() -> None:
    """The names there are."""
    message = refused(paging="sparc64")
    assert "sparc64" in message
    assert all(name in message for name in FORMATS)


@pytest.mark.parametrize(("kernel", "paging"), [(name, f) for name in KERNELS for f in KERNELS[name].architectures])
@pytest.mark.parametrize("ram", ["0", "4K", "1M", "32M"])
def test_too_little_ram(kernel: str, paging: str, ram: str) -> None:
    """The message names a size, and that size boots and can do something."""
    message = refused(kernel=kernel, paging=paging, ram=ram)
    suggestion = re.search(r"--ram (\w+)", message)
    assert suggestion
    assert parse_size(suggestion[1]) > parse_size(ram)
    task = rmaplab.boot(kernel, paging=paging, ram=suggestion[1]).spawn()
    task.touch(task.mmap("1M"), "1M", write=True)


def test_too_much_ram() -> None:
    """i386 ends at 4 GiB, PAE at 64; the next step is another format, and it takes it."""
    for paging, most, more in (("i386", "4G", "5G"), ("i386-pae", "64G", "65G")):
        rmaplab.boot("2.6.2", paging=paging, ram=most)
        assert "x86-64" in refused(paging=paging, ram=more)
    rmaplab.boot("2.6.2", paging="x86-64", ram="65G")


@pytest.mark.parametrize("cpus", [0, -1, 65])
def test_cpus(cpus: int) -> None:
    """1 to 64."""
    message = refused(cpus=cpus)
    assert str(cpus) in message
    assert "1 to 64" in message


@pytest.mark.parametrize("line", [0, 16, 48, 256])
def test_cache_lines(line: int) -> None:
    """One of three."""
    assert "32, 64, 128" in refused(l1_cache_bytes=line)


@pytest.mark.parametrize("option", ["ram", "swap"])
@pytest.mark.parametrize("size", [-1, "lots", "1X"])
def test_sizes(option: str, size: int | str) -> None:
    """What is not a size is named, with what would be one."""
    assert str(size) in refused(**{option: size})


# -- boot ------------------------------------------------------------------------------------------------------------


def test_boot_takes_a_spec_and_a_design() -> None:
    """A kernel of one's own: another rule, another reverse map."""
    spec = find_kernel("2.6.2")
    mine = replace(spec, name="mine", figures={**spec.figures, "max_map_count": Figure(7, "mine", Status.BELIEVED)})
    system = rmaplab.boot(mine, ram="64M", design=AnonVmaMap)
    assert system.spec is mine
    assert system.kernel.rules.max_map_count == 7
    assert isinstance(system.kernel.design, AnonVmaMap)
    assert "mine" in repr(system)


def test_who_maps() -> None:
    """Nobody maps what is not there, the zero page, or anything of a task that is gone."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M")
    task = system.spawn()
    address = task.mmap(2 * PAGE_SIZE)
    assert system.who_maps(task, address) == []
    task.read(address)
    assert system.who_maps(task, address) == []
    task.write(address, b"x")
    (mapping,) = system.who_maps(task, address + 17)
    assert mapping.mm is task.mm
    assert mapping.address == address
    assert repr(mapping) == f"Mapping(pid={task.pid}, address={address:#x})"
    assert system.who_maps(task, address + PAGE_SIZE) == []
    task.exit()
    assert system.who_maps(task, address) == []


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_can_be_shown(name: str) -> None:
    """`rmaplab kernels NAME`: object sizes on the architectures it runs on, and only on them."""
    from rmaplab.report.kernels import object_sizes
    from rmaplab.report.tables import plain

    spec = find_kernel(name)
    by_configuration, by_line = (plain(table) for table in object_sizes(spec))
    header = next(
        line.split() for line in by_configuration.splitlines() if line.split()[:1] == ["object"] and "sizes" not in line
    )
    assert set(header) & set(FORMATS) == set(spec.architectures)
    assert "vm_area_struct" in by_line
