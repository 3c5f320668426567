"""`rmaplab check`: scripts on both sides, what a file has recorded, or random ones; the first difference is shown."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

from rmaplab.cli.work.progress import progress, say_interrupted
from rmaplab.errors import NotModelled, UsageError
from rmaplab.files import write_text
from rmaplab.harmless import harmless, printable
from rmaplab.host.agent import Agent
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.differential.alone import why_alone
from rmaplab.lab.differential.campaign import Campaign, calls_of, campaign
from rmaplab.lab.differential.compare import Difference, compare, unexpected
from rmaplab.lab.differential.habits import STEPS, find_maker
from rmaplab.lab.differential.obey import obey
from rmaplab.lab.differential.recording import load
from rmaplab.lab.differential.recording import save as save_records
from rmaplab.report.differences import coverage_lines, draw_difference, how_it_ended, shown
from rmaplab.report.emit import emit
from rmaplab.report.verdicts import Verdict, VerdictReport, junit_xml
from rmaplab.units import format_number
from rmaplab.workloads.script import Script, read_script

SEEN = {
    "flags": "flags of VMAs", "borders": "where VMAs end (it merges by other rules)", "pages": "pages", "words": "contents",
    "frames": "frames", "mapcounts": "mapcounts", "exclusive": "AnonExclusive", "tables": "page tables",
    "locked": "locked pages",
}  # fmt: skip


def check(
    kernel: str, fuzz: int | None, seed: int, habit: str, jobs: int, save: str | None, against: str | None, form: str
) -> int:
    """A recording, or random scripts. The exit code. Raises UsageError for a kernel or a habit there is not."""
    find_kernel(kernel)
    say = click.echo if form == "table" else _nobody_asked
    if against is not None:
        return _told([_against(against, kernel, say)], form)
    return _told([_fuzz(kernel, fuzz or 1, seed, habit, jobs, save, say)], form)


def scripts(paths: tuple[str, ...], kernel: str, form: str, junit: str | None, *, goes_on: bool, show: bool) -> int:
    """Scripts on both sides. The exit code. Raises UsageError for a kernel there is not, or a script that cannot be read."""
    find_kernel(kernel)
    found = _scripts(paths, kernel, click.echo if form == "table" else _nobody_asked, goes_on=goes_on, show=show)
    if junit is not None:
        write_text(junit, "--junit", junit_xml(found))
    return _told(found, form)


def in_directories(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Directories give way to the scripts in them, in the order of their names. Raises UsageError for one without."""
    found: list[str] = []
    for path in paths:
        if path == "-" or not Path(path).is_dir():
            found.append(path)
            continue
        there = sorted(map(str, Path(path).rglob("*.script")))
        if not there:
            raise UsageError(f"{path} is a directory without scripts: give one with files that end in .script")
        found += there
    return tuple(found)


def _told(found: list[Verdict], form: str) -> int:
    if form != "table":
        emit(VerdictReport(found), form)
    return int(any(verdict.difference is not None for verdict in found))


def _nobody_asked(line: str) -> None:
    """A program reads it all at the end."""


