"""`make bench-against REV=...`: this working tree against another revision, call by call, as ratios.

On a machine that others use too, a time says little; but two runs side by side are disturbed alike. So each call (calls.py)
runs in pairs, a process for each side, and what is compared is new/old of a pair:

    pair 1   old  new        pair 2   new  old        pair 3   old  new        ...
             new/old                  new/old                  new/old         median, quartiles

Both sources are copies in a temporary directory, each with its own Numba cache, warmed once and not counted; so the tree may be
edited meanwhile. The counts of both sides are compared as well: faster at other work is not faster.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

from benchmarks.calls import CALLS, Measured

from rmaplab.errors import RmaplabError, UsageError
from rmaplab.report.tables import DASH, Table, console, new_table

ROOT = Path(__file__).parent.parent
PAIRS = 15

BARS = {  # issue 12, against the commit before its work began; a call that is not named here has no bar
    "forkbench level 9, 2.6.5-rc1-aa1": 0.75,
    "forkbench level 7, 2.6.2": 1.05,
    "fault from outside": 0.7,
    "fault under the scheduler": 0.6,
    "mmap + munmap, read-only, alone": 1.0,
    "mmap + munmap, read-only, neighbour": 1.0,
    "mmap + munmap, read-write, merges": 1.0,
}


class CannotRun(RmaplabError):
    """A side has no such call, or fails in it; the message is the last line it wrote."""


class Source(NamedTuple):
    """A copy of src/ at one revision, and the Numba cache that only its processes use."""

    name: str
    src: Path
    cache: Path

    def measure(self, call: str) -> Measured:
        """One run in a process of its own. Raises CannotRun."""
        environment = os.environ | {"PYTHONPATH": str(self.src), "NUMBA_CACHE_DIR": str(self.cache)}
        command = [sys.executable, str(Path(__file__).with_name("calls.py")), call]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            said = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
            raise CannotRun(f"{self.name} cannot run it: {said[-1]}")
        answer = json.loads(run.stdout)
        return Measured(answer["seconds"], answer["counts"])


class Ratios(NamedTuple):
    """What the pairs of one call say: medians in seconds; new/old as first quartile, median and third."""

    old_s: float
    new_s: float
    quartiles: tuple[float, float, float]

    @classmethod
    def of(cls, pairs: list[tuple[float, float]]) -> Ratios:
        """From (old, new) seconds of each pair."""
        ratios = [new / old for old, new in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return cls(
            statistics.median(old for old, _ in pairs), statistics.median(new for _, new in pairs), (low, middle, high)
        )

    def verdict(self, bar: float | None) -> str:
        """Whether the median is within the bar."""
        if bar is None:
            return ""
        return "met" if self.quartiles[1] <= bar else "not met"


class Row(NamedTuple):
    """A call, what its times say, and what is to be said of its counts: nothing where all runs agree."""

    call: str
    ratios: Ratios
    counts: str
    remarks: list[str]


def compare(call: str, old: Source, new: Source, nr_pairs: int) -> Row:
    """Measure one call on both sides in turns. Raises CannotRun."""
    old.measure(call)  # compiles what is not in the cache yet
    new.measure(call)
    pairs = []
    for i in range(nr_pairs):
        first, second = (old, new) if i % 2 == 0 else (new, old)
        runs = {source: source.measure(call) for source in (first, second)}
        pairs.append((runs[old], runs[new]))
    remarks = differences([before.counts for before, _ in pairs], [after.counts for _, after in pairs])
    counts = "differ" if remarks else f"same ({fingerprint(pairs[0][0].counts)})"
    return Row(call, Ratios.of([(before.seconds, after.seconds) for before, after in pairs]), counts, remarks)


def differences(old: list[dict[str, int]], new: list[dict[str, int]]) -> list[str]:
    """In words, how the counts of the runs of two sides differ; empty if they are all the same."""
    remarks = [
        f"{side}: not the same in every run"
        for side, runs in (("old", old), ("new", new))
        if any(run != runs[0] for run in runs)
    ]
    before, after = old[0], new[0]
    for name in sorted(before.keys() | after.keys()):
        if name not in before:
            remarks.append(f"{name}: only new counts it, {after[name]:,}")
        elif name not in after:
            remarks.append(f"{name}: only old counts it, {before[name]:,}")
        elif before[name] != after[name]:
            remarks.append(f"{name}: {before[name]:,} -> {after[name]:,}")
    return remarks


def fingerprint(counts: dict[str, int]) -> str:
    """Eight digits that are equal where all counts are."""
    return hashlib.sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest()[:8]


def format_seconds(seconds: float) -> str:
    """Three digits or more, in the unit that suits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds * 1e6:.2f} us"


