"""The conformance kit: random scripts on KERNEL+DESIGN, everything checked after every call; the smallest that fails.

    strategies   scripts as data                    Hypothesis makes them, and makes them smaller
    attempt      one script on a new system         run.Run; then all tasks exit and nothing may be left
    conformance  many of them                       a Conformance: how much has run, and the counterexample if there is one

A design is asked only what mm/ asks of it, in mm/'s order. After every call system.check()
compares walk() with the judge for every page, lets the design check itself, and recomputes counts and slabs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from rmaplab.calls.table import CALLS
from rmaplab.errors import UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import boot
from rmaplab.lab.conformance.operations import (
    LOCKING,
    MARKING,
    READ_WRITE,
    TREATING,
    Brk,
    Exit,
    Fork,
    Madvise,
    Mlock,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Spawn,
    Touch,
    Vfork,
    Write,
)
from rmaplab.lab.conformance.run import MOST_TASKS, Run, Spot, Step
from rmaplab.lab.conformance.thief import Thief
from rmaplab.mm.rules import Rules
from rmaplab.objects.flags import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ
from rmaplab.units import PAGE_SIZE

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

RAM = "64M"
MOST_STEPS = 200  # more choices than that make Hypothesis give a script up
INSTALL = "designs check needs Hypothesis, which is not installed: pip install 'rmaplab[designs]'"


@dataclass(frozen=True)
class Counterexample:
    """The smallest script found that fails: as Python, the error it ends with (one line), and the error itself."""

    source: str
    message: str
    error: Exception
    nr_calls: int


@dataclass(frozen=True)
class Conformance:
    """How many scripts and calls have run, the ones for making a counterexample smaller included."""

    scripts: int
    calls: int
    counterexample: Counterexample | None
    nr_short: int = 0
    """Calls that failed for want of memory though no failure was injected."""


def conformance(
    kernel: str,
    *,
    paging: str | None = None,
    examples: int = 200,
    steps: int = 50,
    seed: int = 0,
    frames: int | None = None,
    thief: bool = False,
    done: Callable[[], None] | None = None,
) -> Conformance:
    """Run `examples` scripts of at most `steps` steps on `kernel`; the same ones whatever it is, for the same seed.

    With a `thief` pages go to swap at every allocation that may sleep (thief.py). With `frames` the box is so small that memory is out again and again; the watermark is then a few pages.
    `paging` is the kernel's own if not given. `done` is called after each script. Raises UsageError: no such kernel, design or format; no Hypothesis.
    """
    try:
        from hypothesis import HealthCheck, Phase, find, settings  # noqa: PLC0415
        from hypothesis.errors import Flaky, NoSuchExample  # noqa: PLC0415
    except ImportError:
        raise UsageError(INSTALL) from None
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"{steps} steps: choose 1 to {MOST_STEPS}, and more --examples instead")
    nr_scripts = nr_calls = nr_short = 0
    spec = find_kernel(kernel)
    rules = spec.rules(spec.paging(paging).word_bytes)

    def fails(script: Sequence[Step | None]) -> bool:
        nonlocal nr_scripts, nr_calls, nr_short
        calls, short, counterexample = attempt(kernel, paging, script, frames, thief=thief)
        nr_scripts += 1
        nr_short += short
        nr_calls += calls
        if done is not None:
            done()
        return counterexample is not None

    wanted = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        with _nothing_left_behind():
            smallest = find(scripts(steps, rules), fails, random=Random(seed), settings=wanted)  # noqa: S311
    except NoSuchExample:
        return Conformance(nr_scripts, nr_calls, None, nr_short)
    except Flaky:
        raise UsageError(
            f"{kernel} does not do the same twice: a design must depend on nothing but what it is told"
        ) from None
    return Conformance(nr_scripts, nr_calls, attempt(kernel, paging, smallest, frames, thief=thief)[2], nr_short)


@contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Without a database too Hypothesis caches things in .hypothesis, where the user happens to be: elsewhere, while we ask it."""
    from hypothesis.configuration import set_hypothesis_home_dir  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="rmaplab-") as elsewhere:
        set_hypothesis_home_dir(elsewhere)
        try:
            yield
        finally:
            set_hypothesis_home_dir(None)  # where it was: $HYPOTHESIS_STORAGE_DIRECTORY, or .hypothesis


