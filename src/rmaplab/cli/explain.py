"""`rmaplab explain STORY`."""

import click

from rmaplab.cli.box_options import BOX, box_options
from rmaplab.cli.options import Output, first_typed, output_options_without_tables
from rmaplab.files import check_writable
from rmaplab.kernels.box import Box


@click.command("explain")
@click.argument("story", metavar="STORY", default="")
@click.option("--kernel", default="2.6.5-rc1-aa1", metavar="K", help="A kernel, or KERNEL+DESIGN.")
@box_options
@output_options_without_tables
def command(story: str, kernel: str, box: Box, out: Output) -> None:
    """Tell STORY from a running system, step by step: fork, cow, mremap or who.

    Every address, frame, count and object is read from the system at that step; the answers are compared with the judge,
    who reads all page tables.

    Or one of three historical bugs of anon_vma_chain, on 6.18, with the wrong rule and with the right one: double-reuse
    (CVE-2022-42703), adoption (2010), mremap-merge (2026).

    Or the same calls under several rules and kernels, side by side: bttv (March 2004: whose are a driver's pages?), endless-fork
    (2012: who clears up? a quarter of a minute), fork-enomem (which kernel counts what?), merge-15-years (2025), nonlinear (2004: who
    finds pages that remap_file_pages has put anywhere, and who may? half a minute).
    """
    check_writable(out.path)
    from rmaplab.cli.work.explain import tell

    tell(story, kernel, box, first_typed(("kernel", *BOX)), out)
