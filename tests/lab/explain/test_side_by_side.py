"""The same calls under several rules: what each leaves, against counting, against its own definition, and in the words that are said.

Sources: 7a3ef208e662, 2555283eb40d (reuse), modern.md 1.3 and 1.8, eras.md 4.6.
"""

from __future__ import annotations

import re

import pytest

from rmaplab.kernels.system import boot
from rmaplab.lab.explain import endless_fork, fork_enomem, merge_rules
from rmaplab.lab.explain.scenarios import Degree
from rmaplab.lab.explain.side_by_side import Trial
from rmaplab.mm.overcommit import OvercommitMode
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap, NewestFirst

# -- endless-fork ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "most"), [(endless_fork.NoReuse, 1000), (Degree, 3), (AnonVmaChainMap, 3), (NewestFirst, 3)]
)
@pytest.mark.parametrize("vmas", [1, 4])
def test_anon_vmas_of_a_line_of_forks(design: type[AnonVmaChainMap], most: int, vmas: int) -> None:
    """One for each generation and VMA; where they are reused three for each VMA: the root, one that was left, the child's."""
    system = boot("6.18", ram="64M", design=design)
    rmap = system.kernel.design
    assert isinstance(rmap, AnonVmaChainMap)
    for generation in endless_fork.generations(system, 9, vmas):
        each = min(generation + 1, most)
        assert len(rmap.at) == vmas * each
        assert [len(chain) for chain in rmap.chains.values()] == [each] * vmas
    system.check()


@pytest.mark.parametrize(
    ("kernel", "objects"), [("2.6.5-rc1-aa1", 4), ("2.6.5-rc1+anonmm", 2), ("2.6.2", 8), ("2.4.21", 0)]
)
def test_other_designs_do_not_grow(kernel: str, objects: int) -> None:
    """One for a VMA of the family; one for the mm and one for the root's; a chain for each page that was shared; nothing."""
    found = [endless_fork.trial(kernel, "", None, nr, 4).found[name] for nr, name in ((2, "2"), (12, "12"))]
    assert found == [objects, objects]


def test_what_a_fork_has_to_link() -> None:
    """As many chains as there are anon_vmas: a fork after 12 generations without reuse makes 13 for each VMA."""
    assert endless_fork.trial("6.18", "", endless_fork.NoReuse, 12, 2).notes == ["the last fork makes 26 chains"]
    assert endless_fork.trial("6.18", "", None, 12, 2).notes == ["the last fork makes 6 chains"]


