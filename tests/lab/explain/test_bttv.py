"""`explain bttv`: each row follows from the rules of its kernel and the flags of its driver, and what is said from the rows."""

from __future__ import annotations

import dataclasses

import pytest

from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.lab.explain import bttv
from rmaplab.lab.explain.side_by_side import Trial
from rmaplab.rmap.walk_rules import IfReserved

RESERVED = {"fault": 0, "fork": "0/2", "found": 0, "reclaim": "skips", "sees": "live", "freed": 0}
"""Of remapped pages that are PG_reserved: alike on every kernel."""
TAKEN = {"fault": 4, "fork": "2/2", "found": 2, "reclaim": "takes", "sees": "black", "freed": 4}
REFUSED = {**TAKEN, "reclaim": "refuses", "sees": "live"}
UNTOLD = {**TAKEN, "fault": 0, "fork": "0/2", "found": 0, "reclaim": "unseen", "sees": "live"}
BUG = {"fault": "BUG"}


@pytest.mark.parametrize(
    ("kernel", "driver", "found"),
    [
        ("2.6.2", bttv.AS_IT_WAS, TAKEN),
        ("2.6.2", bttv.FIXED, TAKEN),
        ("2.6.5-rc1+00100", bttv.AS_IT_WAS, TAKEN),
        ("2.6.5-rc1+00100", bttv.FIXED, REFUSED),
        ("2.6.5-rc1-aa1", bttv.AS_IT_WAS, BUG),
        ("2.6.5-rc1-aa1", bttv.FIXED, UNTOLD),
        ("2.6.5-rc3-aa3", bttv.AS_IT_WAS, UNTOLD),
        *((kernel, bttv.REMAPPED, RESERVED) for kernel in (*bttv.KERNELS, "2.6.7")),
        ("2.4.21", bttv.REMAPPED, {**RESERVED, "found": 2}),  # who searches finds entries of any page
    ],
)
def test_rows(kernel: str, driver: str, found: dict[str, int | str]) -> None:
    """What becomes of the pages; a file's end is SIGBUS on all of them."""
    trial = bttv.trial(find_kernel(kernel), driver, bttv.DRIVERS[driver])
    assert trial.found == {**found, "EOF": "SIGBUS"}


def test_the_trap_is_a_figure_and_believed() -> None:
    """With it, and nothing else changed, the last column is a BUG, and says that it is believed."""
    trial = bttv.trial(bttv.with_trap(find_kernel("2.6.5-rc1-aa1")), "x", bttv.DRIVERS[bttv.FIXED])
    assert trial.found == {**UNTOLD, "EOF": "BUG"}
    assert "(believed)" in trial.notes[-1]


def test_a_row_follows_from_figures() -> None:
    """2.6.2 with one rule of another kernel: VM_RESERVED is minded; and one that validates it does not say believed."""
    spec = find_kernel("2.6.2")
    figure = Figure(IfReserved.FAILS, "a test", Status.VALIDATED)
    other = dataclasses.replace(spec, figures={**spec.figures, "unmap_reserved": figure})
    trial = bttv.trial(other, "x", bttv.DRIVERS[bttv.FIXED])
    assert trial.found == {**REFUSED, "EOF": "SIGBUS"}
    assert trial.notes == ["try_to_unmap refuses VM_RESERVED besides VM_LOCKED: a test."]


def test_what_is_said_follows_from_rows() -> None:
    """Other rows, other words; nothing of what no row shows."""
    rows = [
        Trial("A", "x", {"reclaim": "takes", "found": 2}),
        Trial("B", "y", {"fault": "BUG", "EOF": "SIGBUS"}),
    ]
    taken, bug = bttv.said(rows)
    assert taken.endswith("from under the card: A (x).")
    assert bug == "The first touch is a BUG: B (y)."
    assert bttv.said([]) == []


def test_all_of_it_runs() -> None:
    """A row for each driver on each of the three kernels, and the trap."""
    rows = list(bttv.BTTV.run())
    assert [row.kernel for row in rows] == [*(name for name in bttv.KERNELS for _ in bttv.DRIVERS), "2.6.5-rc1-aa1"]
    assert len(bttv.said(rows)) == 5
