"""rmaplab as a process: on a terminal of some width, or with streams and signals of the caller's choice."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

COMMAND = [sys.executable, "-m", "rmaplab"]


def environment(**changes: str | None) -> dict[str, str]:
    """Ours, with these set, or unset where None."""
    wanted = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), **changes}
    return {name: value for name, value in wanted.items() if value is not None}


def on_terminal(width: int, *arguments: str, **changes: str | None) -> tuple[int, str]:
    """(exit code, all that the terminal got)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment(**changes)
    )
    os.close(theirs)
    said = b""
    try:
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # EIO: nobody has the other end any more
                break
            if not part:
                break
            said += part
        return process.wait(60), said.decode().replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
