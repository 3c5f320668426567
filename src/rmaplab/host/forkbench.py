"""forkbench.c on the kernel under our feet: the same benchmark, real processes, a stopwatch."""

import errno
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rmaplab.errors import UsageError
from rmaplab.host.closing import Closing
from rmaplab.host.compiler import compile_c
from rmaplab.units import format_size

_PER_PROCESS = 1300 << 10  # page tables for 512 MiB, task, stacks
_MEMORY = 512 << 20


@dataclass(frozen=True)
class HostRun:
    """What the real kernel made of it. `outcome` is "ok" or an errno's name, `failed_call` then the call."""

    level: int
    outcome: str
    failed_call: str | None
    wall_s: float
    hardware: dict[str, Any]


class HostForkbench(Closing):
    """The compiled program. Use as a context manager: the binary goes when it closes. Raises UsageError without a compiler."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="rmaplab-")
        self._program = Path(self._directory.name) / "forkbench"
        source = files("rmaplab.workloads") / "forkbench.c"
        try:
            compile_c(source.read_bytes(), "forkbench.c", self._program, ["-O2"])
        except UsageError as error:
            self._directory.cleanup()
            raise UsageError(f"--host: {error}, or leave --host out") from None

    def close(self) -> None:
        """Let go of it."""
        self._directory.cleanup()

    def check_memory(self, level: int) -> None:
        """Refuse a level that this machine has not the memory for. Raises UsageError."""
        need, available = _MEMORY + (_PER_PROCESS << level), _meminfo("MemAvailable")
        if need > available // 2:
            raise UsageError(
                f"level {level} needs about {format_size(need)} on the host, and half of the {format_size(available)} "
                "available is the most we take: leave --host or that level out"
            )

    def run(self, level: int) -> HostRun:
        """One run; wall_s is the program's."""
        self.check_memory(level)
        began = time.perf_counter()
        command: list[str | Path] = [self._program, str(level)]
        # a session of its own, so that an interrupt can end all 2^level processes
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603
        try:
            _, stderr = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        wall_s = time.perf_counter() - began
        failed_call, outcome = None, "ok"
        for line in stderr.splitlines():
            failed_call, _, text = line.partition(": ")
            outcome = next((errno.errorcode[n] for n in errno.errorcode if os.strerror(n) == text), text)
            break
        return HostRun(level, outcome, failed_call, wall_s, _hardware())


def _hardware() -> dict[str, Any]:
    uname = os.uname()
    return {
        "arch": uname.machine.replace("_", "-"),
        "ram_bytes": _meminfo("MemTotal"),
        "swap_bytes": _meminfo("SwapTotal"),
        "cpus": len(os.sched_getaffinity(0)),
        "release": uname.release,
    }


def _meminfo(name: str) -> int:
    """A line of /proc/meminfo, in bytes."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            return int(rest.split()[0]) * 1024
    return 0