def attempt(
    kernel: str, paging: str | None, script: Sequence[Step | None], frames: int | None = None, *, thief: bool = False
) -> tuple[int, int, Counterexample | None]:
    """One script on a new system, to its end or the first thing that is wrong: calls, how many memory failed, what was wrong."""
    box: dict[str, Any] = {"ram": RAM} | ({"paging": paging} if paging else {})
    if frames is not None:
        box |= {"ram": frames * PAGE_SIZE, "boot_use": 0, "pages_min": frames // 32, "overcommit": 1, "cpus": 2}
    if thief:
        box |= {"swap": RAM}
    options = ", ".join(f"{name}={value!r}" for name, value in box.items()).replace("'", '"')
    preamble = f'system = rmaplab.boot("{kernel}", {options})'
    system = boot(kernel, **box)
    if thief:
        Thief(system, len(script))
        preamble += f"\nthief = Thief(system, {len(script)})"
    run = Run(system, preamble, scarce=frames is not None)
    try:
        run.begin()
        for step in script:
            if step is not None:
                run.step(step)
        run.finish()
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        return run.nr_calls, run.nr_short, Counterexample(run.source(), message, error, run.nr_calls)
    return run.nr_calls, run.nr_short, None


def scripts(steps: int, rules: Rules) -> SearchStrategy[tuple[Step | None, ...]]:
    """Scripts of `steps` steps, any of which may be missing, of calls that the kernel knows."""
    from hypothesis import strategies as st  # noqa: PLC0415

    task = st.integers(0, MOST_TASKS - 1)
    offset = st.just(0) | st.integers(-2, 8)
    place = st.builds(Spot, st.integers(0, 4), offset)
    start = st.builds(Spot, st.integers(0, 3), st.just(0))
    anywhere = st.builds(Spot, st.integers(0, 9), st.integers(-4, 12))
    few, length = st.integers(1, 4), st.integers(1, 12)
    some_or_all = st.just(0) | st.integers(0, 4)
    prot = st.sampled_from([READ_WRITE, READ_WRITE, PROT_READ, PROT_NONE])
    most_writable = st.sampled_from([*[READ_WRITE] * 8, PROT_READ, PROT_NONE])
    ways = [MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, 0]
    if rules.mremap_flags & MREMAP_DONTUNMAP:
        ways += [MREMAP_MAYMOVE | MREMAP_DONTUNMAP, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED]
    how = st.sampled_from(ways)
    advice = [nr for nr in (*MARKING, *TREATING) if rules.madvise_advice >> nr & 1]
    locking = [name for name in LOCKING if CALLS[name].is_known(rules)]
    often = {
        st.builds(Mmap, task, length, most_writable): 4,
        st.builds(Mmap, task, length, most_writable, anywhere, st.booleans()): 3,
        st.builds(Touch, task, place, some_or_all, st.booleans()): 3,
        st.builds(Touch, task, start, st.just(0), st.just(value=True)): 9,
        st.builds(Write, task, place, few): 5,
        st.builds(Fork, task): 5,
        st.builds(Munmap, task, place, few): 2,
        st.builds(Mprotect, task, place, some_or_all, prot): 3,
        st.builds(Mprotect, task, start, st.just(0), prot): 2,
        st.builds(Mremap, task, place, some_or_all, length, how, anywhere): 3,
        st.builds(Mremap, task, start, st.just(0), length, how, anywhere): 5,
        st.builds(Exit, task): 2,
        st.builds(Brk, task, st.integers(0, 12)): 2,
        st.builds(Vfork, task, place): 1,
        st.builds(Spawn): 1,
        st.builds(Madvise, task, place, some_or_all, st.sampled_from(advice)): 5,
        st.builds(Madvise, task, start, st.just(0), st.sampled_from([nr for nr in advice if nr in MARKING])): 3,
        st.builds(Mlock, task, place, some_or_all, st.sampled_from(locking)): 3,
    }
    grants = st.sampled_from([*[None] * 40, *range(16)])
    steps_by_weight = [st.none(), *(st.builds(Step, op, grants) for op, times in often.items() for _ in range(times))]
    step = st.sampled_from(range(len(steps_by_weight))).flatmap(steps_by_weight.__getitem__)  # one_of drops doubles
    return st.tuples(*[step] * steps)
