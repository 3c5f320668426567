"""`rmaplab live`: look at this machine or read what was saved, choose rows, say what they are; once, again and again, or for two."""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from rmaplab.cli.census_options import RowsAsked
from rmaplab.cli.options import Output
from rmaplab.errors import UsageError
from rmaplab.files import STDOUT
from rmaplab.harmless import harmless
from rmaplab.host.footprint import read_task
from rmaplab.host.here import demand_x86_64
from rmaplab.host.snapshot import CensusTaker, Rung, Snapshot
from rmaplab.host.wanted import Wanted
from rmaplab.lab.census.census import Census, NobodyThere
from rmaplab.lab.census.diff import COUNTED, changes, total_changes
from rmaplab.lab.census.file import anonymised, load, save_snapshot
from rmaplab.report.census import CensusReport, DiffReport, clock, watch_line, where_we_stand
from rmaplab.report.emit import emit, in_json

_ELSEWHERE = ("live", "try --from FILE with a census saved there, or the model, `rmaplab compare mallocgroup`")


class Reading(NamedTuple):
    """How this machine's pages are read: all of them, or a sample, drawn by a seed (None: another each time)."""

    full: bool
    seed: int | None


def look(
    asked: RowsAsked, how: Reading, source: Path | None, save: Path | None, out: Output, *, anonymise: bool
) -> None:
    """One look, or one that was saved."""
    snapshot = load(source) if source is not None else _look_once(asked, how, cgroups=save is not None)
    found = _choose(snapshot, asked, source)
    try:
        if save is not None:
            save_snapshot(anonymised(snapshot) if anonymise else snapshot, save)
    finally:  # what was seen is shown, whether or not it can be saved
        if save is None or str(save) not in STDOUT:
            emit(found, *out)


def _look_once(asked: RowsAsked, how: Reading, *, cgroups: bool) -> Snapshot:
    demand_x86_64(*_ELSEWHERE)
    if asked.pid is not None:
        task = read_task(asked.pid)
        if task is None:
            raise UsageError(f"no process {asked.pid}: it has ended, or never was (see: ps -e)")
        if not task.has_memory:
            raise UsageError(
                f"process {asked.pid} ({task.comm}) has no memory of its own: a kernel thread, or a zombie"
            )
    with CensusTaker() as observer:
        return observer.look(_wanted(asked), **how._asdict(), cgroups=cgroups)


def _wanted(asked: RowsAsked) -> Wanted:
    return Wanted(asked.pid, asked.comm, asked.cgroup, asked.trees)


def _choose(snapshot: Snapshot, asked: RowsAsked, source: Path | None = None) -> CensusReport:
    """What is asked for. Raises UsageError, NobodyThere among them."""
    census, where = Census(snapshot), "this machine" if source is None else str(source)
    rows, mms = census.select(**asked.choice, where=where)
    shown = census.estimated(rows[: asked.top or None], trees=asked.trees)
    return CensusReport(shown, census, mms, asked.trees, len(rows) - len(shown))


def watch(asked: RowsAsked, how: Reading, interval: float, times: int | None, form: str) -> None:
    """Look again and again: `times`, until interrupted, or until the PID asked for is gone."""
    demand_x86_64(*_ELSEWHERE)
    looks = torn = broken = 0
    with CensusTaker() as observer:
        try:
            while times is None or looks < times:
                if looks:
                    time.sleep(interval)
                snapshot = observer.look(_wanted(asked), **how._asdict())
                looks, torn, broken = looks + 1, torn + snapshot.torn, broken + bool(snapshot.broken)
                try:
                    found = _choose(snapshot, asked)
                except NobodyThere:
                    if looks == 1:
                        raise
                    found = CensusReport([], Census(snapshot), np.zeros(0, np.int64), asked.trees, 0)
                click.echo(harmless(_one_look(found, form, looks, torn, broken)))
                if not found.rows and asked.pid is not None:
                    break  # a PID does not come back
        except KeyboardInterrupt:
            pass  # that is how it ends
        finally:
            dumps = f", {torn} torn dumps read again, {broken} looks torn in part"
            click.echo(f"{looks} looks{dumps if observer.rung <= Rung.GRAPH else ''}", err=True)


def _one_look(found: CensusReport, form: str, nth: int, torn: int, broken: int) -> str:
    if form == "json":
        return in_json(found)
    snapshot = found.census.snapshot
    if not found.rows:
        return f"{nth} {clock(snapshot.taken_at)}: none now"
    line = watch_line(found, nth, *((torn, broken) if snapshot.knows_anon_vmas else (None, None)))
    if sys.stdout.isatty():
        return f"\x1b[2J\x1b[H{found.text()}\n{line}"
    return "\n".join([*(where_we_stand(snapshot) if nth == 1 else []), line])


def diff(before: Path, after: Path, asked: RowsAsked, out: Output) -> None:
    """What changed between two that were saved."""
    figure = asked.figure or "rmap_bytes"
    if figure not in COUNTED:
        raise UsageError(
            f"a diff cannot be sorted by {asked.sort}: choose rmap, chains, anon_vmas, vmas, page-tables, private or pss"
        )
    sides, nobody = [], []
    for path in (before, after):
        census = Census(load(path))
        try:
            sides.append((census, census.select(**asked.choice, where=str(path))[1]))
        except NobodyThere as error:  # a process may have come, or gone
            sides.append((census, np.zeros(0, np.int64)))
            nobody.append(error)
    if len(nobody) == 2:
        raise nobody[1]
    total, *found = [total_changes(*sides), *changes(*sides, trees=asked.trees)]
    found.sort(key=lambda change: -abs(change.grown(figure) or 0))
    shown = found[: asked.top or None]
    stand = [(path, census) for path, (census, _) in zip((before, after), sides, strict=True)]
    emit(DiffReport([total, *shown], stand, asked.trees, len(found) - len(shown)), *out)
