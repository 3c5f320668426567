"""`rmaplab designs`: the list, or random scripts against one of them."""

import click

from rmaplab.cli.work.progress import progress
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.designs import designs, find_design, load_design
from rmaplab.lab.conformance.kit import conformance
from rmaplab.report.designs import design_list
from rmaplab.report.tables import console


def list_designs() -> None:
    """All there are."""
    console().print(design_list(designs().values()))


def check_design(name: str, kernel: str, paging: str | None, examples: int, steps: int, seed: int) -> int:
    """Random scripts on a kernel with this design, everything checked after every call. The exit code."""
    load_design(find_design(name).path)
    paging = find_kernel(kernel).paging(paging).name
    with progress(f"{kernel}+{name}", examples) as done:
        report = conformance(f"{kernel}+{name}", paging=paging, examples=examples, steps=steps, seed=seed, done=done)
    found = report.counterexample
    if found is None:
        click.echo(
            f"{name} on {kernel}, {paging}: ok, {report.scripts:,} scripts of {report.calls:,} calls, seed {seed}"
        )
        return 0
    click.echo(found.source, nl=False)
    click.echo(f"{name} on {kernel}, {paging}: {found.message}", err=True)
    return 1
