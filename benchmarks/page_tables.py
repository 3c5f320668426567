"""An independent reader for what ships: anonymous pages of some processes, from /proc alone, and nothing of rmaplab.

    /proc/PID/maps --> ranges --> /proc/PID/pagemap --> PFNs of what is present --> /proc/kpageflags --> those that are anonymous
                                                                               --> /proc/kpagecount --> how often each is mapped

Words, bits: Documentation/admin-guide/mm/pagemap.rst. It needs root, processes that stand still if it is to be exact,
and a machine that merges none of their pages (KSM; its bit is on every anonymous page in Linux 6.12).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PAGE, CHUNK = 4096, 1 << 16
PRESENT, PFN = np.uint64(1 << 63), np.uint64((1 << 55) - 1)
ANON, ZERO_PAGE = np.uint64(1 << 12), np.uint64(1 << 24)
Words = NDArray[np.uint64]


class Read(NamedTuple):
    """Of some processes: VMAs by pid; anonymous page frames, each once, ascending; how often each is mapped by anybody."""

    vmas: dict[int, int]
    frames: Words
    mapcounts: Words


def read(pids: Iterable[int]) -> Read:
    """Each process's present pages, and of these the anonymous ones. A process that has ended has none."""
    vmas: dict[int, int] = {}
    found: list[Words] = [np.empty(0, np.uint64)]
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
            with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
                lines = [line for line in lines if not line.endswith("[vsyscall]")]
                vmas[pid] = len(lines)
                for line in lines:
                    start, _, end = line.partition(" ")[0].partition("-")
                    found += _present(pagemap.fileno(), int(start, 16) // PAGE, int(end, 16) // PAGE)
        except OSError:
            continue
    frames = np.unique(np.concatenate(found))
    flags = words_of("kpageflags", frames)
    frames = frames[(flags & ANON != 0) & (flags & ZERO_PAGE == 0)]
    return Read(vmas, frames, words_of("kpagecount", frames))


def _present(fd: int, first: int, end: int) -> Iterable[Words]:
    for at in range(first, end, CHUNK):
        words = np.frombuffer(os.pread(fd, 8 * min(CHUNK, end - at), 8 * at), np.uint64)
        yield words[words & PRESENT != 0] & PFN


def words_of(name: str, frames: Words) -> Words:
    """The words of a file that is indexed by page frame, read in the runs that the frames make."""
    words: Words = np.zeros(len(frames), np.uint64)
    with Path(f"/proc/{name}").open("rb", buffering=0) as file:
        for run in np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) > 64) + 1):
            if not len(run):
                continue
            low, high = int(frames[run[0]]), int(frames[run[-1]]) + 1
            got = np.frombuffer(os.pread(file.fileno(), 8 * (high - low), 8 * low), np.uint64)
            words[run] = got[(frames[run] - np.uint64(low)).astype(np.int64)]
    return words
