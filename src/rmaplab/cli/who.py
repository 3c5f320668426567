"""`rmaplab who PID ADDRESS`."""

from pathlib import Path

import click

from rmaplab.errors import UsageError


@click.command("who")
@click.argument("pid", required=False)
@click.argument("address", required=False)
@click.option("--pfn", metavar="N", help="Ask about a page frame, by its number (decimal, or hex with 0x).")
@click.option("--file", "path", metavar="PATH", type=click.Path(path_type=Path), help="Ask about a page of a file ...")
@click.option("--offset", metavar="N", help="... at this offset in bytes.  [default: 0]")
@click.option("--format", "form", default="table", type=click.Choice(["table", "json"]), help="What to print.")
def command(
    pid: str | None, address: str | None, pfn: str | None, path: Path | None, offset: str | None, form: str
) -> None:
    """Who maps this page of the running machine?

    PID and ADDRESS name the page. PID may be the name of a process, or self. ADDRESS is in hex, or a name of /proc/PID/maps, such
    as '[heap]' (its first page that is there; quoted, or the shell takes it for a pattern) or libc.so.6+27000, or START-END. Without
    ADDRESS, lists what the process maps. Prints the page, every process that maps it, and the VMAs that the kernel's own walk visits
    in vain. Nothing is written to the system. As root it sees everything; as another user, what is yours.

    \b
    rmaplab who 4242
    rmaplab who 4242 7f3a1c400000
    rmaplab who nginx '[heap]' --format json
    rmaplab who --pfn 0x1a2b3c
    rmaplab who --file /usr/lib/x86_64-linux-gnu/libc.so.6 --offset 0x28000
    """  # noqa: D301
    ways = [pid is not None, pfn is not None, path is not None]
    if sum(ways) != 1 or (offset is not None and path is None):
        raise UsageError("say which page: PID ADDRESS, or --pfn N, or --file PATH (see: rmaplab who --help)")
    page = None if path is None else (str(path), _number(offset or "0", "offset"))
    frame = _number(pfn or "0", "page frame number")
    from rmaplab.cli.work.who import list_areas, who

    if pid is not None and address is None:
        list_areas(pid, form)
    else:
        who(None if pid is None else (pid, address or ""), page, frame, form)


def _number(text: str, what: str) -> int:
    """Decimal, or hex with 0x."""
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{text!r} is no {what}: write a number, such as 4096 or 0x1000") from None
