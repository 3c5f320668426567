"""`rmaplab designs` and `rmaplab designs check NAME`."""

import click

from rmaplab.cli.options import Output, Verbs, form_option, output_options, paging_option


@click.group("designs", cls=Verbs, invoke_without_command=True)
@output_options
@click.pass_context
def command(context: click.Context, out: Output) -> None:
    """List the reverse-mapping designs there are; `designs check NAME` puts one to the test."""
    if context.invoked_subcommand is not None:
        return
    from rmaplab.cli.work.designs import list_designs

    list_designs(out)


@command.command("check")
@click.argument("name")
@click.option("--kernel", default="2.6.5-rc1", metavar="K", help="The kernel to put it under.")
@paging_option
@click.option("--examples", default=200, metavar="N", type=click.IntRange(1), help="Scripts to run.")
@click.option("--steps", default=50, metavar="N", help="Steps of a script, at most (1 to 200).")
@click.option("--seed", default=0, metavar="N", help="Another seed, other scripts.")
@form_option
@click.pass_context
def check(
    context: click.Context, name: str, kernel: str, paging: str | None, examples: int, steps: int, seed: int, form: str
) -> None:
    """Run random scripts of system calls on a kernel with the design NAME, and check everything after every call.

    If something is wrong, the smallest script found that shows it is printed, as Python; the exit code is 1 then.
    """
    from rmaplab.cli.work.designs import check_design

    context.exit(check_design(name, kernel, paging, examples, steps, seed, form))
