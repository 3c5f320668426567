"""BASE, then patches, then a reverse map: what composes is a kernel, what does not is one line."""

from __future__ import annotations

from itertools import permutations

import pytest

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.kernels.catalogue import KERNELS, find_kernel
from rmaplab.kernels.releases import PATCHES
from rmaplab.lab.conformance.kit import conformance
from rmaplab.units import PAGE_SIZE

EXTRAVERSION, OBJRMAP, ANON_VMA = "00000_extraversion-1", "00100_objrmap-core-1", "00101_anon_vma-1"


def refused(name: str) -> str:
    """The message: one line."""
    with pytest.raises(UsageError) as error:
        find_kernel(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_patches_are_the_announcements() -> None:
    """Numbers and names as its list has them (without .gz), in its order; each says who wrote it, what it does, and what of that is here."""
    patches = PATCHES["2.6.5-rc1"]
    assert [patch.name for patch in patches] == [
        EXTRAVERSION, "00000_twofish-2.6", OBJRMAP, ANON_VMA, "00200_kgdb-ga-1", "00201_kgdb-ga-recent-gcc-fix-1",
        "00201_kgdb-THREAD_SIZE-fixes-1", "00201_kgdb-x86_64-support-1",
    ]  # fmt: skip
    assert all(patch.author and patch.about and patch.here for patch in patches)


def test_patches_of_aa3_are_its_mails() -> None:
    """Its list of memory patches, in its order; those of March under their new names."""
    names = [
        "extraversion",
        "objrmap-core",
        "anon-vma",
        "prio-tree",
        "gfp-no-compound",
        "mprotect-vma-merging",
        "disable-cap-mlock",
    ]
    assert [patch.name for patch in PATCHES["2.6.5-rc3"]] == [*names, "nonlinear-can-do-mlock"]  # that one of 2.6.5-aa5
    aa3, made = KERNELS["2.6.5-rc3-aa3"], find_kernel("+".join(("2.6.5-rc3", *names)))
    assert (made.figures, made.design, made.published) == (aa3.figures, aa3.design, aa3.published)
    assert (aa3.release, made.release) == ("2.6.5-rc3-aa3", "2.6.5-rc3-aa3+" + "+".join(names[1:]))


def test_2_6_5_rc2_aa2_is_made_of_its_patches() -> None:
    """By the names that its mail has them under."""
    aa2, made = KERNELS["2.6.5-rc2-aa2"], find_kernel("2.6.5-rc2+extraversion+objrmap-core+anon-vma")
    assert [patch.name for patch in PATCHES["2.6.5-rc2"]] == [patch.name for patch in aa2.patches]
    assert (made.figures, made.design, aa2.release) == (aa2.figures, aa2.design, "2.6.5-rc2-aa2")


def test_all_patches_make_aa1() -> None:
    """By number, by name or by title: the same figures, design and sizes. A number stands for all that have it."""
    aa1 = KERNELS["2.6.5-rc1-aa1"]
    for names in (
        ("00000", "00100", "00101", "00200", "00201"),
        tuple(patch.name for patch in aa1.patches),
        ("00100", "00000", ANON_VMA),
        ("twofish-2.6", "objrmap-core", "00101"),
    ):
        made = find_kernel("+".join(("2.6.5-rc1", *names)))
        assert (made.figures, made.design, made.published) == (aa1.figures, aa1.design, aa1.published)
        assert made.base == "2.6.5-rc1"
    assert find_kernel("2.6.5-rc1+00000+00100+00101+00200+00201").patches == aa1.patches


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("2.6.5-rc1", "2.6.5-rc1"),
        ("2.6.5-rc1-aa1", "2.6.5-rc1-aa1"),
        (f"2.6.5-rc1+{EXTRAVERSION}", "2.6.5-rc1-aa1"),
        ("2.6.5-rc1+00000", "2.6.5-rc1-aa1+00000"),
        ("2.6.5-rc1+objrmap-core", "2.6.5-rc1+00100"),
        ("2.6.5-rc1+00100+00101", "2.6.5-rc1+00100+00101"),
        ("2.6.5-rc1+00200+00201", "2.6.5-rc1+00200+00201"),
        ("2.6.5-rc1+00100+anonmm", "2.6.5-rc1+00100+anonmm"),
        ("2.6.5-rc1+anonmm", "2.6.5-rc1+anonmm"),
        ("2.6.5-rc1-aa1+anonmm", "2.6.5-rc1-aa1+anonmm"),
        ("2.6.7", "2.6.7"),
        ("6.18", "6.18"),
    ],
)
def test_uname_says_what_was_booted(name: str, release: str) -> None:
    """What `uname -r` and /proc/version say: the version with what 00000_extraversion makes of it, and what it was composed of."""
    system = rmaplab.boot(name, ram="64M")
    uname = system.uname()
    assert (uname.sysname, uname.release) == ("Linux", release)
    assert uname.machine == ("x86_64" if name == "6.18" else "i686")
    assert uname.version.endswith(system.spec.released[:4])
    assert system.proc_version().startswith(f"Linux version {release} (")
    assert system.proc_version().endswith(f" {uname.version}\n")


