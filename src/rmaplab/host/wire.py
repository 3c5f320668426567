"""What agent.py and agent.c send each other: structures as they are declared there, numbers that both know, signals in words."""

import os
import select
import signal
import struct
import subprocess
from typing import NamedTuple

from rmaplab.calls.table import BIRTHS
from rmaplab.workloads.world import Raw

MAGIC = 0x524D4150
(
    CALL,
    READ,
    WRITE,
    BIRTH,
    EXIT,
    EXEC,
    WAIT,
    LIMIT,
    DROP,
    MINCORE,
    COPY_FROM,
    COPY_TO,
    KILL,
    FETCH,
    PADVISE,
    MBIND,
    NAME,
    CREATE,
    OPEN,
    PREAD,
    PWRITE,
    FSTAT,
    ZERO,
    MEMFD,
    GET_SEGMENT,
    OF_SEGMENT,
    SEGMENT_STATUS,
) = range(27)
KINDS = {
    "read": READ, "write": WRITE, **dict.fromkeys(BIRTHS, BIRTH), "exit": EXIT, "exec": EXEC, "wait": WAIT, "limit": LIMIT,
    "drop": DROP, "mincore": MINCORE, "copy_from_user": COPY_FROM, "copy_to_user": COPY_TO, "kill": KILL, "fetch": FETCH,
    "process_madvise": PADVISE, "mbind": MBIND, "name": NAME,
    "create": CREATE, "open": OPEN, "pread": PREAD, "pwrite": PWRITE, "fstat": FSTAT, "blocks": FSTAT,
    "zero": ZERO, "memfd": MEMFD, "shmget": GET_SEGMENT, "shmat": OF_SEGMENT, "shmctl": OF_SEGMENT, "shmstat": SEGMENT_STATUS,
}  # fmt: skip  # what agent.c does with more than one system call, or with memory of its own
WANT_ALL, WANT_HOLD = 15, 16
HELLO, HEADER, OP = struct.Struct("<IIQQQQ"), struct.Struct("<IIII"), struct.Struct("<HHHH7Q")
OUTCOME, SNAPSHOT = struct.Struct("<qiiqqII"), struct.Struct("<IIIIqq")
FD_COPY = 102  # what kernel copies read from and write to
FD_FILE = 200  # f0
LOOK_AT_ALL, LOOK_AT_SOME = 1, 0
TOO_MUCH = 93  # the agent's exit code

CODES = {
    signal.SIGSEGV: {1: "MAPERR", 2: "ACCERR", 4: "PKUERR", 0x80: "KERNEL"},
    signal.SIGBUS: {1: "ADRALN", 2: "ADRERR", 3: "OBJERR", 0x80: "KERNEL"},
}
"""si_code of a signal that a fault sends, without its prefix: SEGV_, BUS_, SI_."""


class Reply(NamedTuple):
    """What an operation came to.

    A result; a signal with its si_code and address; the exit status of a process that died of it, else -1; what was read; who lives.
    """

    ret: int
    signal: int
    code: int
    address: int
    died: int
    data: bytes
    raws: dict[str, Raw]


def signal_name(number: int) -> str:
    """SIGSEGV, or "signal 99"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def code_name(number: int, code: int) -> str:
    """MAPERR; the number where it has no name, nothing where the signal is not a fault's."""
    return CODES[signal.Signals(number)].get(code, str(code)) if number in (signal.SIGSEGV, signal.SIGBUS) else ""


def how_it_died(status: int) -> str:
    """What wait(2)'s status says of who was killed: " by SIGKILL"."""
    return f" by {signal_name(status & 127)}" if status & 127 else f" (it ended with {status >> 8})" if status else ""


class Wire:
    """Both pipes to the agent: what it does not take yet is kept, and sent while we wait for what it says. So neither waits for the other."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout
        os.set_blocking(self._to.fileno(), False)
        self._unsent, self._got = bytearray(), bytearray()

    def send(self, data: bytes) -> None:
        """Raises BrokenPipeError: there is no agent any more."""
        self._unsent += data
        self._send()

    def read(self, nr: int) -> bytes:
        """So many bytes; fewer where the agent has died. Raises BrokenPipeError."""
        while len(self._got) < nr:
            ready, may, _ = select.select([self._from], [self._to] if self._unsent else [], [])
            if may:
                self._send()
            if ready:
                more = os.read(self._from.fileno(), 1 << 20)
                if not more:
                    break
                self._got += more
        data = bytes(self._got[:nr])
        del self._got[:nr]
        return data

    def _send(self) -> None:
        while self._unsent:
            try:
                sent = os.write(self._to.fileno(), self._unsent[: 1 << 16])
            except BlockingIOError:
                return
            del self._unsent[:sent]
