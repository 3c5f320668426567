"""The model tries a small box first: what comes out is what a large one gives, and a script that needs a large one gets it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rmaplab.calls.table import CALLS
from rmaplab.lab.differential import obey as module
from rmaplab.lab.differential.compare import compare
from rmaplab.lab.differential.habits import find_maker
from rmaplab.lab.differential.obey import RAM, SMALL_RAM, obey
from rmaplab.units import parse_size
from rmaplab.workloads.script import Script, parse
from rmaplab.workloads.world import Record


def boxes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames of each system that is booted for a script from now on."""
    booted, first = list[int](), module.Obedient.__init__

    def heard(obedient: Any, *arguments: Any) -> None:
        first(obedient, *arguments)
        booted.append(obedient.system.machine.frames.nr)

    monkeypatch.setattr(module.Obedient, "__init__", heard)
    return booted


def in_large(script: Script, kernel: str) -> Record:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "SMALL_RAM", "1M")  # nothing boots there
        return obey(script, kernel, graph=True)


SMALL, LARGE = parse_size(SMALL_RAM) >> 12, parse_size(RAM) >> 12


@pytest.mark.parametrize(
    ("kernel", "habit"), [("6.18", "steps"), ("6.18", "all"), ("2.6.2", "steps"), ("2.6.7", "steps")]
)
def test_the_same_comes_out(monkeypatch: pytest.MonkeyPatch, kernel: str, habit: str) -> None:
    """Results, worlds and why: of random scripts."""
    booted, make = boxes(monkeypatch), find_maker(habit)
    for number in range(10):
        script = make(4, number, frozenset(CALLS) | {"disk"})
        small, large = obey(script, kernel, graph=True), in_large(script, kernel)
        assert booted == [SMALL, LARGE]
        booted.clear()
        assert compare(small, large) is None
        assert (small.results, small.reasons) == (large.results, large.reasons)


@pytest.mark.parametrize(
    "line", ["mmap w+0 16000 rw POPULATE", "mmap w+0 7560 rw POPULATE", "memfd f0\nA: fallocate f0 0 16000"]
)
def test_what_needs_a_large_one_gets_it(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Whether memory ran out, or only nearly: nobody hears of the small one."""
    booted = boxes(monkeypatch)
    script = parse(f"A: {line}\nA: mmap w+20000 1 rw\nA: write w+20000")
    record = obey(script, "6.18")
    assert booted == [SMALL, LARGE]
    assert compare(record, in_large(script, "6.18")) is None
    assert record.error is None
    assert record.results[-1] == "ok"


def test_a_box_of_its_own_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is full is what the script is about."""
    booted = boxes(monkeypatch)
    obey(parse("box ram=128M\nA: mmap w+0 1 rw"), "6.18")
    assert booted == [parse_size("128M") >> 12]


def test_a_model_that_breaks_down_does_so_in_the_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not for want of memory is none of the box."""
    booted = boxes(monkeypatch)
    monkeypatch.setattr(module.Obedient, "raws", lambda *_, **__: np.zeros(1)[2])
    record = obey(parse("A: mmap w+0 1 rw"), "6.18")
    assert isinstance(record.error, IndexError)
    assert booted == [SMALL]
