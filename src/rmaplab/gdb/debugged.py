"""An engine with a debugger before it: user code runs as before, but for where gdb wants it to stop.

    loop.py   turn ->  Debugged.turn  ->  the engine's turn, or step           what the kernel is wanted for is handed on
                            |
                            +- breakpoint, watched page, end of a step ->  the session: the machine stands still until gdb lets it go on

A step ends after one instruction: of a system call when the thread is back in user mode, whoever has run meanwhile. A fault on the way is the kernel's as ever, and
the instruction is begun again. Each instruction that is stepped takes the time of a basic block.
"""

from typing import Any, Protocol

from rmaplab.cpu.engine import AccessKind, CpuEngine, Space, Trap
from rmaplab.gdb.memory import find_frame
from rmaplab.gdb.stops import REASONS, SOFTWARE, Stops
from rmaplab.gdb.tasks import Tasks
from rmaplab.mm.kernel import Kernel

Range = tuple[int, int]
"""[start, end) of addresses."""


class Halting(Protocol):
    """What a session is to an engine."""

    stops: Stops
    tasks: Tasks
    kernel: Kernel
    steps: dict[int, Range]
    """Who is to step, and as long as it stays where; an empty range: once."""
    has_sent: bool
    """gdb has sent signals when it let the run go on."""

    def enters_user_mode(self, number: int) -> None:
        """A thread is about to run user code."""

    def steps_out(self, number: int) -> None:
        """Its step has ended in the kernel: it stops when it is back."""

    def halt(self, number: int, reason: bytes = b"") -> None:
        """Stop here, until gdb lets it go on."""


class Debugged:
    """One engine of a userland, with what stands before it."""

    def __init__(self, session: Halting, inner: CpuEngine) -> None:
        self._session, self._inner = session, inner
        self.blocks = 0
        self._stood_at: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        """All else is the engine's own."""
        return getattr(self._inner, name)

    def turn(self, context: Any, space: Space, blocks: int, tsc: int = 0) -> Trap:
        """As the engine's, with stops on the way."""
        session, inner = self._session, self._inner
        number, self.blocks = session.tasks.current(), 0
        session.has_sent = False
        session.enters_user_mode(number)
        # a signal that gdb has sent is the loop's to deliver, before anything else is run
        while self.blocks < blocks and not session.has_sent:
            self._tell_engine()
            wants = session.steps.get(number)
            stands = context.pc in session.stops.breakpoints and self._stood_at.get(number) == context.pc
            if wants is not None or stands:
                trap = inner.step(context, space, tsc)
            else:
                trap = inner.turn(context, space, blocks - self.blocks, tsc)
            self.blocks += inner.blocks
            if trap is Trap.WATCHED:
                trap = inner.step(context, space, tsc)
                self.blocks += inner.blocks
            if trap is Trap.BREAKPOINT or (trap is Trap.FAULT and not stands and self._cannot_run(context, space)):
                self._halt(number, context, REASONS[session.stops.breakpoints.get(context.pc, SOFTWARE)] + b":;")
            elif trap is Trap.STEPPED:
                self._stood_at.pop(number, None)
                self._has_stepped(number, context, space, wants)
            else:
                if wants is not None and trap in (Trap.SYSCALL, Trap.EXCEPTION):
                    session.steps_out(number)
                return trap
        return Trap.SLICE

    def _cannot_run(self, context: Any, space: Space) -> bool:
        """Whether it has come to a breakpoint on a page that is there, but may not be executed: gdb lets a function that it calls return to one on the stack."""
        inner, stops = self._inner, self._session.stops
        if inner.access is not AccessKind.FETCH or inner.address != context.pc or context.pc not in stops.breakpoints:
            return False
        return find_frame(self._session.kernel, space.mm, context.pc) >= 0

    def _has_stepped(self, number: int, context: Any, space: Space, wants: Range | None) -> None:
        session = self._session
        watched = session.stops.hit(session.kernel, space.mm, self._inner.accesses)
        if watched is not None:
            self._halt(number, context, REASONS[watched.kind] + b":%x;" % watched.address)
        elif wants is not None and (not wants[0] <= context.pc < wants[1] or context.pc in session.stops.breakpoints):
            self._halt(number, context)

    def _halt(self, number: int, context: Any, reason: bytes = b"") -> None:
        stood = context.pc
        self._session.halt(number, reason)
        if context.pc == stood:
            self._stood_at[number] = stood
        else:  # gdb has it go on elsewhere: a breakpoint that is there counts
            self._stood_at.pop(number, None)

    def _tell_engine(self) -> None:
        stops = self._session.stops
        if stops.changed:
            stops.changed = False
            self._inner.set_stops(stops.breakpoints, stops.pages())
