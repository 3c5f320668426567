"""A run and its gdb: where they meet, how the machine is made to stand still, how gdb goes and comes again.

    session = Session(system, "forkbench")
    system.run()                                 as soon as it has begun it says where it listens, on stderr, and waits for gdb
    session.end(0)                               gdb is told how it has ended; nothing is left behind

    run     ====|halt.......|=========|halt...|======= end          halt: a breakpoint, a probe, a point, gdb's Ctrl-C
    gdb         |g m Z0 c   |         |D      |                     D: it has gone; the run goes on, and listens for the next one

While it runs gdb is listened to some hundred times a second of ours, by a timer of simulated time that changes nothing and finds out how often that is. A client that vanishes is one that has detached.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from rmaplab.cpu.engine import CpuEngine
from rmaplab.errors import KilledByDebugger, UsageError
from rmaplab.gdb import probes
from rmaplab.gdb.debugged import Debugged, Range
from rmaplab.gdb.memory import find_frame
from rmaplab.gdb.monitor import Monitor
from rmaplab.gdb.packets import INTERRUPT, GdbHasGone, GdbWire
from rmaplab.gdb.stops import Stops
from rmaplab.gdb.stub import Resumed, Stub
from rmaplab.gdb.tasks import Tasks
from rmaplab.gdb.verbs import Verb, find_verb
from rmaplab.gdb.words import in_words
from rmaplab.harmless import printable
from rmaplab.kernels.system import System
from rmaplab.machine.locks import Listener, Point
from rmaplab.mm.kernel import Kernel
from rmaplab.units import PAGE_SIZE

FIRST_NS, LEAST_NS, MOST_NS = 1_000_000, 100_000, 10**9
OFTEN_S, SELDOM_S = 0.005, 0.05
"""Of the host's time: more often is in vain, and who has said Ctrl-C does not want to wait for longer."""
SIGINT, SIGTRAP = 2, 5


def bind(host: str, port: int) -> socket.socket:
    """A socket with that address, not listened on yet: who calls meanwhile is refused, and tries again. Raises UsageError."""
    if not isinstance(host, str) or not isinstance(port, int):
        raise UsageError(f"gdb on {printable(f'{host!r}:{port!r}')}: give a host's name and a port's number")
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError, UnicodeError, TypeError) as failure:  # TypeError: a name that has no encoding
        found.close()
        raise _cannot_listen(host, port, failure) from None
    return found


def _cannot_listen(host: str, port: int, failure: Exception) -> UsageError:
    why = getattr(failure, "strerror", None) or "no such place"
    return UsageError(f"cannot listen for gdb on {printable(f'{host}:{port}')}: {why}: try another port, or 0 for any")


