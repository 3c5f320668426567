"""`rmaplab who`: ask the running machine, and show the answer."""

from contextlib import ExitStack

import click

from rmaplab.harmless import printable
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.here import demand_x86_64
from rmaplab.host.kernel_walk import KernelWalk
from rmaplab.host.place import find_file_page, find_place
from rmaplab.host.who import who_maps_address, who_maps_file, who_maps_pfn
from rmaplab.report.emit import emit
from rmaplab.report.who import WhoReport


def who(pid_and_address: tuple[int, str] | None, path_and_offset: tuple[str, int] | None, pfn: int, form: str) -> None:
    """One of the first two, or neither: then it is the frame. What is wrong with the question is said before the kernel is asked."""
    demand_x86_64("who", "the model answers anywhere, try `rmaplab explain fork`")
    place = None if pid_and_address is None else find_place(*pid_and_address)
    page = None if path_and_offset is None else find_file_page(*path_and_offset)
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
            answer, asked = who_maps_pfn(pfn, walk), ""
    if answer.candidates is None and why:
        answer.notes.append(why)
    emit(WhoReport([answer], asked), form)
    if form == "json":
        for note in filter(None, [answer.absent, *answer.notes]):
            click.echo(f"rmaplab: {printable(note)}", err=True)