def _scripts(
    paths: tuple[str, ...], kernel: str, say: Callable[[str], None], *, goes_on: bool, show: bool
) -> list[Verdict]:
    """Each script on both sides, up to the first difference unless it `goes_on`; `show` says what each line came to."""
    scripts = [read_script(path) for path in paths]
    found: list[Verdict] = []
    with Agent(graph=True) as agent:
        _say_what_is_missing(agent, kernel)
        host = f"Linux {agent.release}"
        for script in scripts:
            alone = why_alone(script, agent.circumstances, disk=agent.has_disk)
            try:  # the model first: what it refuses, because it is too large, must not burden the host
                model = obey(script, kernel, agent.circumstances, check_each=True, graph=not (agent.no_graph or alone))
            except NotModelled as reason:
                click.echo(f"not compared: {printable(str(reason))}", err=True)
                found.append(Verdict(script.name, kernel, host, 1, 0, (str(reason),)))
                continue
            real = model if alone else agent.run(script)
            difference = unexpected(model) if alone else compare(real, model)
            found.append(Verdict(script.name, kernel, host, 1, len(script.ops), difference=difference, alone=alone))
            if show:
                for line in shown(real, model):
                    say(printable(line))
            if difference is not None:
                _show(difference, f"host, {host}", f"model, {kernel}", say)
                if not goes_on:
                    return found
                say("")
                continue
            say(f"{printable(script.name)}: {_as_it_should(script, alone)}")
            say(f"  {how_it_ended(real)}")
    skipped = sum(bool(verdict.reasons) for verdict in found)
    if goes_on:
        differ = sum(verdict.difference is not None for verdict in found)
        by_itself = sum(bool(verdict.alone) and verdict.difference is None for verdict in found)
        equal = len(found) - differ - skipped - by_itself
        more = f", {by_itself} on the model alone, as expected" if by_itself else ""
        say(f"{format_number(len(found), 'script')}: {equal} equal, {differ} differ, {skipped} not compared{more}")
    elif skipped:
        say(f"{skipped} not compared")
    return found


def _as_it_should(script: Script, alone: str) -> str:
    """What is said of a script without a difference."""
    if not alone:
        return f"no difference in {format_number(len(script.ops), 'operation')}"
    expected = sum(bool(op.expected) for op in script.ops)
    met = f"what {expected} of {len(script.ops)} operations must come to, they do" if expected else "it expects nothing"
    return f"on the model alone, {met}; the host was not asked: {alone}"


def _against(path: str, kernel: str, say: Callable[[str], None]) -> Verdict:
    """What a file has recorded, and the model."""
    made_on, records = load(path)
    other = of_another_release(kernel, made_on.removeprefix("Linux "))
    differ: Counter[str] = Counter()
    operations, reasons, first = 0, list[str](), None
    for record in records:
        try:
            model = obey(record.script, kernel, record.around, check_each=True)
        except NotModelled as reason:
            click.echo(f"not compared: {printable(str(reason))}", err=True)
            reasons.append(str(reason))
            continue
        difference = compare(record, model)
        operations += len(record.results)
        if difference is None:
            continue
        if first is None:
            first = difference
            _show(difference, f"recorded, {made_on}", f"model, {kernel}", say)
        differ[f"{difference.aspect} after {difference.op.call}"] += 1
        if not other:
            break
    compared = len(records) - len(reasons)
    if other and differ:
        say(f"{printable(path)}: {differ.total()} of {format_number(compared, 'script')} differ; {printable(other)}")
        say("  " + ", ".join(f"{count} {printable(what)}" for what, count in differ.most_common()))
    elif not differ:
        say(
            f"{printable(path)}: no difference in {format_number(compared, 'script')}, {format_number(operations, 'operation')} "
            f"(recorded on {printable(made_on)})" + (f"; {len(reasons)} not compared" if reasons else "")
        )
    return Verdict(path, kernel, made_on, len(records), operations, tuple(reasons), first, dict(differ))


def of_another_release(kernel: str, release: str) -> str:
    """What to say where the model is not of the release that it is compared with; "" if it is."""
    same = release.split(".")[:2] == kernel.split(".")[:2]
    return (
        ""
        if same
        else f"the model is of Linux {kernel}, and this is {release}: what changed between them differs by right"
    )


def record(path: str, paths: tuple[str, ...], fuzz: int | None, seed: int, habit: str) -> int:
    """What the host does, in a file. The exit code. Raises UsageError for a habit there is not."""
    make = find_maker(habit)
    scripts = [read_script(each) for each in paths]
    with Agent() as agent:
        _say_what_is_missing(agent)
        if fuzz:
            _say_what_is_refused(agent)
        for script in scripts:
            if alone := why_alone(script, agent.circumstances, disk=agent.has_disk):
                raise UsageError(f"{script.name} cannot be recorded on this host: {alone}: leave it out")
        scripts += [make(seed, number, calls_of(agent)) for number in range(fuzz or 0)]
        records = [agent.run(script) for script in scripts]
        save_records(path, records, f"Linux {agent.release}")
    click.echo(
        f"{printable(path)}: {format_number(len(records), 'script')}, {format_number(sum(len(each.results) for each in records), 'operation')} recorded"
    )
    return 0


