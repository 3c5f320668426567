"""`rmaplab who PID ADDRESS`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rmaplab.errors import UsageError


def _number(text: str, what: str) -> int:
    """Decimal, or hex with 0x; a size such as 2M will not do for a place."""
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{text!r} is no {what}: write a number, such as 4096 or 0x1000") from None


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
    r"""Who maps this page of the running machine?

    PID and ADDRESS name the page: ADDRESS in hex, or a name of /proc/PID/maps, such as [heap] (its first page that is there)
    or libc.so.6+27000. Prints the page, every process that maps it, and the VMAs that the kernel's own walk visits in vain.
    Nothing is written to the system. As root it sees everything; as another user, what is yours.

    \b
    rmaplab who 4242 7f3a1c400000
    rmaplab who 4242 [heap] --format json
    rmaplab who --pfn 0x1a2b3c
    rmaplab who --file /usr/lib/x86_64-linux-gnu/libc.so.6 --offset 0x28000
    """
    ways = [pid is not None, pfn is not None, path is not None]
    if sum(ways) != 1 or (pid is None) != (address is None) or (offset is not None and path is None):
        raise UsageError(
            "say which page: PID ADDRESS, or --pfn N, or --file PATH [--offset N] (see: rmaplab who --help)"
        )

    from rmaplab.host.place import find_file_page, find_place  # noqa: PLC0415
    from rmaplab.host.who import who_maps_address, who_maps_file, who_maps_pfn  # noqa: PLC0415

    if pid is not None and address is not None:
        if not pid.isdigit():
            raise UsageError(f"{pid!r} is no PID: write the number that ps -e shows, then an address")
        place = find_place(int(pid), address)
        answer, asked = who_maps_address(place), f"pid {place.pid} ({place.comm}) at {place.address:x}"
    elif pfn is not None:
        answer, asked = who_maps_pfn(_number(pfn, "page frame number")), ""
    else:
        page = find_file_page(str(path), _number(offset or "0", "offset"))
        answer, asked = who_maps_file(page), f"page {page.pgoff} of {page.name}"

    if form == "json":
        click.echo(json.dumps(answer.as_json(), indent=2))
        for note in answer.notes:
            click.echo(f"rmaplab: {note}", err=True)
        return
    from rmaplab.report.who import show  # noqa: PLC0415

    show(answer, asked)