def table_of(rows: list[Row]) -> Table:
    """One line a call."""
    table = new_table(None, "call|>old|>new|>new/old|>quartiles|>bar||counts")
    for row in rows:
        low, middle, high = row.ratios.quartiles
        bar = BARS.get(row.call)
        table.add_row(
            row.call,
            format_seconds(row.ratios.old_s),
            format_seconds(row.ratios.new_s),
            f"{middle:.3f}",
            f"{low:.3f} {high:.3f}",
            DASH if bar is None else f"{bar:.2f}",
            row.ratios.verdict(bar),
            row.counts,
        )
    return table


def chosen(only: str | None) -> list[str]:
    """The calls whose name contains `only`. Raises UsageError if there is none."""
    calls = [name for name in CALLS if only is None or only in name]
    if not calls:
        raise UsageError(f"no call is named {only!r}: try one of {'; '.join(CALLS)}")
    return calls


def commit_of(revision: str | None) -> str:
    """The commit that `revision` names in this repository. Raises UsageError."""
    if not revision:
        raise UsageError("against which revision? Try make bench-against REV=HEAD~1")
    try:
        run = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except FileNotFoundError:
        raise UsageError("the other revision comes out of git, which is not here: install git") from None
    if run.returncode:
        raise UsageError(f"{revision!r} names no commit of this repository: try HEAD~1, or one that git log shows")
    return run.stdout.decode().strip()


@contextmanager
def sources(commit: str) -> Iterator[tuple[Source, Source]]:
    """(old, new): copies of src/ as `commit` has it and as the working tree has it now. Raises UsageError."""
    run = _git("archive", commit, "src")
    if run.returncode:
        raise UsageError(f"{commit[:12]} has no src/ to measure: try a later revision")
    with tempfile.TemporaryDirectory(prefix="rmaplab-") as directory:
        old, new = (
            Source(name, Path(directory) / name / "src", Path(directory) / name / "cache") for name in ("old", "new")
        )
        with tarfile.open(fileobj=io.BytesIO(run.stdout)) as archive:
            archive.extractall(old.src.parent, filter="data")
        shutil.copytree(ROOT / "src", new.src, ignore=shutil.ignore_patterns("__pycache__"))
        yield old, new


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)


class Parser(argparse.ArgumentParser):
    """One whose complaint is a UsageError: one line, like all our refusals."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message}: try --help")


def measure_all(arguments: argparse.Namespace) -> None:
    """All that was asked for, in one table. Raises UsageError, also if nothing could be measured."""
    if arguments.pairs < 1:
        raise UsageError(f"{arguments.pairs} pairs: give 1 or more")
    calls, commit = chosen(arguments.only), commit_of(arguments.rev)
    rows, missing = [], []
    with sources(commit) as (old, new):
        for call in calls:
            print(f"measuring: {call}", file=sys.stderr, flush=True)
            try:
                rows.append(compare(call, old, new, arguments.pairs))
            except CannotRun as failure:
                missing.append(f"{call}: not measured: {failure}")
    if not rows:
        raise UsageError(f"nothing could be measured: {missing[0]}; try a later revision")
    print(f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}")
    print(f"new: this tree; old: {arguments.rev}, {commit[:12]}; medians; pairs: {arguments.pairs}")
    console().print(table_of(rows))
    for line in missing:
        print(line)
    for row in rows:
        if row.remarks:
            print(f"{row.call}: {'; '.join(row.remarks)}")


def main() -> None:
    """Parse, measure, print; exit code 0 whatever the ratios are, 2 for what cannot be measured."""
    parser = Parser(prog="bench-against", description="this working tree against another revision")
    parser.add_argument("rev", nargs="?", help="a git revision, such as HEAD~1")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"runs of each side, {PAIRS} if not given")
    parser.add_argument("--only", help="measure only calls whose name contains this")
    try:
        measure_all(parser.parse_args())
    except UsageError as error:
        print(f"bench-against: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
