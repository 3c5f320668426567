"""A run with a debugger beside it: a real gdb, or a client of a few lines that says what a test wants, in a thread of its own."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.conftest import needed

from rmaplab.gdb.packets import checksum
from rmaplab.gdb.session import Session
from rmaplab.kernels.system import System

PATIENCE_S = 60
QUIET = ("set pagination off", "set confirm off", "set sysroot /", "set width 0", "set remotetimeout 60")


class Gdb:
    """Debian's gdb in batch mode, which is started when the run says where it listens."""

    def __init__(self, *commands: str, program: str = "") -> None:
        self._gdb, self._commands, self._program = needed("gdb"), commands, program
        self._folder = TemporaryDirectory()
        self._process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        """What the run has told."""

    def tell(self, line: str) -> None:
        """Session.tell."""
        self.lines.append(line)
        match = re.search(r"target remote 127\.0\.0\.1:(\d+)", line)
        if match is None:
            return
        commands = (*QUIET, f"target remote 127.0.0.1:{match[1]}", *self._commands)
        script = Path(self._folder.name) / "commands"
        script.write_text("\n".join([*commands, ""]))
        self._process = subprocess.Popen(
            [self._gdb, "-batch", "-nx", "-x", script, *([self._program] if self._program else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def said(self) -> str:
        """All that it has printed, when it has ended."""
        assert self._process is not None, "nobody has listened"
        try:
            return self._process.communicate(timeout=PATIENCE_S)[0]
        finally:
            self._process.kill()
            self._folder.cleanup()


class Client:
    """A client that speaks the protocol itself: `talk` is run in a thread when the run listens."""

    def __init__(self, talk: Callable[[Client], None]) -> None:
        self._talk, self._failure = talk, list[BaseException]()
        self._thread: threading.Thread | None = None
        self.lines: list[str] = []
        self._got = b""
        self.has_called = False
        self.console = ""
        """What was to be shown to whoever debugs."""

    def tell(self, line: str) -> None:
        """Session.tell."""
        self.lines.append(line)
        match = re.search(r":(\d+)$", line)
        if match is not None:
            self._thread = threading.Thread(target=self._run, args=(int(match[1]),), daemon=True)
            self._thread.start()

    def _run(self, port: int) -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as self.socket:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.has_called = True
                self._talk(self)
        except BaseException as failure:  # noqa: BLE001  (it is the test's, which runs in another thread)
            self._failure.append(failure)

    def join(self) -> None:
        """Its talk is over. Raises what that has raised."""
        assert self._thread is not None, "nobody has listened"
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "it still talks"
        if self._failure:
            raise self._failure[0]

    def send(self, data: bytes) -> None:
        """A packet."""
        self.raw(b"$" + data + b"#%02x" % checksum(data))

    def raw(self, data: bytes) -> None:
        """Whatever it is; nothing where the other end has gone."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def receive(self) -> bytes:
        """The next packet that is no text for the console; b"" at the end."""
        while True:
            match = re.search(rb"\$([^#]*)#..", self._got, re.DOTALL)
            if match is not None:
                self._got = self._got[match.end() :]
                self.raw(b"+")
                if match[1][:1] == b"O" and match[1] != b"OK":
                    self.console += bytes.fromhex(match[1][1:].decode()).decode()
                    continue
                return match[1]
            more = b""
            with suppress(ConnectionError):
                more = self.socket.recv(65536)
            if not more:
                return b""
            self._got += more

    def is_over(self) -> bool:
        """Whether the other end has gone."""
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        finally:
            self.socket.settimeout(PATIENCE_S)

    def ask(self, data: bytes) -> bytes:
        """A packet, and the answer to it."""
        self.send(data)
        return self.receive()

    def monitor(self, line: str) -> str:
        """`monitor LINE`."""
        answer = self.ask(b"qRcmd," + line.encode().hex().encode())
        return "" if answer == b"OK" else bytes.fromhex(answer.decode()).decode()


def beside(system: System, who: Gdb | Client, comm: str = "task", **options: Any) -> Session:
    """The debugger stands beside it: to be ended."""
    return Session(system, comm, port=0, tell=who.tell, **options)
