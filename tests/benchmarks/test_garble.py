"""Logs that are spoilt end in a clear word, or in a count of what was not understood; nothing else comes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.garble import garbled, real_lines, run

LINES = real_lines()


def test_a_garbled_log_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make replay` plays a thousand; nothing is raised, the machine checks itself after each, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    outcomes = [outcome for _, outcome in run(25, 4, LINES)]
    assert len(outcomes) == 25
    assert "ok" in outcomes
    assert list(tmp_path.iterdir()) == []


def test_garbling_spoils() -> None:
    """Not one of them is a stretch of a real log as it was."""
    import random

    whole = set(LINES)
    spoilt = [garbled(LINES, random.Random(seed)) for seed in range(50)]
    assert all(
        any(line not in whole for line in lines) or len(lines) < 3 or len(set(lines)) < len(lines) for lines in spoilt
    )
