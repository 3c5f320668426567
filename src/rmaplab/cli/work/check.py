"""`rmaplab check`: scripts on both sides, what a file has recorded, or random ones; the first difference is shown."""

import time
from collections import Counter

import click

from rmaplab.calls.table import CALLS
from rmaplab.cli.work.progress import progress
from rmaplab.errors import NotModelled, UsageError
from rmaplab.files import write_text
from rmaplab.harmless import harmless, printable
from rmaplab.host.agent import Agent
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.differential.campaign import campaign
from rmaplab.lab.differential.compare import Difference, compare
from rmaplab.lab.differential.fuzz import make_script
from rmaplab.lab.differential.obey import obey
from rmaplab.lab.differential.recording import load
from rmaplab.lab.differential.recording import save as save_records
from rmaplab.report.differences import coverage_lines, draw_difference
from rmaplab.workloads.script import read_script

SEEN = {
    "flags": "flags of VMAs", "borders": "where VMAs end (it merges by other rules)", "pages": "pages", "words": "contents",
    "frames": "frames", "mapcounts": "mapcounts", "exclusive": "AnonExclusive", "tables": "page tables",
    "locked": "locked pages",
}  # fmt: skip


def check(
    scripts: tuple[str, ...], kernel: str, fuzz: int | None, seed: int, save: str | None, against: str | None
) -> int:
    """One of the three. The exit code. Raises UsageError for a kernel there is not."""
    find_kernel(kernel)
    if against is not None:
        return _against(against, kernel)
    return _fuzz(kernel, fuzz, seed, save) if fuzz is not None else _scripts(scripts, kernel)


def _scripts(paths: tuple[str, ...], kernel: str) -> int:
    """Each script on both sides. The exit code."""
    scripts = [read_script(path) for path in paths]
    skipped = 0
    with Agent(graph=True) as agent:
        _say_what_is_missing(agent, kernel)
        for script in scripts:
            try:  # the model first: what it refuses, because it is too large, must not burden the host
                model = obey(script, kernel, agent.circumstances, check_each=True, graph=not agent.no_graph)
            except NotModelled as reason:
                click.echo(f"not compared: {reason}", err=True)
                skipped += 1
                continue
            difference = compare(agent.run(script), model)
            if difference is not None:
                _show(difference, f"host, Linux {agent.release}", f"model, {kernel}")
                return 1
            click.echo(f"{printable(script.name)}: no difference in {len(script.ops)} operations")
    if skipped:
        click.echo(f"{skipped} not compared")
    return 0


def _against(path: str, kernel: str) -> int:
    """What a file has recorded, and the model. The exit code."""
    made_on, records = load(path)
    other = of_another_release(kernel, made_on.removeprefix("Linux "))
    differ: Counter[str] = Counter()
    operations = skipped = 0
    for record in records:
        try:
            model = obey(record.script, kernel, record.around, check_each=True)
        except NotModelled as reason:
            click.echo(f"not compared: {reason}", err=True)
            skipped += 1
            continue
        difference = compare(record, model)
        if difference is not None:
            if not differ:
                _show(difference, f"recorded, {made_on}", f"model, {kernel}")
            if not other:
                return 1
            differ[f"{difference.aspect} after {difference.op.call}"] += 1
        operations += len(record.results)
    if differ:
        nr, of = differ.total(), len(records) - skipped
        click.echo(f"{printable(path)}: {nr} of {of} scripts differ; {printable(other)}")
        click.echo("  " + ", ".join(f"{count} {printable(what)}" for what, count in differ.most_common()))
        return 1
    click.echo(
        f"{printable(path)}: no difference in {len(records) - skipped} scripts, {operations} operations (recorded on {made_on})"
        + (f"; {skipped} not compared" if skipped else "")
    )
    return 0


def of_another_release(kernel: str, release: str) -> str:
    """What to say where the model is not of the release that it is compared with; "" if it is."""
    same = release.split(".")[:2] == kernel.split(".")[:2]
    return (
        ""
        if same
        else f"the model is of Linux {kernel}, and this is {release}: what changed between them differs by right"
    )


def record(path: str, paths: tuple[str, ...], fuzz: int | None, seed: int) -> int:
    """What the host does, in a file. The exit code."""
    scripts = [read_script(each) for each in paths]
    with Agent() as agent:
        _say_what_is_missing(agent)
        scripts += [make_script(seed, number, frozenset(CALLS) - agent.missing.keys()) for number in range(fuzz or 0)]
        records = [agent.run(script) for script in scripts]
        save_records(path, records, f"Linux {agent.release}")
    click.echo(
        f"{printable(path)}: {len(records)} scripts, {sum(len(each.results) for each in records)} operations recorded"
    )
    return 0


def _fuzz(kernel: str, nr: int, seed: int, save: str | None) -> int:
    """Random scripts on both sides. The exit code."""
    with Agent(graph=True) as agent, progress(f"{kernel} and Linux {agent.release}", nr) as done:
        _say_what_is_missing(agent, kernel)
        began = time.perf_counter()
        result = campaign(agent, kernel, nr, seed, done)
        wall_s = time.perf_counter() - began
        host = f"host, Linux {agent.release}"
    for line in coverage_lines(result.coverage):
        click.echo(line)
    rate = result.coverage.scripts / max(wall_s, 1e-9)
    moved = (
        f"; {result.unsteady} differed once and not again (memory that the host has moved)" if result.unsteady else ""
    )
    click.echo(f"  {wall_s:.1f} s, {rate:.0f} scripts a second{moved}")
    if result.difference is None:
        click.echo(f"no difference in {result.coverage.scripts:,} scripts of seed {seed}")
        return 0
    click.echo("")
    _show(result.difference, host, f"model, {kernel}")
    click.echo("")
    click.echo(_keep(save or f"check-{seed}-{result.found_in}.script", result.difference, seed, result.found_in))
    return 1


def _keep(path: str, difference: Difference, seed: int, number: int | None) -> str:
    """Save what differs. What is to be said of it: the script itself, if it cannot be saved."""
    head = f"# smallest of script {number} of seed {seed}: {difference.aspect} differs in line {difference.index + 2}\n"
    text = head + str(difference.script)
    try:
        write_text(path, "--save", text, keep_old=True)
    except UsageError as error:
        return f"{text.rstrip()}\n\nnot saved: {printable(str(error))}"
    return printable(f"saved as {path}: run it again with rmaplab check {path}")


def _show(difference: Difference, host: str, model: str) -> None:
    for line in draw_difference(difference, host, model):
        click.echo(harmless(line))


def _say_what_is_missing(agent: Agent, kernel: str | None = None) -> None:
    """What this host does not show, or refuses, is not compared with `kernel`, or not recorded (None): that is said."""
    if kernel is not None and (other := of_another_release(kernel, agent.release)):
        click.echo(other, err=True)
    hidden = [words for name, words in SEEN.items() if name not in agent.sees]
    if hidden:
        click.echo(
            f"not compared, because this host does not show it: {', '.join(hidden)} (as root it shows more)", err=True
        )
    if agent.no_graph and kernel is not None:
        click.echo(f"not compared: the anon_vma graph ({agent.no_graph})", err=True)
    if agent.missing:
        refused = ", ".join(f"{call} ({result})" for call, result in agent.missing.items())
        click.echo(f"this host refuses: {refused}", err=True)