def _fuzz(
    kernel: str, nr: int, seed: int, habit: str, jobs: int, save: str | None, say: Callable[[str], None]
) -> Verdict:
    """Random scripts on both sides. What was compared is told even if it is interrupted."""
    result = Campaign()
    find_maker(habit)
    named = f"seed {seed}" if habit == STEPS else f"seed {seed} (habits: {habit})"
    with Agent(graph=True) as agent, progress(f"{kernel} and Linux {agent.release}", nr) as done:
        _say_what_is_missing(agent, kernel)
        _say_what_is_refused(agent)
        host = f"Linux {agent.release}"
        began = time.perf_counter()
        try:
            campaign(agent, kernel, nr, seed, done, result, habit, jobs)
        except KeyboardInterrupt:
            say_interrupted(result.coverage.scripts, nr)
            _tell(result, named, time.perf_counter() - began, say)
            raise
        wall_s = time.perf_counter() - began
    _tell(result, named, wall_s, say)
    covered = result.coverage
    if result.difference is not None:
        say("")
        _show(result.difference, f"host, {host}", f"model, {kernel}", say)
        say("")
        path = save or f"check-{'' if habit == STEPS else f'{habit}-'}{seed}-{result.found_in}.script"
        kept = _keep(path, result.difference, f"script {result.found_in} of {named}")
        click.echo(kept, err=say is not click.echo)
    return Verdict(named, kernel, host, covered.scripts, covered.operations, difference=result.difference)


def _tell(result: Campaign, named: str, wall_s: float, say: Callable[[str], None]) -> None:
    """What was covered, and that there was no difference in it."""
    for line in coverage_lines(result.coverage):
        say(line)
    rate = result.coverage.scripts / max(wall_s, 1e-9)
    moved = (
        f"; {result.unsteady} differed once and not again (memory that the host has moved)" if result.unsteady else ""
    )
    say(f"  {wall_s:.1f} s, {rate:.0f} scripts a second{moved}")
    if result.difference is None:
        say(f"no difference in {format_number(result.coverage.scripts, 'script')} of {named}")


def _keep(path: str, difference: Difference, found_in: str) -> str:
    """Save what differs. What is to be said of it: the script itself, if it cannot be saved."""
    head = f"# smallest of {found_in}: {difference.aspect} differs in line {difference.index + 2}\n"
    text = head + str(difference.script)
    try:
        write_text(path, "--save", text, keep_old=True)
    except UsageError as error:
        return f"{text.rstrip()}\n\nnot saved: {printable(str(error))}"
    return printable(f"saved as {path}: run it again with rmaplab check {path}")


def _show(difference: Difference, host: str, model: str, say: Callable[[str], None]) -> None:
    for line in draw_difference(difference, host, model):
        say(harmless(line))


def _say_what_is_refused(agent: Agent) -> None:
    """Calls that random scripts do without here."""
    if agent.missing:
        refused = ", ".join(f"{call} ({result})" for call, result in agent.missing.items())
        click.echo(f"this host refuses: {refused}", err=True)


def _say_what_is_missing(agent: Agent, kernel: str | None = None) -> None:
    """What this host does not show is not compared with `kernel`, or not recorded (None): that is said."""
    if kernel is not None and (other := of_another_release(kernel, agent.release)):
        click.echo(other, err=True)
    hidden = [words for name, words in SEEN.items() if name not in agent.sees]
    if hidden:
        click.echo(
            f"not compared, because this host does not show it: {', '.join(hidden)} (as root it shows more)", err=True
        )
    if agent.no_graph and kernel is not None:
        click.echo(f"not compared: the anon_vma graph ({agent.no_graph})", err=True)
