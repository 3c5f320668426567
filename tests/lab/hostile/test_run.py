"""Hostile programs: whatever they do, a run ends in a word, and the host's files stay as they were. `make hostile` runs a thousand."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from rmaplab.errors import KernelBug
from rmaplab.lab.hostile import run as hostile
from rmaplab.lab.hostile.assembler import Assembler
from rmaplab.lab.hostile.run import BOUNDS, KIND_NAMES, HostileEnd, HostilePlace, run

WORDS = {"exit", "signal", "hung", "full", "waits", "bound", "refused"}
SEEDS = 8
FEW = replace(BOUNDS, blocks=20_000, output_bytes=20_000, processes=10)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_every_run_ends_in_a_word(kind: str, tmp_path: Path) -> None:
    place = HostilePlace(tmp_path / "place")
    first = KIND_NAMES.index(kind)
    for seed in range(first, first + SEEDS * len(KIND_NAMES), len(KIND_NAMES)):
        ended = run(seed, place, FEW)
        assert ended.kind == kind
        assert ended.how in WORDS, seed


def test_a_run_is_the_same_again(tmp_path: Path) -> None:
    place = HostilePlace(tmp_path / "place")
    for seed in (1, 3):
        assert run(seed, place) == run(seed, place)


def test_who_reads_the_canary_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = HostilePlace(tmp_path / "place")
    (place.root / "inside").write_bytes(hostile.SECRET)

    def leak(*_: object) -> bytes:
        code = Assembler(64)
        buffer = code.room(100)
        code.call("write", 1, buffer, code.call("read", code.call("open", code.place(b"/inside\0"), 0), buffer, 100))
        code.exit(0)
        return code.elf()

    monkeypatch.setattr(hostile, "escapes", leak)
    with pytest.raises(KernelBug, match="outside its root"):
        run(3, place)


def test_what_changes_on_the_host_is_found(tmp_path: Path) -> None:
    place = HostilePlace(tmp_path / "place")
    seen = {place.digest()}
    for change in (
        (place.canary / "new").touch,
        lambda: (place.root / "etc" / "motd").write_bytes(b"x" * 4800),
        lambda: (place.root / "etc").chmod(0o700),
        (place.root / "out").unlink,
    ):
        change()
        seen.add(place.digest())
    assert len(seen) == 5


@pytest.mark.parametrize("bits", [32, 64])
def test_made_programs_run(bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = HostilePlace(tmp_path / "place")

    def loops(*_: object) -> bytes:
        code = Assembler(bits)
        total = code.place(bytes(8))

        def one() -> None:
            code.child(lambda: code.exit(5))
            code.call("wait4", -1, total, 0, 0)

        code.repeat(3, one)
        code.call("write", 1, total, 2)
        code.exit(7)
        return code.elf()

    monkeypatch.setattr(hostile, "escapes", loops)
    seed = next(n for n in range(3, 500, 5) if random.Random(n).choice((64, 64, 32)) == bits)
    assert run(seed, place) == HostileEnd("escapes", seed, "exit", "7")