def test_endless_fork_says_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures in words are those of the table."""
    monkeypatch.setattr(endless_fork, "GENERATIONS", 12)
    monkeypatch.setattr(endless_fork, "VMAS", 2)
    trials = list(endless_fork.ENDLESS_FORK.run())
    assert [trial.found["12"] for trial in trials[:4]] == [26, 6, 6, 6]
    first, second = endless_fork.said(trials)
    assert re.findall(r"\d+", first) == ["26", "2", "13", "6", "3"]
    assert "root is a third" in second


# -- fork-enomem -------------------------------------------------------------------------------------------------------

HEURISTIC, ALWAYS, STRICT = OvercommitMode.HEURISTIC, OvercommitMode.ALWAYS, OvercommitMode.STRICT


@pytest.mark.parametrize(
    ("kernel", "mode", "pieces", "forks"),
    [
        ("2.4.21", HEURISTIC, 7, ["ok", "ok", "ok"]),
        ("2.6.2", HEURISTIC, 7, ["ENOMEM", "ok", "ENOMEM"]),
        ("2.6.5-rc1-aa1", HEURISTIC, 7, ["ENOMEM", "ok", "ENOMEM"]),
        ("6.18", HEURISTIC, 7, ["ENOMEM", "ok", "ok"]),
        ("6.18", ALWAYS, 7, ["ok", "ok", "ok"]),
        ("6.18", STRICT, 3, ["ENOMEM", "ENOMEM", "ENOMEM"]),
    ],
)
def test_who_counts_what(kernel: str, mode: OvercommitMode, pieces: int, forks: list[str]) -> None:
    """2.4 nothing, 2.6.2 what is free, 6.18 totals against one mapping, mode 2 all promises (eras.md 4.6); a note for each refusal."""
    trial = fork_enomem.trial(kernel, mode)
    assert trial.found["pieces"] == f"{pieces} of 7"
    assert [trial.found[name] for name in ("fork", "with a hole", "written")] == forks
    assert len(trial.notes) == forks.count("ENOMEM") + (pieces < 7)


@pytest.mark.parametrize("pieces", [5, 6])
def test_the_border_is_ram_and_swap(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """6.18: what is no larger than both is never refused; 5 pieces of 16 MiB are, 6 are not."""
    monkeypatch.setattr(fork_enomem, "PIECES", pieces)
    overcommit = boot("6.18", fork_enomem.BOX).kernel.overcommit
    fits = pieces * fork_enomem.PIECE <= overcommit.totalram + overcommit.swap
    assert fits == (pieces == 5)
    assert fork_enomem.trial("6.18", HEURISTIC).found["fork"] == ("ok" if fits else "ENOMEM")


def test_reasons_are_the_requests() -> None:
    """What is said to have been asked for and compared: the sizes of this box."""
    (totals,) = fork_enomem.trial("6.18", HEURISTIC).notes
    overcommit = boot("6.18", fork_enomem.BOX).kernel.overcommit
    assert (
        totals
        == f"fork: 112 MiB in one mapping; RAM and swap are {(overcommit.totalram + overcommit.swap) / 256:.0f} MiB"
    )
    piece, fork, *_ = fork_enomem.trial("6.18", STRICT).notes
    assert piece.startswith("piece 4: 16 MiB more than the 48 MiB promised so far")
    assert fork.startswith("fork: 48 MiB more than the 48 MiB promised so far")
    assert f"below {overcommit.totalram / 512 + 32:.1f} MiB" in fork


def test_fork_enomem_says_who_is_cured() -> None:
    """Sentences are chosen by the table: other rows, other names."""
    cured = Trial("A", "mode 0", {"fork": "ENOMEM", "with a hole": "ok", "written": "ok"})
    again = Trial("B", "mode 0", {"fork": "ENOMEM", "with a hole": "ok", "written": "ENOMEM"})
    never = Trial("C", "mode 0", {"fork": "ok", "with a hole": "ok", "written": "ok"})
    strict = Trial("D", "mode 2", {"fork": "ENOMEM", "with a hole": "ENOMEM", "written": "ENOMEM"})
    first, second, third = fork_enomem.said([cured, again, never, strict])
    assert "cures it on A, B:" in first
    assert second.startswith("On B only")
    assert third.endswith("refused by C in mode 0.")


# -- merge-15-years ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "left"),
    [
        (merge_rules.AnyOfTwo, [1, 1, 1, 1, 1, 1]),
        (merge_rules.ExactlyOne, [2, 2, 3, 1, 2, 2 * merge_rules.STRIPES]),
        (AnonVmaChainMap, [1, 1, 1, 1, 2, 1]),
    ],
)
def test_vmas_that_are_left(design: type[AnonVmaChainMap], left: list[int]) -> None:
    """2010: whoever has no anon_vma merges. 2011: not where it is to grow, nor in a fork's child. 6.16: not in a fork's child."""
    assert list(merge_rules.trial("", design).found.values()) == left


def test_merging_is_the_rules_own() -> None:
    """A rule that never agrees leaves every border: what the others merge is merged by their answer."""

    class Never(AnonVmaChainMap):
        def vma_can_grow(self, vma: object, source: object) -> bool:
            return False

    assert list(merge_rules.trial("", Never).found.values()) == [2, 2, 3, 2, 2, 2 * merge_rules.STRIPES]
