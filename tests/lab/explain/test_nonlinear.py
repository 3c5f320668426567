"""`explain nonlinear`: each row follows from how its kernel looks for such pages; what is said, from the rows."""

from __future__ import annotations

import dataclasses

import pytest

from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.lab.explain import nonlinear
from rmaplab.lab.explain.nonlinear import MAPPED, PLACES, PLAIN, REMAPPED, WHO_FINDS, WHO_MAY
from rmaplab.lab.explain.side_by_side import Trial
from rmaplab.rmap.walk_rules import Nonlinear

ALL = 2 * PLACES  # entries of both tasks
FOUND = {"VMAs": 1, "finds": "2 of 2", "unmap": "takes it", "left": ALL, "munmap": "ok"}


@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        ("2.6.2", {**FOUND, "steps": 2, "gone": 2}),
        ("2.6.5-rc1+00100", {**FOUND, "steps": 2, "gone": 2}),
        (
            "2.6.5-rc1-aa1",
            {**FOUND, "finds": "0 of 2", "steps": 4, "unmap": "in vain", "gone": 0, "munmap": "BUG"},
        ),
        ("2.6.5-rc2-aa2", {**FOUND, "steps": 4 + ALL, "gone": ALL}),
        ("2.6.7", {**FOUND, "steps": 2 + ALL, "gone": ALL // 2, "left": 0}),
    ],
)
def test_rows(kernel: str, found: dict[str, int | str]) -> None:
    """A chain has a slot for each; later who looks passes both VMAs, or reads all of both; a cluster of each is half of them."""
    assert nonlinear.finds(kernel, REMAPPED, "i386-pae", WHO_FINDS).found == found


def test_a_row_follows_from_figures() -> None:
    """aa1 with one rule of a week later, and nothing else changed: the page is found, and goes with all others."""
    spec = find_kernel("2.6.5-rc1-aa1")
    figure = Figure(Nonlinear.WHOLE, "a test", Status.BELIEVED)
    later = dataclasses.replace(spec, figures={**spec.figures, "nonlinear": figure})
    row = nonlinear.finds(later, REMAPPED, "i386-pae", WHO_FINDS)
    assert (row.found["finds"], row.found["gone"], row.found["munmap"]) == ("2 of 2", ALL, "BUG")
    assert row.notes[0].startswith("kernel BUG in page_remove_rmap")


@pytest.mark.parametrize("kernel", nonlinear.ON_64)
def test_plain_mmaps_need_neither_call(kernel: str) -> None:
    """A VMA for each page; both are found on every kernel, and reclaim takes them and nothing else."""
    row = nonlinear.finds(kernel, MAPPED, "x86-64", PLAIN).found
    assert (row["VMAs"], row["finds"], row["unmap"], row["gone"]) == (PLACES, "2 of 2", "takes it", 2)
    assert row["bytes"] == PLACES * {"2.6.5-rc1-aa1": 152, "2.6.7": 168, "6.18": 192}[kernel]


@pytest.mark.parametrize(
    ("locker", "found"),
    [
        (("2.6.7", "", None), ["EPERM", "ok"]),
        (("2.6.5-rc3-aa3", "", False), ["EPERM", "ok"]),
        (("2.6.5-rc3-aa3", "", True), ["ok", "ok"]),
        (("2.6.5-rc3-aa3", "+nonlinear-can-do-mlock", False), ["EPERM", "EPERM"]),
        (("2.6.5-rc3-aa3", "+nonlinear-can-do-mlock", True), ["ok", "ok"]),
    ],
)
def test_the_sysctl_decides_and_the_limit_holds(locker: tuple[str, str, bool | None], found: list[str]) -> None:
    """history.md 1.5.11: who may lock, and from 2.6.5-aa5 on who may map nonlinearly; RLIMIT_MEMLOCK is for all."""
    row = nonlinear.may(*locker).found
    assert [row[f"mlock {PLACES // 2}"], row["remap_file_pages"]] == found
    assert row[f"mlock {PLACES}"] == "ENOMEM"


def test_what_is_said_follows_from_rows() -> None:
    """Other rows, other words; nothing of what no row shows."""
    lost: dict[str, int | str] = {"finds": "0 of 2", "gone": 0, "left": 7, "munmap": "BUG"}
    rows = [
        Trial("A", REMAPPED, lost, (), WHO_FINDS),
        Trial("B", "sysctl 0", {"remap_file_pages": "EPERM"}, (), WHO_MAY),
        Trial("C", MAPPED, {"VMAs": 3, "bytes": 1000, "finds": "2 of 2", "steps": 5}, (), PLAIN),
    ]
    first, left, bug, may, plain = nonlinear.said(rows)
    assert all(line.endswith(": A.") for line in (first, left, bug))
    assert may.endswith(": B (sysctl 0).")
    assert "both are found: C in 5 steps." in plain
    assert nonlinear.said([]) == []


def test_all_of_it_runs() -> None:
    """Three tables, with a row for each that they name."""
    rows = list(nonlinear.NONLINEAR.run())
    count = {part: sum(row.part == part for row in rows) for part in (WHO_FINDS, WHO_MAY, PLAIN)}
    assert list(count.values()) == [len(nonlinear.KERNELS), len(nonlinear.LOCKERS), 2 * len(nonlinear.ON_64)]
    assert len(nonlinear.said(rows)) == 6
