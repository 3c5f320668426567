"""`rmaplab who PID ADDRESS`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmaplab.errors import UsageError

if TYPE_CHECKING:
    from rmaplab.host.who import Answer


@click.command("who")
@click.argument("pid", required=False)
@click.argument("address", required=False)
@click.option("--pfn", metavar="N", help="Ask about a page frame, by its number (decimal, or hex with 0x).")
@click.option("--file", "path", metavar="PATH", type=click.Path(path_type=Path), help="Ask about a page of a file ...")
@click.option("--offset", metavar="N", help="... at this offset in bytes.  [default: 0]")
@click.option(
    "--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]), help="What to print."
)
def command(
    pid: str | None, address: str | None, pfn: str | None, path: Path | None, offset: str | None, form: str
) -> None:
    """Who maps this page of the running machine?

    PID and ADDRESS name the page: ADDRESS in hex, or a name of /proc/PID/maps, such as [heap] (its first page that is there)
    or libc.so.6+27000. Prints the page, every process that maps it, and the VMAs that the kernel's own walk visits in vain.
    Nothing is written to the system. As root it sees everything; as another user, what is yours.

    \b
    rmaplab who 4242 7f3a1c400000
    rmaplab who 4242 [heap] --format json
    rmaplab who --pfn 0x1a2b3c
    rmaplab who --file /usr/lib/x86_64-linux-gnu/libc.so.6 --offset 0x28000
    """  # noqa: D301
    ways = [pid is not None, pfn is not None, path is not None]
    if sum(ways) != 1 or (pid is None) != (address is None) or (offset is not None and path is None):
        raise UsageError("say which page: PID ADDRESS, or --pfn N, or --file PATH (see: rmaplab who --help)")
    answer, asked = _ask(pid, address, pfn, path, offset)
    if form == "table":
        from rmaplab.report.who import show  # noqa: PLC0415

        show(answer, asked)
        return
    click.echo(json.dumps(answer.as_json(), indent=2))
    for note in filter(None, [answer.absent, *answer.notes]):
        click.echo(f"rmaplab: {note}", err=True)


def _ask(
    pid: str | None, address: str | None, pfn: str | None, path: Path | None, offset: str | None
) -> tuple[Answer, str]:
    """The answer, and the question as understood. What is wrong with the question is said before anything is loaded."""
    from rmaplab.host.bpf.errors import BpfUnavailable  # noqa: PLC0415
    from rmaplab.host.kernel_walk import KernelWalk  # noqa: PLC0415
    from rmaplab.host.place import find_file_page, find_place  # noqa: PLC0415
    from rmaplab.host.who import who_maps_address, who_maps_file, who_maps_pfn  # noqa: PLC0415

    place = None if pid is None else find_place(_number(pid, "PID"), address or "")
    page = None if path is None else find_file_page(str(path), _number(offset or "0", "offset"))
    frame = _number(pfn or "0", "page frame number")
    with ExitStack() as stack:
        walk, why = None, ""
        try:
            walk = stack.enter_context(KernelWalk())
        except BpfUnavailable as error:
            why = str(error)
        if place:
            answer, asked = who_maps_address(place, walk), f"pid {place.pid} ({place.comm}) at {place.address:x}"
        elif page:
            answer, asked = who_maps_file(page, walk), f"page {page.pgoff} of {page.name}"
        else:
            answer, asked = who_maps_pfn(frame, walk), ""
    if answer.candidates is None and why:
        answer.notes.append(why)
    return answer, asked


def _number(text: str, what: str) -> int:
    """Decimal, or hex with 0x."""
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{text!r} is no {what}: write a number, such as 4096 or 0x1000") from None
