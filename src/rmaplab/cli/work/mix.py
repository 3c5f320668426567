"""qsbench and kbuild as they were typed: for `run` and for `compare`."""

from functools import partial

from rmaplab.errors import UsageError
from rmaplab.lab.costs.mixes import Make, Mix
from rmaplab.units import parse_size
from rmaplab.workloads.kbuild import Kbuild
from rmaplab.workloads.qsbench import Qsbench, usual_array

Typed = tuple[str | None, int | None, int | None, int | None]
"""array, processes, jobs, compiles."""
JOBS, COMPILES = 4, 40
"""Where nobody says."""


def seed_of(seed: int | None) -> int:
    """What was typed, or 1. Raises UsageError."""
    if seed is not None and seed < 0:
        raise UsageError(f"--seed {seed}: give a number of 0 or more")
    return 1 if seed is None else seed


def maker(workload: str, typed: Typed, seed: int) -> Make:
    """What makes that workload for a box. Raises UsageError for a size that is none."""
    array, processes, jobs, compiles = typed
    if workload == Kbuild.name:
        return partial(_kbuild, JOBS if jobs is None else jobs, COMPILES if compiles is None else compiles, seed)
    size = None if array is None else parse_size(array)
    return partial(_qsbench, size, 1 if processes is None else processes, seed)


def _qsbench(size: int | None, processes: int, seed: int, ram_bytes: int) -> Mix:
    return Qsbench(usual_array(ram_bytes, max(processes, 1)) if size is None else size, processes, seed)


def _kbuild(jobs: int, compiles: int, seed: int, _: int) -> Mix:
    return Kbuild(jobs, compiles, seed)
