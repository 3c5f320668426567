"""`rmaplab who`: ask the running machine, and show the answer."""

from contextlib import ExitStack

import click

from rmaplab.errors import UsageError
from rmaplab.harmless import printable
from rmaplab.host.areas import areas_of
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.file_page import find_file_page
from rmaplab.host.here import demand_x86_64
from rmaplab.host.kernel_walk import KernelWalk
from rmaplab.host.place import find_pid, find_place
from rmaplab.host.rights import NO_PROC, proc_is_mounted
from rmaplab.host.who import who_maps_address, who_maps_file, who_maps_pfn
from rmaplab.report.areas import AreasReport
from rmaplab.report.emit import emit
from rmaplab.report.who import WhoReport

_ELSEWHERE = "the model answers anywhere, try `rmaplab explain fork`"


def _demand_a_machine() -> None:
    """One that can be asked. Raises UsageError."""
    demand_x86_64("who", _ELSEWHERE)
    if not proc_is_mounted():
        raise UsageError(NO_PROC)


def list_areas(process: str, form: str) -> None:
    """What a process maps."""
    _demand_a_machine()
    emit(AreasReport([areas_of(find_pid(process))]), form)


def who(pid_and_address: tuple[str, str] | None, path_and_offset: tuple[str, int] | None, pfn: int, form: str) -> None:
    """One of the first two, or neither: then it is the frame. What is wrong with the question is said before the kernel is asked."""
    _demand_a_machine()
    place = None if pid_and_address is None else find_place(find_pid(pid_and_address[0]), pid_and_address[1])
    page = None if path_and_offset is None else find_file_page(*path_and_offset)
    with ExitStack() as stack:
        walk: KernelWalk | BpfUnavailable
        try:
            walk = stack.enter_context(KernelWalk())
        except BpfUnavailable as error:
            walk = error
        if place:
            answer, asked = who_maps_address(place, walk), f"pid {place.pid} ({place.comm}) at {place.address:x}"
        elif page:
            answer, asked = who_maps_file(page, walk), f"page {page.pgoff} of {page.name}"
        else:
            answer, asked = who_maps_pfn(pfn, walk), ""
    emit(WhoReport([answer], asked), form)
    if form == "json":
        for note in filter(None, [answer.absent, *answer.notes]):
            click.echo(f"rmaplab: {printable(note)}", err=True)
