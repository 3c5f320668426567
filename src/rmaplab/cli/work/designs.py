"""`rmaplab designs`: the list, or random scripts against one of them."""

import click

from rmaplab.cli.options import Output
from rmaplab.cli.work.progress import progress, say_interrupted
from rmaplab.files import check_writable
from rmaplab.harmless import printable
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.designs import designs, find_design, load_design
from rmaplab.lab.conformance.kit import conformance
from rmaplab.report.designs import CheckedDesign, DesignList, DesignReport
from rmaplab.report.emit import emit


def list_designs(out: Output) -> None:
    """All there are."""
    check_writable(out.path)
    emit(DesignList.of(designs().values()), *out)


def check_design(name: str, kernel: str, paging: str | None, examples: int, steps: int, seed: int, form: str) -> int:
    """Random scripts on a kernel with this design, everything checked after every call. The exit code."""
    load_design(find_design(name).path)
    paging = find_kernel(kernel).paging(paging).name
    finished = 0
    with progress(f"{kernel}+{name}", examples) as advance:

        def done() -> None:
            nonlocal finished
            finished += 1
            advance()

        try:
            found = conformance(f"{kernel}+{name}", paging=paging, examples=examples, steps=steps, seed=seed, done=done)
        except KeyboardInterrupt:
            say_interrupted(finished, examples)
            raise
    wrong = found.counterexample
    source, message = (None, None) if wrong is None else (wrong.source, wrong.message)
    emit(DesignReport([CheckedDesign(name, kernel, paging, found.scripts, found.calls, seed, source, message)]), form)
    if message is None:
        return 0
    click.echo(printable(f"{name} on {kernel}, {paging}: {message}"), err=True)
    return 1
