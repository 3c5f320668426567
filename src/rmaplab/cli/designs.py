"""`rmaplab designs` and `rmaplab designs check NAME`."""

from __future__ import annotations

import sys

import click


@click.group("designs", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List the reverse-mapping designs there are; `designs check NAME` puts one to the test."""
    if context.invoked_subcommand is not None:
        return
    from rmaplab.kernels.designs import designs  # noqa: PLC0415
    from rmaplab.report.designs import design_list  # noqa: PLC0415
    from rmaplab.report.tables import console  # noqa: PLC0415

    console().print(design_list(designs().values()))


@command.command("check")
@click.argument("name")
@click.option("--kernel", default="2.6.5-rc1", show_default=True, metavar="K", help="The kernel to put it under.")
@click.option("--paging", metavar="FORMAT", help="i386, i386-pae or x86-64; the kernel's own if not given.")
@click.option("--examples", default=200, show_default=True, metavar="N", type=click.IntRange(1), help="Scripts to run.")
@click.option("--steps", default=50, show_default=True, metavar="N", help="Steps of a script, at most (1 to 200).")
@click.option("--seed", default=0, show_default=True, metavar="N", help="Another seed, other scripts.")
@click.pass_context
def check(
    context: click.Context, name: str, kernel: str, paging: str | None, examples: int, steps: int, seed: int
) -> None:
    """Run random scripts of system calls on a kernel with the design NAME, and check everything after every call.

    If something is wrong, the smallest script found that shows it is printed, as Python; the exit code is 1 then.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from rmaplab.kernels.catalogue import find_kernel  # noqa: PLC0415
    from rmaplab.kernels.designs import find_design, load_design  # noqa: PLC0415
    from rmaplab.lab.conformance.kit import conformance  # noqa: PLC0415

    load_design(find_design(name).path)
    paging = find_kernel(kernel).paging(paging).name
    box = {"paging": paging, "examples": examples, "steps": steps, "seed": seed}
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"{kernel}+{name}", total=examples)
        report = conformance(f"{kernel}+{name}", **box, done=lambda: progress.update(bar, advance=1))  # type: ignore[arg-type]
    found = report.counterexample
    if found is None:
        click.echo(
            f"{name} on {kernel}, {paging}: ok, {report.scripts:,} scripts of {report.calls:,} calls, seed {seed}"
        )
        return
    click.echo(found.source, nl=False)
    click.echo(f"{name} on {kernel}, {paging}: {found.message}", err=True)
    context.exit(1)
