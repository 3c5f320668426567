"""`rmaplab live`: look at this machine or read what was saved, choose rows, say what they are; once, again and again, or for two."""

import json
import sys
import time
from pathlib import Path

import click
import numpy as np

from rmaplab.cli.census_options import RowsAsked
from rmaplab.cli.options import Output
from rmaplab.errors import UsageError
from rmaplab.files import STDOUT
from rmaplab.harmless import harmless
from rmaplab.host.footprint import read_task
from rmaplab.host.snapshot import CensusTaker, Rung, Snapshot
from rmaplab.lab.census.census import Census, NobodyThere
from rmaplab.lab.census.diff import COUNTED, changes, total_changes
from rmaplab.lab.census.file import load, save_snapshot
from rmaplab.report.census import CensusReport, DiffReport, watch_line, where_we_stand
from rmaplab.report.emit import as_json, emit


def look(asked: RowsAsked, source: Path | None, save: Path | None, out: Output) -> None:
    """One look, or one that was saved."""
    snapshot = load(source) if source is not None else _look_once(asked.pid)
    found = _choose(snapshot, asked, source)
    try:
        if save is not None:
            save_snapshot(snapshot, save)
    finally:  # what was seen is shown, whether or not it can be saved
        if save is None or str(save) not in STDOUT:
            emit(found, *out)


def _look_once(pid: int | None) -> Snapshot:
    if not sys.platform.startswith("linux"):
        raise UsageError("live reads the Linux it runs on: try --from FILE with a census saved there")
    if pid is not None:
        task = read_task(pid)
        if task is None:
            raise UsageError(f"no process {pid}: it has ended, or never was (see: ps -e)")
        if not task.has_memory:
            raise UsageError(f"process {pid} ({task.comm}) has no memory of its own: a kernel thread, or a zombie")
    with CensusTaker() as observer:
        return observer.look()


def _choose(snapshot: Snapshot, asked: RowsAsked, source: Path | None = None) -> CensusReport:
    """What is asked for. Raises UsageError, NobodyThere among them."""
    census, where = Census(snapshot), "this machine" if source is None else str(source)
    rows, mms = census.select(trees=asked.trees, pid=asked.pid, comm=asked.comm, sort=asked.figure, where=where)
    return CensusReport(rows, census, mms, asked.trees, asked.top)


def watch(asked: RowsAsked, interval: float, times: int | None, form: str) -> None:
    """Look again and again: `times`, until interrupted, or until the PID asked for is gone."""
    looks = torn = broken = 0
    with CensusTaker() as observer:
        try:
            while times is None or looks < times:
                if looks:
                    time.sleep(interval)
                snapshot = observer.look()
                looks, torn, broken = looks + 1, torn + snapshot.torn, broken + bool(snapshot.broken)
                try:
                    found = _choose(snapshot, asked)
                except NobodyThere:
                    if looks == 1:
                        raise
                    found = CensusReport([], Census(snapshot), np.zeros(0, np.int64), asked.trees, asked.top)
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
        return json.dumps(as_json(found))
    if not found.rows:
        return f"{nth}: none now"
    snapshot = found.census.snapshot
    line = watch_line(found.rows, nth, *((torn, broken) if snapshot.knows_anon_vmas else (None, None)))
    if sys.stdout.isatty():
        return f"\x1b[2J\x1b[H{found.text()}\n{line}"
    return "\n".join([*(where_we_stand(snapshot) if nth == 1 else []), line])


def diff(before: Path, after: Path, asked: RowsAsked, out: Output) -> None:
    """What changed between two that were saved."""
    figure = asked.figure or "rmap_bytes"
    if figure not in COUNTED:
        raise UsageError(
            f"a diff cannot be sorted by {asked.sort}: choose rmap, chains, anon_vmas, vmas, page-tables or private"
        )
    one, other = Census(load(before)), Census(load(after))
    found = [total_changes(one, other), *changes(one, other, trees=asked.trees)]
    emit(DiffReport(found, [(before, one), (after, other)], asked.trees, asked.top, figure), *out)
