"""What gdb asks and is answered while the machine stands still: one method for each packet.

    g, G, p, P   registers            m, M, X   memory            Z, z   breakpoints, watchpoints
    H, T, q...   threads              c, s, C, S, vCont, D, k     how it goes on: a Resumed

An answer is b"" for what is not known here, and Exx for what cannot be done. No packet does harm, whatever stands in it.

Source: "Debugging with GDB", E.2 Packets, E.4 General Query Packets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from xml.sax.saxutils import quoteattr

from rmaplab.errors import RmaplabError, UsageError
from rmaplab.gdb import memory
from rmaplab.gdb.debugged import Range
from rmaplab.gdb.packets import PACKET_BYTES, escape, unescape
from rmaplab.gdb.signals import LINUX
from rmaplab.gdb.stops import Stops
from rmaplab.gdb.target import Register, pc_register, registers, target_xml
from rmaplab.gdb.tasks import Tasks
from rmaplab.harmless import printable
from rmaplab.mm.kernel import Kernel

FEATURES = b"PacketSize=%x;QStartNoAckMode+;swbreak+;hwbreak+;vContSupported+;qXfer:features:read+;qXfer:threads:read+;qXfer:auxv:read+;qXfer:exec-file:read+"
OK, UNKNOWN = b"OK", b""
BAD_PACKET, BAD_MEMORY = b"E16", b"E0e"
MOST_DIGITS = 16
ANY, ALL = 0, -1
ONCE: Range = (0, 0)


@dataclass
class Resumed:
    """How the run goes on: who steps, who gets which signal, or that gdb leaves it, or ends it. `stood` is the thread of the stop that is over."""

    steps: dict[int, Range] = field(default_factory=dict)
    signals: dict[int, int] = field(default_factory=dict)
    stood: int = 0
    leaves: bool = False
    kills: bool = False
    reply: bytes | None = None


class Debuggee(Protocol):
    """What a session is to its stub."""

    tasks: Tasks
    stops: Stops
    kernel: Kernel


class Stub:
    """One gdb's conversation."""

    def __init__(self, session: Debuggee, monitor: Callable[[str, int], str]) -> None:
        self._session, self._monitor = session, monitor
        self.tasks = session.tasks
        self.acknowledges = True
        self.news = b""
        self._stood = self._general = self._resumes = 0
        self._threads = b""
        self._packets: dict[bytes, Callable[[bytes], bytes | Resumed]] = {
            b"?": lambda _: self.news, b"g": self._read_registers, b"G": self._write_registers, b"p": self._read_register,
            b"P": self._write_register, b"m": self._read_memory, b"M": self._write_memory, b"X": self._write_binary, b"H": self._set_thread,
            b"T": self._is_alive, b"Z": self._insert, b"z": self._remove, b"c": self._go_on, b"s": self._go_on, b"C": self._go_on,
            b"S": self._go_on, b"D": self._detach, b"k": self._kill, b"v": self._verbose, b"q": self._query, b"Q": self._set,
        }  # fmt: skip

    def stopped(self, number: int, signal: int, reason: bytes) -> None:
        """It stands still, in that thread; `reason` as a stop reply has it."""
        self._stood = self._general = number
        entity = self.tasks.all().get(number)
        core = b"" if entity is None else b"core:%x;" % self.tasks.core(entity)
        self.news = b"T%02xthread:%x;%s%s" % (signal, number, core, reason)

    def answer(self, packet: bytes) -> bytes | Resumed:
        """To one packet."""
        handler = self._packets.get(packet[:1])
        if handler is None:
            return UNKNOWN
        try:
            return handler(packet[1:] if packet[:1] not in b"csCSqQv" else packet)
        except (_BadPacket, UsageError):
            return BAD_PACKET

    # -- registers -------------------------------------------------------------------------------------------------------

    def _read_registers(self, _: bytes) -> bytes:
        return self.tasks.read_all(self._general).hex().encode()

    def _write_registers(self, text: bytes) -> bytes:
        data = _bytes(text)
        all_of_them = registers(self.tasks.bits)
        if len(data) != sum(register.nr_bytes for register in all_of_them):
            raise _BadPacket
        at = 0
        for register in all_of_them:
            self.tasks.write(self._general, register, data[at : at + register.nr_bytes])
            at += register.nr_bytes
        return OK

    def _register(self, text: bytes) -> Register:
        number, all_of_them = _number(text), registers(self.tasks.bits)
        if number >= len(all_of_them):
            raise _BadPacket
        return all_of_them[number]

    def _read_register(self, text: bytes) -> bytes:
        return self.tasks.read(self._general, self._register(text)).hex().encode()

    def _write_register(self, text: bytes) -> bytes:
        number, _, value = text.partition(b"=")
        register, data = self._register(number), _bytes(value)
        if len(data) != register.nr_bytes:
            raise _BadPacket
        self.tasks.write(self._general, register, data)
        return OK

    # -- memory ----------------------------------------------------------------------------------------------------------

    def _read_memory(self, text: bytes) -> bytes:
        address, length = _two(text)
        data = memory.read(
            self._session.kernel, self.tasks.mm(self._general), address, min(length, PACKET_BYTES // 2 - 16)
        )
        return data.hex().encode() if data or not length else BAD_MEMORY

    def _write_memory(self, text: bytes) -> bytes:
        where, _, data = text.partition(b":")
        return self._write(where, _bytes(data))

    def _write_binary(self, text: bytes) -> bytes:
        where, _, data = text.partition(b":")
        return self._write(where, unescape(data))

    def _write(self, where: bytes, data: bytes) -> bytes:
        address, length = _two(where)
        if len(data) != length:
            raise _BadPacket
        try:
            memory.write(self._session.kernel, self.tasks.mm(self._general), address, data)
        except UsageError:
            return BAD_MEMORY
        self._session.stops.changed = True  # whatever an engine keeps of what was there
        return OK

    # -- breakpoints -----------------------------------------------------------------------------------------------------

    def _stop(self, text: bytes) -> tuple[int, int, int]:
        kind, _, where = text.partition(b",")
        address, nr = _two(where.partition(b";")[0])
        if kind not in (b"0", b"1", b"2", b"3", b"4"):
            raise _BadPacket
        return int(kind), address, nr

    def _insert(self, text: bytes) -> bytes:
        kind, address, nr = self._stop(text)
        if address >= self._session.kernel.machine.paging.task_size:
            return BAD_MEMORY
        self._session.stops.insert(kind, address, nr)
        return OK

    def _remove(self, text: bytes) -> bytes:
        self._session.stops.remove(*self._stop(text))
        return OK

    # -- threads ---------------------------------------------------------------------------------------------------------

    def _set_thread(self, text: bytes) -> bytes:
        number = _thread(text[1:])
        if text[:1] == b"c":
            self._resumes = max(number, 0)
            return OK
        if text[:1] != b"g":
            raise _BadPacket
        if number in (ANY, ALL):
            return OK
        if number not in self.tasks.all():
            return BAD_PACKET
        self._general = number
        return OK

    def _is_alive(self, text: bytes) -> bytes:
        return OK if _thread(text) in self.tasks.all() else BAD_PACKET

    def _all_threads(self) -> bytes:
        """threads.xml: their names and what they do."""
        lines = []
        for number, entity in self.tasks.all().items():
            name, state = quoteattr(self.tasks.name(number, entity)), self.tasks.state(entity)
            lines.append(f'<thread id="{number:x}" core="{self.tasks.core(entity)}" name={name}>{state}</thread>')
        return "\n".join(["<threads>", *lines, "</threads>", ""]).encode(errors="replace")

    # -- going on --------------------------------------------------------------------------------------------------------

    def _resumed(self, **how: Any) -> Resumed:
        return Resumed(stood=self._stood, **how)

    def _go_on(self, packet: bytes) -> Resumed:
        """c, s, C and S, of old: of the thread that Hc has named, or of the one that stands."""
        number, steps, text = self._resumes or self._stood, packet[:1] in b"sS", packet[1:]
        signals = dict[int, int]()
        if packet[:1] in b"CS":
            signal, _, text = text.partition(b";")
            signals[number] = _signal(signal)
        if text:
            address = _number(text)
            all_of_them = registers(self.tasks.bits)
            pc = all_of_them[pc_register(self.tasks.bits)]
            self.tasks.write(number, pc, address.to_bytes(8, "little")[: pc.nr_bytes])
        return self._resumed(steps={number: ONCE} if steps else {}, signals=_real(signals))

    def _verbose(self, packet: bytes) -> bytes | Resumed:
        if packet == b"vCont?":
            return b"vCont;c;C;s;S;r"
        if packet.startswith(b"vCont;"):
            return self._continue(packet[6:].split(b";"))
        if packet == b"vKill" or packet.startswith(b"vKill;"):
            return self._resumed(kills=True, reply=OK)
        return UNKNOWN

    def _continue(self, actions: list[bytes]) -> Resumed:
        """vCont: the first action that names a thread, or all, is its. Threads that are not to move all the same do: the machine runs, or it does not."""
        steps, signals, said = dict[int, Range](), dict[int, int](), set[int]()
        for action in actions:
            what, _, who = action.partition(b":")
            number = _thread(who) if who else ALL
            if number in (ALL, ANY):
                number = self._stood
            if number in said:
                continue
            said.add(number)
            if what[:1] not in (b"c", b"C", b"s", b"S", b"r"):
                raise _BadPacket
            if what[:1] in b"CS":
                signals[number] = _signal(what[1:])
            if what[:1] in b"sS":
                steps[number] = ONCE
            elif what[:1] == b"r":
                steps[number] = _two(what[1:])
        return self._resumed(steps=steps, signals=_real(signals))

    def _detach(self, _: bytes) -> Resumed:
        return self._resumed(leaves=True, reply=OK)

    def _kill(self, _: bytes) -> Resumed:
        return self._resumed(kills=True)

    # -- queries ---------------------------------------------------------------------------------------------------------

    def _query(self, packet: bytes) -> bytes:
        name, _, rest = packet.partition(b":")
        if name == b"qSupported":
            return FEATURES % PACKET_BYTES
        if name == b"qXfer":
            return self._transfer(rest)
        if packet.startswith(b"qRcmd,"):
            return self._command(_bytes(packet[6:]))
        if packet.startswith(b"qThreadExtraInfo,"):
            number = _thread(packet[17:])
            entity = self.tasks.all().get(number)
            if entity is None:
                return BAD_PACKET
            return (
                f"{self.tasks.name(number, entity)}: {self.tasks.state(entity)}".encode(errors="replace").hex().encode()
            )
        if packet == b"qfThreadInfo":
            return b"m" + b",".join(b"%x" % number for number in self.tasks.all() or [self._stood])
        simple = {b"qC": b"QC%x" % self._stood, b"qsThreadInfo": b"l", b"qAttached": b"1", b"qSymbol": OK}
        return simple.get(name, UNKNOWN)

    def _set(self, packet: bytes) -> bytes:
        if packet == b"QStartNoAckMode":
            self.acknowledges = False
            return OK
        return UNKNOWN

    def _command(self, said: bytes) -> bytes:
        """`monitor ...`: its text, whatever comes of it."""
        try:
            text = self._monitor(said.decode(errors="replace"), self._general)
        except RmaplabError as failure:
            text = f"{printable(str(failure))}\n"
        return text.encode(errors="replace").hex().encode() or OK

    def _transfer(self, rest: bytes) -> bytes:
        kind, _, rest = rest.partition(b":")
        verb, _, rest = rest.partition(b":")
        annex, _, where = rest.partition(b":")
        offset, length = _two(where)
        if verb != b"read":
            return UNKNOWN
        if kind == b"features":
            if annex != b"target.xml":
                return b"E00"
            data = target_xml(self.tasks.bits)
        elif kind == b"threads":
            if not offset:
                self._threads = self._all_threads()
            data = self._threads
        elif kind == b"auxv":
            data = self.tasks.auxv(self._general)
        elif kind == b"exec-file":
            data = self.tasks.executable(_number(annex) if annex else self._general)
        else:
            return UNKNOWN
        if not data:
            return BAD_PACKET
        part = data[offset : offset + min(length, PACKET_BYTES // 2 - 16)]
        return (b"m" if offset + len(part) < len(data) else b"l") + escape(part)


class _BadPacket(Exception):
    """It does not say what it should."""


def _number(text: bytes) -> int:
    if not 0 < len(text) <= MOST_DIGITS or not all(byte in b"0123456789abcdefABCDEF" for byte in text):
        raise _BadPacket
    return int(text, 16)


def _two(text: bytes) -> tuple[int, int]:
    first, _, second = text.partition(b",")
    return _number(first), _number(second)


def _thread(text: bytes) -> int:
    return ALL if text == b"-1" else _number(text)


def _bytes(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise _BadPacket from None


def _signal(text: bytes) -> int:
    """Linux's number for gdb's; 0 is none."""
    number = _number(text)
    if number and number not in LINUX:
        raise _BadPacket
    return LINUX.get(number, 0)


def _real(signals: dict[int, int]) -> dict[int, int]:
    """Without those that gdb itself stands behind: SIGTRAP, and none."""
    return {number: signal for number, signal in signals.items() if signal not in (0, 5)}
