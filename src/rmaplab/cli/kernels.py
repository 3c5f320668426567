"""`rmaplab kernels [NAME]`."""

import click

from rmaplab.cli.options import Output, output_options, paging_option


@click.command("kernels")
@click.argument("name", required=False)
@paging_option
@click.option("--highpte/--no-highpte", default=True, help="Page tables in high memory.")
@output_options
def command(name: str | None, paging: str | None, out: Output, *, highpte: bool) -> None:
    """List the kernels; with NAME, show what one consists of, each figure with its source and since when it has held.

    NAME may be a composition: BASE, then patches by number or name, then a reverse map, such as 2.6.5-rc1+00100+anonmm.
    """
    from rmaplab.cli.work.kernels import show_kernels

    show_kernels(name, paging, out, highpte=highpte)
