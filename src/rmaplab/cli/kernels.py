"""`rmaplab kernels [NAME]`."""

import click

from rmaplab.cli.options import paging_option


@click.command("kernels")
@click.argument("name", required=False)
@paging_option
@click.option("--highpte/--no-highpte", default=True, help="Page tables in high memory.")
def command(name: str | None, paging: str | None, *, highpte: bool) -> None:
    """List the kernels; with NAME, show what one consists of, each figure with its source."""
    from rmaplab.cli.work.kernels import show_kernels

    show_kernels(name, paging, highpte=highpte)