@pytest.mark.parametrize("patch", ["00100", OBJRMAP, "objrmap-core"])
def test_objrmap_alone_is_a_kernel(patch: str) -> None:
    """Anonymous pages are on chains, VMAs merge: but for files and drivers it is its base, and for how long PG_anon stands and who splits under which lock."""
    base, made = KERNELS["2.6.5-rc1"], find_kernel(f"2.6.5-rc1+{patch}")
    assert (made.name, made.release) == (f"2.6.5-rc1+{patch}", "2.6.5-rc1+00100")
    changed = {name for name, figure in made.figures.items() if figure != base.figures[name]}
    assert changed == {
        "list_moved_to_tail",
        "split_holds_page_table_lock",
        "anon_mapping_dies_at_free",
        "referenced_busy",
        "unmap_reserved",
        "driver_pages",
    }
    assert made.design_class().name == "pte_chain_anon"
    assert [each.name for each in made.patches] == [OBJRMAP]
    system = rmaplab.boot(made.name, ram="64M")
    task = system.spawn()
    address = task.mmap(PAGE_SIZE)
    task.write(address, b"x")
    task.fork()
    assert system.machine.caches["pte_chain"].nr_objects
    assert len(system.who_maps(task, address)) == 2
    system.check()


def test_the_split_that_the_announcement_wished_for() -> None:
    """Anonmm on objrmap-core: its reverse map, and merging as in mainline; on top of aa1 merging stays off."""
    made, on_aa1 = find_kernel("2.6.5-rc1+00100+anonmm"), find_kernel("2.6.5-rc1-aa1+anonmm")
    assert made.design == on_aa1.design == find_kernel("2.6.5-rc1+anonmm").design
    assert made.rules(4).mprotect_merges
    assert not on_aa1.rules(4).mprotect_merges
    assert on_aa1.base == "2.6.5-rc1-aa1"
    assert OBJRMAP in made.about
    assert "anonmm" in made.about
    report = conformance("2.6.5-rc1+00100+anonmm", examples=8, steps=40)
    assert report.counterexample is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("2.6.5-rc1+00100+00100", ["2.6.5-rc1+00100", OBJRMAP, "already"]),
        ("2.6.5-rc1+00100+00100_objrmap-core-1", [OBJRMAP, "already"]),
        ("2.6.5-rc1-aa1+00101", ["2.6.5-rc1-aa1", ANON_VMA, "already"]),
        ("2.6.5-rc1+00101", [ANON_VMA, OBJRMAP, "put 00100 before it"]),
        ("2.6.5-rc1+00101+00100", [ANON_VMA, OBJRMAP]),
        ("2.6.5-rc1+00102", ["00102", EXTRAVERSION, OBJRMAP, ANON_VMA]),
        ("2.6.5-rc1+00201", ["00201_kgdb-ga-recent-gcc-fix-1", "put 00200 before it"]),
        ("2.6.5-rc1+objrmap", ["'objrmap'", "objrmap-core", "anon_vma_chain"]),
        ("2.6.5-rc3+mprotect-vma-merging", ["mprotect-vma-merging", "put prio-tree before it"]),
        ("2.6.7+prio-tree", ["'prio-tree'", "2.6.5-rc3"]),
        ("2.6.2+00100", ["00100", "2.6.2", OBJRMAP, "2.6.5-rc1"]),
        ("2.6.5-rc1+anonmm+00100", ["anonmm", "BASE+PATCH+DESIGN"]),
        ("2.6.5-rc1+anonmm+pte_chain", ["anonmm", "BASE+PATCH+DESIGN"]),
        ("2.6.5-rc1+00100+nothing", ["'nothing'", "anon_vma_chain", "rmaplab designs"]),
        ("2.6.5-rc1+00100+", ["''", "rmaplab designs"]),
        ("2.7+00100", ["2.7", *KERNELS]),
    ],
)
def test_what_does_not_compose_is_one_line(name: str, said: list[str]) -> None:
    """It names what is wrong, and what there is or what to write."""
    message = refused(name)
    assert all(word in message for word in said), message


def test_every_order_composes_or_says_why() -> None:
    """Of all sequences of patches those compose in which 00101 comes after 00100."""
    numbers = ["00000", "00100", "00101"]
    for length in (1, 2, 3):
        for order in permutations(numbers, length):
            name = "+".join(("2.6.5-rc1", *order))
            needed = "00101" not in order or "00100" in order[: order.index("00101")]
            if needed:
                assert list(dict.fromkeys(patch.number for patch in find_kernel(name).patches)) == list(order)
            else:
                assert "put 00100 before it" in refused(name)
