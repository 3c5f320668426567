"""What of a file 6.18 has in its cache after each step of 26 patterns: the model has the pages that a running 6.18.44 had (readahead_patterns.py).

Recorded on ext4 without large folios, 128 KiB read ahead; with them, in readahead-linux-6.18-large-folios.json, where sequential reads come to other windows: what they
leave in the cache is not what the model says, and those patterns are named here.
"""

import json
from pathlib import Path
from typing import Any

import pytest

import rmaplab

from .readahead_patterns import PAGE, PATTERNS, Runs, changes, runs

DIFFERENT = {
    "a page after the other", "four after the other", "10,000 bytes after the other", "from the middle on", "two streams",
}  # fmt: skip
DATA = Path(__file__).parent.parent / "data"
PAGES_ALONE: dict[str, Any] = json.loads((DATA / "readahead-linux-6.18.json").read_text())
LARGE_FOLIOS: dict[str, Any] = json.loads((DATA / "readahead-linux-6.18-large-folios.json").read_text())


def modelled(name: str) -> list[tuple[int, Runs]]:
    """The same steps on the model; what is read ahead arrives before the next one."""
    pages, advice, steps = PATTERNS[name]
    system = rmaplab.boot("6.18", ram="64M")
    task, file = system.spawn(), system.new_file(b"x" * pages * PAGE)
    fd = task.open(file, writable=True)
    at = task.mmap(pages * PAGE, 3, 1, file=fd)
    task.madvise(at, pages * PAGE, advice)
    seen: list[Runs] = []
    for what, where, length in steps:
        if what == "read":
            task.pread(fd, length, where)
        else:
            task.touch(at + where * PAGE, 1, write=what == "store")
        system.machine.disk.settle()
        seen.append(runs([index in file.pages for index in range(pages)]))
    system.check()
    return changes(seen)


@pytest.mark.parametrize("name", PATTERNS)
def test_as_on_the_host(name: str) -> None:
    assert modelled(name) == [(step, pages) for step, pages in PAGES_ALONE[name]]


def test_large_folios_are_not_modelled() -> None:
    """Where they make a difference, and where they make none."""
    agreeing = {name for name, row in LARGE_FOLIOS.items() if row == PAGES_ALONE[name]}
    assert set(PATTERNS) - agreeing == DIFFERENT
