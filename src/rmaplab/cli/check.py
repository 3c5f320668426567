"""`rmaplab check SCRIPT...`: the same script on the model and on the real kernel."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmaplab.errors import NotModelled, UsageError

if TYPE_CHECKING:
    from rmaplab.host.agent import Agent
    from rmaplab.lab.differential.compare import Difference
    from rmaplab.workloads.world import Record

DEFAULT_KERNEL = "6.18"
SEEN = {
    "flags": "flags of VMAs", "borders": "where VMAs end (it merges by other rules)", "pages": "pages", "words": "contents",
    "frames": "frames", "mapcounts": "mapcounts", "exclusive": "AnonExclusive", "tables": "page tables",
}  # fmt: skip


@click.command("check")
@click.argument("scripts", nargs=-1, metavar="SCRIPT...")
@click.option("--kernel", default=DEFAULT_KERNEL, show_default=True, metavar="K", help="The model's kernel.")
@click.option("--fuzz", type=click.IntRange(1), metavar="N", help="Make N random scripts instead.")
@click.option("--seed", default=0, show_default=True, metavar="S", help="Of --fuzz: another seed, other scripts.")
@click.option(
    "--save", type=click.Path(dir_okay=False), metavar="FILE", help="Where --fuzz puts a failing script, made small."
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Only run the scripts on the host, and keep its results.",
)
@click.option("--against", type=click.Path(dir_okay=False), metavar="FILE", help="Compare the model with recorded results, not with the host.")  # fmt: skip
@click.pass_context
def command(
    context: click.Context,
    scripts: tuple[str, ...],
    kernel: str,
    fuzz: int | None,
    seed: int,
    save: str | None,
    record: str | None,
    against: str | None,
) -> None:
    """Run scripts of memory operations on the model and on this machine's kernel, and show the first difference.

    \b
    A: mmap w+0 8 rw                          one operation a line, by processes A, B ...
    A: write w+2                              pages of a window where nothing else is mapped
    A: fork B
    B: mremap w+0 4 4 MAYMOVE|FIXED w+16      docs/scripts.md lists all calls

    Exit codes: 0 no difference, 1 a difference, 2 bad input or a host that cannot run it.
    """  # noqa: D301
    given = [bool(scripts), fuzz is not None, against is not None]
    if sum(given) != 1:
        raise UsageError("give scripts, or --fuzz N, or --against FILE: one of them (see: rmaplab check --help)")
    if record is not None and against is not None:
        raise UsageError("--record keeps what the host does and --against leaves the host out: give one of them")
    if save is not None and fuzz is None:
        raise UsageError("--save keeps what --fuzz finds: give --fuzz N, or leave it out")
    for path in (save, record):
        if path is not None and not Path(path).parent.is_dir():
            raise UsageError(f"{path} cannot be written: give a path in a directory that is there")
    if record is not None:
        context.exit(_record(record, scripts, fuzz, seed))
    from rmaplab.kernels.catalogue import find_kernel  # noqa: PLC0415

    find_kernel(kernel)
    if against is not None:
        context.exit(_against(against, kernel))
    context.exit(_fuzz(kernel, fuzz, seed, save) if fuzz is not None else _scripts(scripts, kernel))


def _scripts(paths: tuple[str, ...], kernel: str) -> int:
    """Each script on both sides. The exit code."""
    from rmaplab.host.agent import Agent  # noqa: PLC0415
    from rmaplab.lab.differential.compare import compare  # noqa: PLC0415
    from rmaplab.lab.differential.obey import obey  # noqa: PLC0415
    from rmaplab.workloads.script import read_script  # noqa: PLC0415

    scripts = [read_script(path) for path in paths]
    skipped = 0
    with Agent(graph=True) as agent:
        _say_what_is_missing(agent)
        for script in scripts:
            try:  # the model first: what it refuses, because it is too large, must not burden the host
                model = obey(script, kernel, privileged=agent.privileged, check_each=True, graph=not agent.no_graph)
            except NotModelled as reason:
                click.echo(f"not compared: {reason}", err=True)
                skipped += 1
                continue
            difference = compare(agent.run(script), model)
            if difference is not None:
                _show(difference, f"host, Linux {agent.release}", f"model, {kernel}")
                return 1
            click.echo(f"{script.name}: no difference in {len(script.ops)} operations")
    if skipped:
        click.echo(f"{skipped} not compared")
    return 0


def _against(path: str, kernel: str) -> int:
    """What a file has recorded, and the model. The exit code."""
    from rmaplab.lab.differential.compare import compare  # noqa: PLC0415
    from rmaplab.lab.differential.obey import obey  # noqa: PLC0415
    from rmaplab.lab.differential.recording import load  # noqa: PLC0415

    made_on, records = load(path)
    operations = skipped = 0
    for record in records:
        try:
            model = obey(record.script, kernel, privileged=record.privileged, check_each=True)
        except NotModelled as reason:
            click.echo(f"not compared: {reason}", err=True)
            skipped += 1
            continue
        difference = compare(record, model)
        if difference is not None:
            _show(difference, f"recorded, {made_on}", f"model, {kernel}")
            return 1
        operations += len(record.results)
    click.echo(
        f"{path}: no difference in {len(records) - skipped} scripts, {operations} operations (recorded on {made_on})"
        + (f"; {skipped} not compared" if skipped else "")
    )
    return 0


def _record(path: str, paths: tuple[str, ...], fuzz: int | None, seed: int) -> int:
    """What the host does, in a file. The exit code."""
    from rmaplab.calls.table import CALLS  # noqa: PLC0415
    from rmaplab.host.agent import Agent  # noqa: PLC0415
    from rmaplab.lab.differential.fuzz import make_script  # noqa: PLC0415
    from rmaplab.lab.differential.recording import save  # noqa: PLC0415
    from rmaplab.workloads.script import read_script  # noqa: PLC0415

    scripts = [read_script(each) for each in paths]
    with Agent() as agent:
        _say_what_is_missing(agent, for_record=True)
        scripts += [make_script(seed, number, frozenset(CALLS) - agent.missing.keys()) for number in range(fuzz or 0)]
        records: list[Record] = [agent.run(script) for script in scripts]
        save(path, records, f"Linux {agent.release}")
    click.echo(f"{path}: {len(records)} scripts, {sum(len(each.results) for each in records)} operations recorded")
    return 0


def _fuzz(kernel: str, nr: int, seed: int, save: str | None) -> int:
    """Random scripts on both sides. The exit code."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from rmaplab.host.agent import Agent  # noqa: PLC0415
    from rmaplab.lab.differential.campaign import campaign  # noqa: PLC0415
    from rmaplab.report.differences import coverage_lines  # noqa: PLC0415

    with (
        Agent(graph=True) as agent,
        Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress,
    ):
        _say_what_is_missing(agent)
        bar = progress.add_task(f"{kernel} and Linux {agent.release}", total=nr)
        began = time.perf_counter()
        result = campaign(agent, kernel, nr, seed, lambda: progress.advance(bar))
        wall_s = time.perf_counter() - began
        host = f"host, Linux {agent.release}"
    for line in coverage_lines(result.coverage):
        click.echo(line)
    rate = result.coverage.scripts / max(wall_s, 1e-9)
    click.echo(f"  {wall_s:.1f} s, {rate:.0f} scripts a second" + _unsteady(result.unsteady))
    if result.difference is None:
        click.echo(f"no difference in {result.coverage.scripts:,} scripts of seed {seed}")
        return 0
    kept = Path(save or f"check-{seed}-{result.found_in}.script")
    _keep(kept, result.difference, seed, result.found_in)
    click.echo("")
    _show(result.difference, host, f"model, {kernel}")
    click.echo(f"\nsaved as {kept}: run it again with rmaplab check {kept}")
    return 1


def _unsteady(nr: int) -> str:
    return f"; {nr} differed once and not again (memory that the host has moved)" if nr else ""


def _keep(path: Path, difference: Difference, seed: int, number: int | None) -> None:
    text = f"# smallest of script {number} of seed {seed}: {difference.aspect} differs in line {difference.index + 2}\n"
    try:
        path.write_text(text + str(difference.script), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): give another path to --save") from None


def _show(difference: Difference, host: str, model: str) -> None:
    from rmaplab.report.differences import draw_difference  # noqa: PLC0415

    for line in draw_difference(difference, host, model):
        click.echo(line)


def _say_what_is_missing(agent: Agent, *, for_record: bool = False) -> None:
    """What this host does not show, or refuses, is not compared: that is said."""
    hidden = [words for name, words in SEEN.items() if name not in agent.sees]
    if hidden:
        click.echo(
            f"not compared, because this host does not show it: {', '.join(hidden)} (as root it shows more)", err=True
        )
    if agent.no_graph and not for_record:
        click.echo(f"not compared: the anon_vma graph ({agent.no_graph})", err=True)
    if agent.missing:
        refused = ", ".join(f"{call} ({result})" for call, result in agent.missing.items())
        click.echo(f"this host refuses: {refused}", err=True)
