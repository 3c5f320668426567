"""`rmaplab live` and `rmaplab live diff A B`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmaplab.cli.options import check_output, output_options, write
from rmaplab.errors import UsageError

if TYPE_CHECKING:
    from rmaplab.host.snapshot import Snapshot
    from rmaplab.lab.census.census import Census, CensusRow
    from rmaplab.lab.census.diff import Change
    from rmaplab.machine.arrays import I64

SORTS = {
    "rmap": "rmap_bytes",
    "chains": "chains",
    "anon_vmas": "anon_vmas",
    "vmas": "vmas",
    "depth": "depth",
    "walk": "longest_walk",
    "page-tables": "page_tables_bytes",
    "private": "private_bytes",
    "shared": "shared_bytes",
    "pid": "pid",
}
_SORT = click.option("--sort", type=click.Choice(list(SORTS)), help="What to sort by, the most first.  [default: rmap]")
_TREE = click.option("--tree", "trees", is_flag=True, help="A row per fork tree instead of one per process.")
_TOP = click.option(
    "--top", default=20, show_default=True, metavar="N", type=click.IntRange(0), help="Rows shown; 0 for all."
)


@click.group("live", invoke_without_command=True)
@_TREE
@click.option("--pid", type=click.IntRange(1), metavar="PID", help="Only this process, or its tree.")
@click.option("--comm", metavar="NAME", help="Only processes of this name, * and ? allowed, or their trees.")
@_SORT
@_TOP
@click.option("--save", metavar="FILE", type=click.Path(path_type=Path), help="Save the census.")
@click.option("--from", "source", metavar="FILE", type=click.Path(path_type=Path), help="Read a saved census instead.")
@click.option(
    "--under",
    metavar="DESIGN,...",
    help="With --from: live through its fork trees in the model, and walk, under these.",
)
@click.option("--watch", is_flag=True, help="Look again and again, until interrupted; off a terminal, a line per look.")
@click.option(
    "--interval", default=2.0, show_default=True, metavar="S", type=click.FloatRange(0), help="Seconds between looks."
)
@click.option("--times", metavar="N", type=click.IntRange(1), help="With --watch: look N times, then end.")
@output_options
@click.pass_context
def command(
    context: click.Context,
    pid: int | None,
    comm: str | None,
    sort: str | None,
    top: int,
    save: Path | None,
    source: Path | None,
    under: str | None,
    interval: float,
    times: int | None,
    form: str,
    output: Path | None,
    *,
    trees: bool,
    watch: bool,
) -> None:
    """A census of this machine's reverse map: processes or fork trees, their walks, files, other designs.

    As root it shows everything; with less it says which rung of the ladder of privileges it stands on. Nothing is changed.

    `rmaplab live diff A B` compares two saved ones.
    """
    if context.invoked_subcommand is not None:
        return
    check_output(output)
    check_output(save, "--save")
    shown = _Shown(trees or under is not None, pid, comm, sort, top, form)
    if under is not None and (source is None or save is not None):
        raise UsageError("--under lives through a saved census: --save one first, then give it with --from")
    if watch:
        if source is not None or output is not None or save is not None or form == "csv":
            raise UsageError(
                "--watch prints tables or JSON lines as it goes: leave --from, --save, --output and csv out"
            )
        _watch(shown, interval, times)
        return
    if times is not None:
        raise UsageError("--times counts the looks of --watch: add --watch, or leave it out")
    from rmaplab.lab.census.census import Census  # noqa: PLC0415
    from rmaplab.lab.census.file import load, save_snapshot  # noqa: PLC0415

    snapshot = load(source) if source is not None else _look_once(pid)
    if under is not None:
        write(shown.under(Census(snapshot), str(source), under.split(",")), output)
        return
    text = shown.text(Census(snapshot), str(source) if source is not None else None)
    if save is not None:
        save_snapshot(snapshot, save)
    write(text(), output)


@command.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@_TREE
@_SORT
@_TOP
@output_options
def diff(before: Path, after: Path, sort: str | None, top: int, form: str, output: Path | None, *, trees: bool) -> None:
    """What changed between two saved censuses."""
    from rmaplab.lab.census.census import Census, circumstances  # noqa: PLC0415
    from rmaplab.lab.census.diff import COUNTED, changes, total_changes  # noqa: PLC0415
    from rmaplab.lab.census.file import load  # noqa: PLC0415
    from rmaplab.report.census import diff_text, where_we_stand  # noqa: PLC0415
    from rmaplab.report.export import as_csv  # noqa: PLC0415

    check_output(output)
    figure = SORTS[sort or "rmap"]
    if figure not in COUNTED:
        raise UsageError(
            f"a diff cannot be sorted by {sort}: choose rmap, chains, anon_vmas, vmas, page-tables or private"
        )
    one, other = Census(load(before)), Census(load(after))
    total, found = total_changes(one, other), changes(one, other, trees=trees)
    if form == "json":
        sides = {side: circumstances(census.snapshot) for side, census in (("before", one), ("after", other))}
        rows = {"total": total.as_json(), "trees" if trees else "processes": [change.as_json() for change in found]}
        write(json.dumps(sides | rows, indent=2) + "\n", output)
    elif form == "csv":
        rungs = {"rung_before": int(one.snapshot.rung), "rung_after": int(other.snapshot.rung)}
        write(as_csv([_OnRung(rungs, change) for change in (total, *found)]), output)
    else:
        lines = [
            f"{path}: {line}"
            for path, side in ((before, one), (after, other))
            for line in where_we_stand(side.snapshot)
        ]
        write("\n".join(lines) + "\n\n" + diff_text(total, found, top, trees=trees, sort=figure), output)


class _Nobody(UsageError):
    """No process is of the kind asked for: an error at first, no news in a watch."""


class _Shown:
    """Which rows are asked for, in which order and form."""

    def __init__(self, trees: bool, pid: int | None, comm: str | None, sort: str | None, top: int, form: str) -> None:
        self.trees, self.pid, self.comm, self.sort, self.top, self.form = trees, pid, comm, sort, top, form

    def rows(self, census: Census, source: str | None) -> tuple[list[CensusRow], I64 | None]:
        """The rows, sorted, and the address spaces they are about (None: all). Raises UsageError if there are none."""
        import numpy as np  # noqa: PLC0415

        from rmaplab.lab.census.census import name  # noqa: PLC0415

        rows = census.trees() if self.trees else census.processes()
        chosen = None
        if self.pid is not None or self.comm is not None:
            processes = census.graph.processes
            wanted = np.ones(len(processes.pid), np.bool_)
            if self.pid is not None:
                wanted &= processes.pid == self.pid
            if self.comm is not None:
                wanted &= np.array([fnmatchcase(name(comm), self.comm) for comm in processes.comm], np.bool_)
            if not wanted.any():
                raise _Nobody(self._nobody(census, source))
            group = census.families if self.trees else np.arange(census.graph.nr_mms)
            groups = np.unique(group[processes.mm[wanted]])
            chosen = np.flatnonzero(np.isin(group, groups))
            rows = [rows[i] for i in groups.tolist()]
        key = SORTS[self.sort or ("rmap" if census.snapshot.knows_anon_vmas else "page-tables")]
        rows.sort(key=lambda row: (getattr(row, key) is None, -(getattr(row, key) or 0), row.pid))
        if key == "pid":
            rows.reverse()
        return rows, chosen

    def _nobody(self, census: Census, source: str | None) -> str:
        where = source or "this machine"
        if self.pid is not None and any(text.startswith(f"{self.pid} ") for text in census.snapshot.unseen):
            rung = int(census.snapshot.rung)
            return f"process {self.pid} is there, but on rung {rung} the kernel does not show it: try another --pid"
        if self.pid is not None:
            named = f" of name {self.comm}" if self.comm is not None else ""
            return f"no process {self.pid}{named} with memory of its own on {where}: it may have ended (see: ps -e)"
        return f"no process of name {self.comm!r} with memory of its own on {where}: try a pattern such as 'redis*'"

    def text(self, census: Census, source: str | None) -> Callable[[], str]:
        """What will be printed; what is wrong with the request is raised now."""
        rows, mms = self.rows(census, source)
        what = "trees" if self.trees else "processes"
        if self.form == "json":
            return lambda: json.dumps(census.as_json(rows, what, mms), indent=2) + "\n"
        if self.form == "csv":
            return lambda: _csv(census.snapshot, rows)
        return lambda: self.tables(census, rows, mms)

    def under(self, census: Census, source: str, names: list[str]) -> str:
        """The trees asked for, lived through under each design. Raises UsageError before anything takes long."""
        from rmaplab.kernels.designs import find_design  # noqa: PLC0415
        from rmaplab.lab.census.census import circumstances  # noqa: PLC0415
        from rmaplab.lab.census.rebuild import check_census, choose, on_the_machine, walk_under  # noqa: PLC0415
        from rmaplab.report.census import where_we_stand  # noqa: PLC0415
        from rmaplab.report.export import as_csv  # noqa: PLC0415
        from rmaplab.report.relived import under_text  # noqa: PLC0415

        designs = [find_design(name.strip()).name for name in dict.fromkeys(names)]
        check_census(census, source)
        heads = [row.pid for row in self.rows(census, source)[0]]
        chosen, history, pages = choose(census, heads, self.top)
        was = on_the_machine(census, chosen, history, pages)
        found = [walk_under(design, census, chosen, history, pages) for design in designs]
        if self.form == "csv":
            return as_csv([was, *found])
        if self.form == "json":
            rows = {"on_the_machine": was.as_json(), "designs": [row.as_json() for row in found]}
            said = {**circumstances(census.snapshot), "lived_through": chosen.as_json(), **rows}
            return json.dumps(said, indent=2) + "\n"
        return "\n".join(where_we_stand(census.snapshot)) + "\n\n" + under_text(chosen, was, found)

    def tables(self, census: Census, rows: list[CensusRow], mms: I64 | None) -> str:
        """Everything, for a reader."""
        from rmaplab.report import census as report  # noqa: PLC0415

        parts = ["\n".join(report.where_we_stand(census.snapshot)) + "\n"]
        parts.append(report.rows_text(census, rows, self.top, trees=self.trees))
        parts.append(report.walk_text(census, mms))
        parts.append(report.files_text(census, mms))
        parts.append(report.designs_text(census.snapshot, census.designs()))
        parts.append("\n".join(report.notes(census.snapshot)) + "\n")
        return "\n".join(parts)


def _look_once(pid: int | None) -> Snapshot:
    from rmaplab.host.footprint import read_task  # noqa: PLC0415
    from rmaplab.host.snapshot import CensusTaker  # noqa: PLC0415

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


class _OnRung:
    """A row that says from which rung it was seen."""

    def __init__(self, rungs: dict[str, int], row: CensusRow | Change) -> None:
        self.rungs, self.row = rungs, row

    def as_json(self) -> dict[str, Any]:
        """Its columns, the rungs first."""
        return {**self.rungs, **self.row.as_json()}


def _csv(snapshot: Snapshot, rows: list[CensusRow]) -> str:
    from rmaplab.report.export import as_csv  # noqa: PLC0415

    return as_csv([_OnRung({"rung": int(snapshot.rung)}, row) for row in rows])


def _watch(shown: _Shown, interval: float, times: int | None) -> None:
    from rmaplab.host.snapshot import CensusTaker, Rung  # noqa: PLC0415

    looks = torn = broken = 0
    with CensusTaker() as observer:
        try:
            while times is None or looks < times:
                if looks:
                    time.sleep(interval)
                snapshot = observer.look()
                looks, torn, broken = looks + 1, torn + snapshot.torn, broken + bool(snapshot.broken)
                try:
                    click.echo(_one_look(shown, snapshot, looks, torn, broken))
                except _Nobody:
                    if looks == 1:
                        raise
                    click.echo(_none_now(shown, snapshot, looks))
                    if shown.pid is not None:
                        break  # a PID does not come back
        except KeyboardInterrupt:
            pass  # that is how it ends
        finally:
            dumps = f", {torn} torn dumps read again, {broken} looks torn in part"
            click.echo(f"{looks} looks{dumps if observer.rung <= Rung.GRAPH else ''}", err=True)


def _none_now(shown: _Shown, snapshot: Snapshot, nth: int) -> str:
    import numpy as np  # noqa: PLC0415

    from rmaplab.lab.census.census import Census  # noqa: PLC0415

    if shown.form == "json":
        return json.dumps(Census(snapshot).as_json([], "trees" if shown.trees else "processes", np.zeros(0, np.int64)))
    return f"{nth}: none now"


def _one_look(shown: _Shown, snapshot: Snapshot, nth: int, torn: int, broken: int) -> str:
    from rmaplab.lab.census.census import Census  # noqa: PLC0415
    from rmaplab.report.census import watch_line, where_we_stand  # noqa: PLC0415

    census = Census(snapshot)
    rows, mms = shown.rows(census, None)
    if shown.form == "json":
        return json.dumps(census.as_json(rows, "trees" if shown.trees else "processes", mms))
    line = watch_line(rows, nth, *((torn, broken) if snapshot.knows_anon_vmas else (None, None)))
    if sys.stdout.isatty():
        return f"\x1b[2J\x1b[H{shown.tables(census, rows, mms)}\n{line}"
    return "\n".join([*(where_we_stand(snapshot) if nth == 1 else []), line])
