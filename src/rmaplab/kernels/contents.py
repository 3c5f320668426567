"""What a system is given to work on: files, a directory of the host, real programs.

    system.new_file(b"...")      a file for Task.open()
    system.new_file(b"...", crypt="twofish")    its disk has it encrypted (cache/cryptoloop.py)
    system.mount_host("/data")   a directory of the host, read-only
    system.exec(["ls", "-l"])    an unmodified program, which runs when run() does
    system.gdb()                 a debugger beside it

Programs are run, and debugged, by floors above (cpu/, gdb/), which the package itself makes known here when boot is asked of it (rmaplab/__init__.py).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rmaplab.cache.host_store import HostDirectory
from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.harmless import printable
from rmaplab.kernels.loop_words import loop_words
from rmaplab.mm.file_io import max_bytes
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import parse_size

if TYPE_CHECKING:
    from rmaplab.cache.cryptoloop import LoopCipher


def _cipher(crypt: str | None, key: str | Path | None, k: Kernel) -> "LoopCipher | None":
    """Of a loop device, if there is one. Raises UsageError."""
    if crypt is not None:
        return loop_words(crypt, key).cipher(k.rules)
    if key is not None:
        raise UsageError("a key without crypt: give crypt, such as twofish, or leave key out")
    return None


class SystemContents:
    """A system's files and programs."""

    kernel: Kernel
    executor: ClassVar[Callable[..., Task] | None] = None
    """Starts a program on a system: rmaplab.cpu.start.exec_on."""
    debugger: ClassVar[Callable[..., Any] | None] = None
    """Stands a debugger beside a system: rmaplab.gdb.session.Session."""
    userland: Any = None
    """Its programs (rmaplab.cpu.userland.Userland), once there are any."""
    debugger_beside: Any = None
    """The session of a debugger, as long as there is one."""
    beside_host: Callable[[int], None] | None = None
    """Given a descriptor of the host that a program waits for, somebody else who may not be kept waiting: he returns when it can be read."""
    before_engine: Callable[[Any], Any] | None = None
    """Given the engine that runs their code, what stands before it and is one too: a debugger (rmaplab.gdb)."""

    def new_file(
        self,
        data: bytes = b"",
        size: int | str = 0,
        *,
        on_disk: bool = True,
        crypt: str | None = None,
        key: str | Path | None = None,
    ) -> AddressSpace:
        """A file of these bytes, with zeros behind them up to `size`: for Task.open(). One that is not `on_disk` lives in the page cache, as on tmpfs.

        `crypt`: its disk is a loop device of this form (cache/loop_keys.py), whose passphrase is the first line of `key`, or nobody's. Needs the extra [crypto]. Raises UsageError:
        no bytes, no size that a file can have on this kernel, no such form, not on this kernel, no key, or no disk to encrypt.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise UsageError(f"a file of {type(data).__name__}: give bytes, such as b'...'")
        nr, longest = parse_size(size), max_bytes(self.kernel, on_disk=on_disk)
        if not 0 <= nr <= longest:
            raise UsageError(f"a file of {nr} bytes: give 0 to {longest}")
        cipher = _cipher(crypt, key, self.kernel)
        if cipher is not None and not on_disk:
            raise UsageError("crypt of a file that is on no disk: leave crypt or on_disk out")
        file = self.kernel.new_file(bytes(data), nr, on_disk=on_disk)
        if cipher is not None:
            for index, page in file.store.items():
                file.store[index] = cipher.encrypt_page(index, page)
            file.store = cipher.before(file.store, self.kernel.machine.ledger.charge)
        return file

    def mount_host(self, path: str | Path, *, crypt: str | None = None, key: str | Path | None = None) -> HostDirectory:
        """A directory of the host, read-only: its `file("name")` is for Task.open(). No link is followed. Raises UsageError.

        `crypt`: its files are images of loop devices of this form, and what is shown of them is what lies in them, whole sectors. `key` has the passphrase in its first line.
        """
        if crypt is not None and key is None:
            raise UsageError(f"crypt={printable(crypt)} of files that are there: give key, a file with the passphrase")
        cipher = _cipher(crypt, key, self.kernel)
        if cipher is None:
            return HostDirectory(self.kernel.page_cache, path)
        before = partial(cipher.before, charge=self.kernel.machine.ledger.charge)
        return HostDirectory(self.kernel.page_cache, path, before)

    def exec(
        self,
        arguments: Sequence[str | bytes],
        *,
        environment: Mapping[str, str] | None = None,
        root: str = "/",
        cwd: str = "/",
        streams: Sequence[int] = (0, 1, 2),
        seed: int = 0,
    ) -> Task:
        """Start an unmodified Linux program, which runs when run() is called: its first task, to look into meanwhile and after. Its status is `task.exit_code`.

        `arguments` are its name, found by PATH, and what it is called with. It sees the directory `root` of the host, read-only, works in `cwd` of that, and has the host's
        descriptors `streams` as 0, 1 and 2. The first one says root and seed for all. Programs have as many bits as the page tables. Needs the extra [exec]. Raises UsageError.
        """
        if type(self).executor is None:
            raise UsageError("programs run on a system that rmaplab.boot() has booted: import rmaplab, and boot there")
        if isinstance(arguments, (str, bytes)) or not arguments:
            raise UsageError('exec of no program: give a list, such as ["ls", "-l"]')
        words = [os.fsencode(word) for word in arguments]
        strings = [
            os.fsencode(f"{name}={value}")
            for name, value in (environment or {"PATH": "/usr/local/bin:/usr/bin:/bin"}).items()
        ]
        return type(self).executor(self, words, strings, root=root, cwd=cwd, streams=streams, seed=seed)  # type: ignore[misc]

    def gdb(self, port: int = 1234, *, host: str = "127.0.0.1", comm: str = "task") -> Any:
        """Have gdb attach (`target remote :1234`) as soon as run() begins, which waits for it: a rmaplab.gdb.session.Session, whose `end()` tells gdb that it is over.

        `port` 0 is any that is free (`session.port`). `comm` is what tasks are called that run no program. gdb's kill comes out of run() as KilledByDebugger. Raises UsageError: nobody can listen there.
        """
        if type(self).debugger is None:
            raise UsageError("gdb looks at a system that rmaplab.boot() has booted: import rmaplab, and boot there")
        return type(self).debugger(self, comm, host=host, port=port)  # type: ignore[misc]
