r"""Several processes compare scripts at once, each with an agent of its own; what they find comes in the order of the scripts.

    job 0    scripts 0, 3, 6 ...   agent + model --+
    job 1    scripts 1, 4, 7 ...   agent + model --+--> here: 0, 1, 2, 3 ...
    job 2    scripts 2, 5, 8 ...   agent + model --+

What a script comes to is the same in each of them: processes, files without names, segments (an IPC namespace, or keys of its own) and page
tables are an agent's own, and each agent stays on one CPU. Two things a kernel counts by user, whoever has them: tasks (RLIMIT_NPROC), and
bytes of segments that are locked. A script that may meet such a bound runs while nobody else's does (Gate).

A job is a fork: it is this very program, with what has been changed in it. It ends with us, whatever we die of.
"""

import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from rmaplab.host.agent import Agent
from rmaplab.host.asked import HostTrouble
from rmaplab.host.closing import Closing
from rmaplab.lab.differential.obey import obey
from rmaplab.lab.differential.one_by_one import ScriptOutcome, Scripts, compared

if TYPE_CHECKING:
    from multiprocessing.context import ForkContext

PATIENCE_S = 10
POLL_S = 0.05
PR_SET_PDEATHSIG = 1


class SharedGate:
    """One for all of these jobs, `nr` of them, and who has begun them. Each has as many places in it as he needs: one, or all."""

    def __init__(self, fork: "ForkContext", nr: int) -> None:
        self._turn, self._places, self._nr = fork.Lock(), fork.Semaphore(nr), nr
        self._wanted = fork.Value("i", 0, lock=False)
        self._mine = 0
        self.ending: list[int] = []
        """Signals that have told this process to end: it does not wait any longer then."""

    @property
    def holds_back(self) -> bool:
        """Somebody wants all places."""
        return bool(self._wanted.value)

    def enter(self, *, alone: bool) -> None:
        """One after the other: while somebody waits for all places nobody else comes in. Raises SystemExit: we are to end."""
        for _ in self.entering(alone=alone):
            if self.ending:
                sys.exit()

    def entering(self, *, alone: bool) -> Iterator[None]:
        """The same, for who has something else to do meanwhile: ends when he is in."""
        while not self._turn.acquire(timeout=POLL_S):
            yield
        try:
            self._wanted.value = int(alone)
            while self._mine < (self._nr if alone else 1):
                if self._places.acquire(timeout=POLL_S):
                    self._mine += 1
                else:
                    yield
        finally:
            self._wanted.value = 0
            self._turn.release()

    def leave(self) -> None:
        """All places that he has."""
        while self._mine:
            self._mine -= 1
            self._places.release()


class Crew(Closing):
    """`nr` jobs that compare all `scripts`, each every nr-th of them. The `agent` is that of who asks; theirs must be like it."""

    def __init__(self, agent: Agent, scripts: Scripts, nr: int) -> None:
        fork = multiprocessing.get_context("fork")
        obey(scripts.make(0), scripts.kernel, agent.circumstances)  # what is loaded and compiled by then they share
        self._gate, self._nr = SharedGate(fork, nr), scripts.nr
        self._found: dict[int, ScriptOutcome] = {}
        self._failed: dict[int, Exception] = {}
        self._jobs: list[tuple[Connection, multiprocessing.process.BaseProcess]] = []
        try:
            for job in range(nr):
                ours, theirs = fork.Pipe(duplex=False)
                numbers = range(job, scripts.nr, nr)
                not_theirs = [ours, *(other for other, _ in self._jobs)]
                given = theirs, not_theirs, agent, scripts, numbers, self._gate, job
                process = fork.Process(target=_work, args=given, daemon=True)
                process.start()
                theirs.close()
                self._jobs.append((ours, process))
        except BaseException:
            self.close()
            raise
        self._open = dict(self._jobs)

    def outcomes(self) -> Iterator[ScriptOutcome]:
        """Of all scripts, in their order. Raises what a job has met: HostTrouble, also where one has died."""
        for number in range(self._nr):
            while number not in self._found:
                if (job := number % len(self._jobs)) in self._failed:
                    raise self._failed[job]
                self._hear(None)
            yield self._found.pop(number)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Within it none of them uses the host."""
        for _ in self._gate.entering(alone=True):
            self._hear(0)  # who cannot tell us what he has found does not come out
        try:
            yield
        finally:
            self._gate.leave()

    def _hear(self, seconds: float | None) -> None:
        """What jobs have to say by then. Raises HostTrouble where one has died."""
        for connection in wait(list(self._open), seconds):
            assert isinstance(connection, Connection)
            try:
                said = connection.recv()
            except (EOFError, ConnectionError):
                self._let_go(connection)
                continue
            if isinstance(said, tuple) and isinstance(said[0], Exception):
                self._failed[said[1]] = said[0]
            else:
                self._found[said.number] = said

    def _let_go(self, connection: Connection) -> None:
        process = self._open.pop(connection)
        process.join()
        if process.exitcode:
            how = (
                f"was killed by {signal.Signals(-process.exitcode).name}"
                if process.exitcode < 0
                else f"ended with code {process.exitcode}"
            )
            raise HostTrouble(
                f"one of the {len(self._jobs)} processes that compare scripts {how}: run it again, with fewer --jobs if memory is short"
            )

    def close(self) -> None:
        """End them, and what they have started."""
        for connection, process in self._jobs:
            connection.close()
            process.terminate()
        for _, process in self._jobs:
            process.join(PATIENCE_S)
            if process.is_alive():
                process.kill()
                process.join()


def _work(
    told: Connection,
    not_ours: list[Connection],
    beside: Agent,
    scripts: Scripts,
    numbers: range,
    gate: SharedGate,
    job: int,
) -> None:
    """A job: say what came of each of these scripts, or what went wrong."""
    ending = gate.ending = _begin()
    for connection in not_ours:
        connection.close()
    try:
        with _agent_like(beside, job) as agent:
            for outcome in compared(agent, scripts, numbers, gate):
                if ending:
                    break
                told.send(outcome)
    except Exception as error:  # noqa: BLE001  (it is raised again where it can be seen)
        error.add_note(traceback.format_exc())
        with suppress(OSError):  # who has begun us may have gone
            told.send((_as_it_travels(error), job))
    finally:
        gate.leave()


def _begin() -> list[int]:
    """A list that is not empty any more when a signal has told us to end: raised in the middle of things, it could be lost in what C has called."""
    gc.freeze()  # what was there at the fork stays: no collection looks at it, or copies its pages
    ending: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who has begun the campaign
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: ending.append(number))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return ending


def _agent_like(other: Agent, job: int) -> Agent:
    """One of our own, on a CPU of its own if there are as many. Raises HostTrouble where it does not see what the other does."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[job % len(cpus)]})  # it stays where it begins
    try:
        agent = Agent(graph=not other.no_graph)
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, cpus)
    mine, theirs = (
        (one.sees, one.missing.keys(), one.has_disk, bool(one.no_graph), one.circumstances.privileged)
        for one in (agent, other)
    )
    if mine != theirs:
        agent.close()
        raise HostTrouble("a second agent on this host sees other things than the first: run it with --jobs 1")
    return agent


def _as_it_travels(error: Exception) -> Exception:
    """The error, or what can be told of it."""
    try:
        same = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own)
    except Exception:  # noqa: BLE001
        same = None
    return error if type(same) is type(error) else RuntimeError("".join(traceback.format_exception_only(error)).strip())
