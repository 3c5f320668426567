"""A probe is told of every call, whoever calls by whatever name; without one the function is what it was."""

from collections.abc import Mapping
from typing import Any

import pytest

import rmaplab
from rmaplab.errors import KernelBug, UsageError
from rmaplab.gdb import probes
from rmaplab.gdb.verbs import VERBS, find_verb
from rmaplab.mm import munmap

PLACE = "mm.munmap:do_munmap"


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_there(name: str) -> None:
    """And can be probed: each of its functions, as long as a probe is there."""
    for place in VERBS[name].places:
        function = probes.find_function(place)
        before = function.__code__
        probes.probe(place, _nothing)
        assert function.__code__ is not before
        probes.remove(place, _nothing)
        assert function.__code__ is before
    assert not probes.nr_probed()


def _nothing(_: Mapping[str, Any]) -> None:
    pass


def test_calls_by_any_name() -> None:
    """Two handlers, arguments by name, results and exceptions as ever."""
    kept = munmap.do_munmap
    seen = list[Mapping[str, Any]]()
    other = list[int]()
    first, second = seen.append, lambda arguments: other.append(arguments["length"])
    probes.probe(PLACE, first)
    probes.probe(PLACE, second)
    try:
        task = rmaplab.boot("2.6.7", ram="32M", boot_use="2M").spawn()
        address = task.mmap("64K")
        task.munmap(address, "16K")
        with pytest.raises(rmaplab.SyscallError):
            task.munmap(address + 1, "4K")
        assert [(each["start"], each["length"], each["call"]) for each in seen[:1]] == [(address, 16384, "munmap")]
        probes.remove(PLACE, first)
        assert task.mm is not None
        kept(task.kernel, task.mm, address + 16384, 4096)
        assert (len(seen), other) == (2, [16384, 4096, 4096])
    finally:
        probes.remove(PLACE, first)
        probes.remove(PLACE, second)
    task.munmap(address + 20480, "4K")
    assert len(other) == 3
    assert not probes.nr_probed()


def test_what_cannot_be_probed() -> None:
    """No such module, no such function, a class, a function in a function."""
    for place in ("mm.munmap:nothing", "mm.kernel:Kernel", "reclaim.oom_programs:SignallingKiller.oom_kill"):
        with pytest.raises(KernelBug):
            probes.probe(place, _nothing)
    with pytest.raises(UsageError):
        probes.probe("mm.nowhere:nothing", _nothing)
    with pytest.raises(UsageError, match="try_to_unmap"):
        find_verb("try_to_unmp")
    assert not probes.nr_probed()
