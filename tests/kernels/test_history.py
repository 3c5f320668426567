"""Figures as histories: versions in order, the entry that holds at a version, and what the stored histories say."""

from __future__ import annotations

import json
import re
from enum import Enum
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.cli import main
from rmaplab.kernels.catalogue import KERNELS
from rmaplab.kernels.history import Bits, Status, figures_at, order, since
from rmaplab.kernels.releases import HISTORIES

VERSIONS = [
    "2.4", "2.4.21", "2.4.27", "2.6", "2.6.2-rc3", "2.6.2", "2.6.5-rc1", "2.6.5-rc2", "2.6.5-rc10", "2.6.5", "2.6.7", "2.6.14",
    "2.6.34", "3.19", "5.19", "6.18",
]  # fmt: skip


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that goes well prints."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert not stop.value.code
    return capsys.readouterr().out


def test_versions_are_in_order() -> None:
    """Release candidates come before their release, numbers count as numbers, and no two are the same."""
    assert sorted(VERSIONS, key=order) == VERSIONS
    assert len({order(version) for version in VERSIONS}) == len(VERSIONS)


@given(
    entries=st.dictionaries(st.sampled_from(VERSIONS), st.integers(0, 2), min_size=1),
    at=st.sampled_from(VERSIONS),
)
def test_the_entry_that_holds(entries: dict[str, int], at: str) -> None:
    """The last one that is not later; `since` is where its value began, and before the first there is none."""
    history = tuple(since(version, entries[version], f"of {version}") for version in VERSIONS if version in entries)
    found = figures_at({"x": history}, at)
    upto = [version for version in VERSIONS[: VERSIONS.index(at) + 1] if version in entries]
    if not upto:
        assert found == {}
        return
    figure = found["x"]
    assert (figure.value, figure.source) == (entries[upto[-1]], f"of {upto[-1]}")
    run = [version for version in upto if order(version) >= order(figure.since)]
    assert {entries[version] for version in run} == {figure.value}
    before = [version for version in upto if version not in run]
    assert not before or entries[before[-1]] != figure.value


def test_a_change_on_64_bits_only_is_a_change() -> None:
    """Sizes have two values."""
    history = since("2.4", 4, "a", value64=8), since("2.6", 4, "b", value64=16)
    assert figures_at({"x": history}, "2.6.2")["x"].since == "2.6"


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_in_order(name: str) -> None:
    """Strictly; from 2.4 on, but for what 2.6.2 takes from its page-table format; each entry has a source."""
    history = HISTORIES[name]
    versions = [entry.since for entry in history]
    assert sorted(set(versions), key=order) == versions
    assert versions[0] == ("6.18" if name in ("task_size_bytes", "mmap_base_bytes", "heap_base_bytes") else "2.4")
    assert all(entry.source.strip() and isinstance(entry.status, Status) for entry in history)


def test_an_entry_says_something_new() -> None:
    """Another value, another status, or another source."""
    for name, history in HISTORIES.items():
        for old, new in pairwise(history):
            assert (old.value, old.value64, old.status, old.source) != (
                new.value,
                new.value64,
                new.status,
                new.source,
            ), name


def test_other_kernels_fall_out() -> None:
    """What no bootable kernel asks yet: eras.md 3.2, 6.2, 6.3; the commits named there."""

    def at(name: str, *versions: str) -> list[int]:
        return [figures_at(HISTORIES, version)[name].value for version in versions]

    assert at("lazy_fork", "2.4.21", "2.6.13", "2.6.14-rc1", "2.6.14", "3.19") == [0, 0, 0, 1, 1]
    assert at("mremap_links_first", "2.6.5", "2.6.6", "2.6.7", "2.6.34") == [0, 1, 1, 1]
    assert at("fork_failure_uncharges_twice", "2.4.21", "2.6.6", "2.6.7") == [0, 1, 0]
    assert at("mlock_needs_capability", "2.6.7", "2.6.8", "2.6.9", "3.19") == [1, 1, 0, 0]
    assert at("mlock2_known", "3.19", "4.4", "6.18") == [0, 1, 1]
    assert at("mseal_known", "6.9", "6.10", "6.18") == [0, 1, 1]
    assert at("mprotect_asks_both", "2.6.5", "2.6.7", "3.19") == [0, 1, 1]
    assert at("mmap_of_nothing_succeeds", "2.6.7", "2.6.34", "3.19") == [1, 0, 0]
    dontfork, hugepage, wipeonfork = (1 << nr for nr in (10, 14, 18))
    known = at("madvise_advice", "2.6.7", "2.6.34", "3.19", "6.18")
    assert [bool(mask & dontfork) for mask in known] == [False, True, True, True]
    assert [bool(mask & hugepage) for mask in known] == [False, False, True, True]
    assert [bool(mask & wipeonfork) for mask in known] == [False, False, False, True]


def test_2_4_is_vouched_for_by_its_own_source() -> None:
    """Its figures name a 2.4 tree, but for what is an estimate of the box or is read by nobody."""
    own = KERNELS["2.4.21"].figures
    assert {name for name, figure in own.items() if "2.4" not in figure.source} <= {
        "image_bytes", "boot_kernel_bytes", "boot_user_bytes", "busy_balance_ms",
    }  # fmt: skip
    assert all(order(figure.since) <= order("2.4.21") for figure in own.values())


@pytest.mark.parametrize("name", KERNELS)
def test_what_is_shown_is_what_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`rmaplab kernels NAME`: as JSON every figure of the specification, with since when; in the table too."""
    spec = KERNELS[name]
    shown = json.loads(output(capsys, "kernels", name, "--format", "json"))
    rows = {row["figure"]: row for row in shown["figures"]}
    assert rows.keys() == spec.figures.keys()
    word_bytes = 8 if shown["paging"] == "x86-64" else 4
    table = output(capsys, "kernels", name)
    lines = {line.split()[0]: line for line in table.splitlines() if line.split()}
    for key, figure in spec.figures.items():
        row, value = rows[key], figure.on(word_bytes)
        assert (row["status"], row["since"], row["source"]) == (figure.status.value, figure.since, figure.source)
        if not isinstance(figure.value, Enum):  # shown by its name
            assert row["value"] == value
            assert (f"{value:#x}" if isinstance(value, Bits) else f"{value:,}") in lines[key]
        assert re.search(
            rf"(believed|validated) +{re.escape(figure.since)} +{re.escape(figure.source[:40])}", lines[key]
        )
    assert [patch["name"] for patch in shown["patches"]] == [patch.name for patch in spec.patches]
