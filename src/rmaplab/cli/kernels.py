"""`rmaplab kernels [NAME]`."""

from __future__ import annotations

import click


@click.command("kernels")
@click.argument("name", required=False)
@click.option("--paging", metavar="FORMAT", help="i386, i386-pae or x86-64; the kernel's own if not given.")
@click.option("--highpte/--no-highpte", default=True, show_default=True, help="Page tables in high memory.")
def command(name: str | None, paging: str | None, *, highpte: bool) -> None:
    """List the kernels; with NAME, show what one consists of, each figure with its source."""
    from rmaplab.kernels.catalogue import KERNELS, find_kernel  # noqa: PLC0415
    from rmaplab.machine.paging import paging_format  # noqa: PLC0415
    from rmaplab.report.kernels import kernel_details, kernel_list  # noqa: PLC0415
    from rmaplab.report.tables import console  # noqa: PLC0415

    out = console()
    if name is None:
        if paging is not None:
            paging_format(paging)
        out.print(kernel_list(KERNELS.values()))
        return
    spec = find_kernel(name)
    for table in kernel_details(spec, spec.paging(paging), highpte=highpte):
        out.print(table)
