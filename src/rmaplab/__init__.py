"""rmaplab: a Linux virtual memory system you can boot in Python, in which the reverse mapping is a plug-in.

>>> import rmaplab
>>> system = rmaplab.boot("2.6.5-rc1-aa1", ram="128M")
>>> parent = system.spawn()
>>> address = parent.mmap("1M")
>>> parent.write(address, b"hello")
>>> child = parent.fork()
>>> system.who_maps(parent, address)
[Mapping(pid=2, address=0x40000000), Mapping(pid=1, address=0x40000000)]

What is public is named in __all__; it is imported when it is used, so that `import rmaplab` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "boot": "kernels.system",
    "System": "kernels.system",
    "Task": "calls.task",
    "Mapping": "rmap.protocol",
    "SyscallError": "errors",
    "SegmentationFault": "errors",
    "NoMemory": "errors",
    "KilledByDebugger": "errors",
    "OomKilled": "errors",
    "KernelBug": "errors",
    "UsageError": "errors",
}
__all__ = [
    "KernelBug",
    "KilledByDebugger",
    "Mapping",
    "NoMemory",
    "OomKilled",
    "SegmentationFault",
    "SyscallError",
    "System",
    "Task",
    "UsageError",
    "boot",
]

if TYPE_CHECKING:
    from rmaplab.calls.task import Task
    from rmaplab.errors import (
        KernelBug,
        KilledByDebugger,
        NoMemory,
        OomKilled,
        SegmentationFault,
        SyscallError,
        UsageError,
    )
    from rmaplab.kernels.system import System, boot
    from rmaplab.rmap.protocol import Mapping


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rmaplab' has no attribute {name!r}")
    home = import_module(f"rmaplab.{_HOMES[name]}")
    if name in ("boot", "System"):  # System.exec and System.gdb are of floors above its own
        home.System.executor = staticmethod(_exec)
        home.System.debugger = staticmethod(_gdb)
    return getattr(home, name)


def _exec(*arguments: Any, **options: Any) -> Task:
    return import_module("rmaplab.cpu.start").exec_on(*arguments, **options)  # type: ignore[no-any-return]


def _gdb(*arguments: Any, **options: Any) -> Any:
    return import_module("rmaplab.gdb.session").Session(*arguments, **options)