class Session:
    """One system, and one gdb at a time. `comm` is what tasks are called that have no name of their own; `tell` gets lines for whoever has started the run. Raises UsageError: nobody can listen there."""

    def __init__(
        self,
        system: System,
        comm: str,
        *,
        host: str = "127.0.0.1",
        port: int,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.system, self.kernel = system, system.kernel
        if system.debugger_beside is not None:
            raise UsageError("there is a debugger beside this system already: end() it first")
        self._listener, self._tell = bind(host, port), tell or _tell
        system.debugger_beside = self
        self.port: int = self._listener.getsockname()[1]
        """On which gdb is to call."""
        self._period_ns, self._polled_s = FIRST_NS, time.monotonic()
        self.tasks = Tasks(system, comm)
        self.stops = Stops()
        self.steps: dict[int, Range] = {}
        self._arrives: set[int] = set()
        """Whose step has ended in the kernel."""
        self._wants_point: int | None = None
        """Who is to stop at the next point; -1: anybody."""
        self._other: Listener | None = None
        """Who listens to points beside us (System.watch)."""
        self._wire: GdbWire | None = None
        self._stub: Stub | None = None
        self._stands = self._has_spoken = False
        self._waited_for = False
        """gdb waits for the news of a stop."""
        self.verbs: dict[str, Callable[[Mapping[str, Any]], None]] = {}
        """Functions of the kernel with a probe, by the names that gdb has given."""
        self._debugged: dict[CpuEngine, Debugged] = {}
        self.has_sent = False
        self.is_in_kernel = False
        """Of the stop that lasts."""
        sched = system.machine.sched
        sched.at(sched.now_ns - 1, self._meet, watches=True)  # before anybody who is due now

    @property
    def is_attached(self) -> bool:
        """Whether there is a gdb."""
        return self._wire is not None

    def _meet(self) -> None:
        """The run has begun: until gdb has come nothing goes on, and then it is gdb that says when."""
        if self._listener.fileno() < 0:
            return
        host, current = self._listener.getsockname()[0], self.tasks.current()
        # what is compiled when it is first called is called now: gdb waits two seconds for an answer
        find_frame(self.kernel, self.tasks.mm(current), PAGE_SIZE)
        self.tasks.read_all(current)
        try:
            self._listener.listen(1)
        except OSError as failure:  # somebody else has been quicker
            raise _cannot_listen(host, self.port, failure) from None
        self._tell(f"waits for gdb: target remote {f'[{host}]' if ':' in host else host}:{self.port}")
        self._poll_later()
        while not self._has_spoken:  # whoever comes and says nothing that gdb would say was none
            self._accept()

    def end(self, status: int = 0) -> None:
        """The run has ended, with this exit status: gdb is told, and nobody listens any more. Nothing happens the second time."""
        if self._wire is not None and self._waited_for:
            with suppress(GdbHasGone):
                self._wire.send(b"W%02x" % (status & 0xFF))
        self._leave()
        self._listener.close()
        if self.system.debugger_beside is self:
            self.system.debugger_beside = None

    # -- coming and going ------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire = GdbWire(connection)
        self._stub = Stub(self, Monitor(self))
        self._waited_for = self._has_spoken = False
        self.system.before_engine, self.system.beside_host = self._before, self._wait_for_host
        self.halt(self.tasks.current())

    def _leave(self) -> None:
        """As if no gdb had ever been here."""
        if self._wire is not None:
            self._wire.close()
        self._wire = self._stub = None
        for name in list(self.verbs):
            self.remove_verb(name)
        self.stops.clear()
        for debugged in self._debugged.values():
            debugged.set_stops((), {})
        self.steps.clear()
        self._arrives.clear()
        self._wants_point, self._waited_for = None, False
        self.system.before_engine = self.system.beside_host = None
        self._listen_to_points()

    def _before(self, engine: CpuEngine) -> Debugged:
        """What stands before an engine while gdb is here. Asked for at each turn."""
        if engine not in self._debugged:
            self._debugged[engine] = Debugged(self, engine)
        return self._debugged[engine]

    def _poll(self) -> None:
        """Whether gdb has said anything meanwhile, or a new one has come."""
        if self._listener.fileno() < 0:
            return
        self._poll_later()
        if self._wire is None:
            if select.select([self._listener], [], [], 0)[0]:
                self._tell("gdb has come")
                self._accept()
            return
        self._hear()

    def _hear(self) -> None:
        """What gdb has said while it runs: Ctrl-C, or nothing that matters."""
        if self._wire is None:
            return
        try:
            said = self._wire.poll()
        except GdbHasGone:
            self._is_gone()
            return
        if said == INTERRUPT:
            self.halt(self.tasks.current(), signal=SIGINT)

    def _wait_for_host(self, fd: int) -> None:
        """A program reads from a descriptor of the host: until it has something, or gdb has gone; Ctrl-C is heard meanwhile."""
        while self._wire is not None:
            there = select.select([fd, self._wire.fileno()], [], [])[0]
            if fd in there:
                return
            self._hear()

    def _poll_later(self) -> None:
        """In so much simulated time as takes us long enough, and not too long."""
        now_s, sched = time.monotonic(), self.system.machine.sched
        took_s, self._polled_s = now_s - self._polled_s, now_s
        if took_s < OFTEN_S:
            self._period_ns = min(2 * self._period_ns, MOST_NS)
        elif took_s > SELDOM_S:
            self._period_ns = max(self._period_ns // 4, LEAST_NS)
        sched.at(sched.now_ns + self._period_ns, self._poll, watches=True)

    def _is_gone(self) -> None:
        self._leave()
        self._tell("gdb has gone: the run goes on without it" if self._has_spoken else "that was no gdb")

    # -- what makes it stop ----------------------------------------------------------------------------------------------

    def enters_user_mode(self, number: int) -> None:
        """A thread is about to run user code: that ends its step, if it began or ended in the kernel."""
        if number in self._arrives or self._wants_point == number:
            self.halt(number)

    def steps_out(self, number: int) -> None:
        """Its step ends when it is back."""
        if self.steps.pop(number, None) is not None:
            self._arrives.add(number)

    def wants_point(self) -> None:
        """Whoever comes to a point next is to stop there."""
        self._wants_point = -1
        self._listen_to_points()

    def add_verb(self, name: str) -> None:
        """Stop where a function of the kernel begins. Raises UsageError: there is none of that name."""
        verb = find_verb(name)
        if name in self.verbs:
            return
        handler = partial(self._at_verb, name, verb)
        for place in verb.places:
            probes.probe(place, handler)
        self.verbs[name] = handler
        self._listen_to_points()

    def remove_verb(self, name: str) -> None:
        """Do not stop there any more. Raises UsageError: there is no such breakpoint."""
        if name not in self.verbs:
            raise UsageError(f"no breakpoint at {printable(name)}: there are {', '.join(self.verbs) or 'none'}")
        handler = self.verbs.pop(name)
        for place in find_verb(name).places:
            probes.remove(place, handler)
        self._listen_to_points()

    def _at_verb(self, name: str, verb: Verb, arguments: Mapping[str, Any]) -> None:
        if self._stands or not _is_of(self.kernel, arguments) or (verb.when is not None and not verb.when(arguments)):
            return
        number = self.tasks.current()
        self._say(f"{self._who(number)} at {name}({in_words(arguments)}){self._holding()}\n")
        self.halt(number, in_kernel=True)

    def _at_point(self, point: Point) -> None:
        if self._other is not None:
            self._other(point)
        entity = self.system.machine.sched.running()
        if entity is None or self._stands:
            return
        number = self.tasks.number_of(entity)
        if self._wants_point in (-1, number):
            what = f"{point.name} of {point.of}" if point.of else point.name
            held = f", holding {', '.join(point.held)}" if point.held else ""
            self._say(f"{self._who(number)} comes to {what}{held}\n")
            self.halt(number, in_kernel=True)

    def _listen_to_points(self) -> None:
        """Only while somebody wants it: then work goes page by page, and every lock is really taken. Who has listened before is told, too, and listens again afterwards."""
        wanted = self._wants_point is not None or any(find_verb(name).by_page for name in self.verbs)
        machine, mine = self.system.machine, self._at_point
        listens = machine.locks.listener == mine
        if wanted and not listens:
            self._other = machine.locks.listener
            machine.watch(mine)
        elif listens and not wanted:
            machine.watch(self._other)
            self._other = None

    def _who(self, number: int) -> str:
        entity = self.tasks.all().get(number)
        return f"thread {number}" if entity is None else f"{self.tasks.name(number, entity)} {number}"

    def _holding(self) -> str:
        held = [lock.type.name for lock in self.system.machine.locks.held()]
        return f", holding {', '.join(held)}" if held else ""

    def _say(self, text: str) -> None:
        """To gdb's console, while it waits."""
        if self._wire is not None and self._waited_for:
            try:
                self._wire.send(b"O" + text.encode(errors="replace").hex().encode())
            except GdbHasGone:
                self._is_gone()

    # -- standing still --------------------------------------------------------------------------------------------------

    def halt(self, number: int, reason: bytes = b"", *, signal: int = SIGTRAP, in_kernel: bool = False) -> None:
        """Stop here, and do what gdb says, until it lets the run go on. Raises KilledByDebugger."""
        if self._wire is None or self._stub is None or self._stands:
            return
        self._wants_point = None
        self.steps.clear()
        self._arrives.clear()
        self._stands, self.is_in_kernel = True, in_kernel
        try:
            self._stub.stopped(number, signal, reason)
            if self._waited_for:
                self._wire.send(self._stub.news)
            self._waited_for = False
            self._do(self._listen_to_gdb(self._wire, self._stub))
        except GdbHasGone:
            self._is_gone()
        finally:
            self._stands = False

    def _listen_to_gdb(self, wire: GdbWire, stub: Stub) -> Resumed:
        while True:
            packet = wire.receive()
            if packet == INTERRUPT:
                continue
            self._has_spoken = True
            answer = stub.answer(packet)
            if isinstance(answer, Resumed):
                return answer
            wire.send(answer)
            wire.acknowledges = stub.acknowledges

    def _do(self, resumed: Resumed) -> None:
        if resumed.reply is not None and self._wire is not None:
            self._wire.send(resumed.reply)
        if resumed.kills:
            self._leave()
            raise KilledByDebugger("gdb has killed it")
        if resumed.leaves:
            self._leave()
            self._tell("gdb has detached: the run goes on")
            return
        self._waited_for = True
        for number, stays in resumed.steps.items():
            if self.tasks.thread(number) is not None and not (self.is_in_kernel and number == resumed.stood):
                self.steps[number] = stays
            else:
                self._wants_point = number
        for number, signal in resumed.signals.items():
            thread = self.tasks.thread(number)
            if thread is not None:
                thread.send_self(signal)
                self.has_sent = True
        self._listen_to_points()


def _is_of(kernel: Kernel, arguments: Mapping[str, Any]) -> bool:
    """Whether a call is of this kernel, as far as its arguments say. There may be others in the process."""
    for value in arguments.values():
        found = value if isinstance(value, Kernel) else getattr(value, "k", None) or getattr(value, "kernel", None)
        if isinstance(found, Kernel):
            return found is kernel
        if value is kernel.rmap:
            return True
        if type(value) is type(kernel.rmap):
            return False
    return True


def _tell(line: str) -> None:
    with suppress(OSError):  # nobody may read it any more
        print(f"rmaplab: {line}", file=sys.stderr, flush=True)  # noqa: T201  (for whoever has started it)
