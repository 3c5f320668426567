"""Whom a census is asked about: a PID, commands of a name, a cgroup, or everybody. Found before anything costly is read."""

from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from rmaplab.harmless import printable
from rmaplab.host.procfs import Unread, processes, read_proc, read_status
from rmaplab.machine.arrays import Bools

_NAMED = 5


class Wanted(NamedTuple):
    """What a process must be; None: whatever. `trees`: those that share its fork tree too."""

    pid: int | None = None
    comm: str | None = None
    cgroup: str | None = None
    trees: bool = False

    @property
    def everybody(self) -> bool:
        """Whether nothing is asked for."""
        return self.pid is None and self.comm is None and self.cgroup is None

    @property
    def only_cgroup(self) -> bool:
        """Whether it is cgroups that are asked about, and no names."""
        return self.cgroup is not None and self.comm is None

    def matches(self, pid: int, comm: str, cgroup: str) -> bool:
        """Whether a process is meant. A cgroup is meant with those below it; * and ? stand for something."""
        if self.pid is not None and pid != self.pid:
            return False
        if self.comm is not None and not fnmatchcase(comm, self.comm):
            return False
        pattern = (self.cgroup or "").strip("/")
        inside = (fnmatchcase(cgroup.strip("/"), each) for each in (pattern, f"{pattern}/*"))
        return self.cgroup is None or not pattern or any(inside)

    def find(self) -> list[int]:
        """The PIDs of those who are meant, now."""
        pids = processes() if self.pid is None else [self.pid]
        names = (self._names(pid) for pid in pids)
        return [pid for pid, (comm, cgroup) in zip(pids, names, strict=True) if self.matches(pid, comm, cgroup)]

    def _names(self, pid: int) -> tuple[str, str]:
        """What is asked about only: each is a file to read."""
        comm = "" if self.comm is None else _read_name(pid)
        return comm, "" if self.cgroup is None else read_cgroup(pid)

    def others_there(self) -> str:
        """What could be asked for instead on this machine, now: the commonest names, or cgroups, of processes with memory."""
        read = read_cgroup if self.only_cgroup else _read_name
        statuses = ((pid, read_status(pid)) for pid in processes())
        return commonest(read(pid) for pid, who in statuses if not isinstance(who, Unread) and who.has_memory)


def commonest(names: Iterable[str]) -> str:
    """In words, names that most bear, and how many do; "" of none."""
    found = Counter(filter(None, names)).most_common()
    some = ", ".join(f"{name} ({nr:,})" for name, nr in found[:_NAMED])
    return f"{some}, and {len(found) - _NAMED:,} more names" if len(found) > _NAMED else some


def _read_name(pid: int) -> str:
    return as_name(_text(f"{pid}/comm").rstrip(b"\n"))


@lru_cache(1 << 12)  # thousands of processes have a few names
def as_name(comm: bytes) -> str:
    """A process's name, fit to print."""
    return printable(comm.split(b"\0")[0].decode(errors="surrogateescape"))


def read_cgroups(pids: Sequence[int], chosen: Bools) -> list[str]:
    """By process, read_cgroup(); "" for those not `chosen`."""
    return [read_cgroup(pid) if meant else "" for pid, meant in zip(pids, chosen.tolist(), strict=True)]


def read_cgroup(pid: int) -> str:
    """The cgroup of a process: version 2's, or where that is the root version 1's of memory; "" if it is not to be had."""
    lines = [line.split(":", 2) for line in _text(f"{pid}/cgroup").decode(errors="surrogateescape").splitlines()]
    found = {controllers: path for _, controllers, path in lines}
    return printable(
        next((path for name in ("", "memory") if (path := found.get(name, "/")) != "/"), found.get("", ""))
    )


def _text(name: str) -> bytes:
    text = read_proc(name)
    return b"" if isinstance(text, Unread) else text
