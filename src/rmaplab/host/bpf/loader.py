r"""From an object file to a running iterator, with the standard library and NumPy: no libbpf, and clang only to rebuild.

    task_vma.bpf.o --elf--> code ---relocate(kernel's BTF)---> code' --bpf(PROG_LOAD)--> program
                        \-> maps --bpf(MAP_CREATE)--> fds, written into code'               |
                                                                       bpf(LINK_CREATE) -> link
                                                                       bpf(ITER_CREATE) -> file: read it to its end

CAP_BPF and CAP_PERFMON suffice. Nothing is pinned: when the Iterator is closed, the kernel forgets everything.
"""

import errno
import mmap
import os
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rmaplab.host.bpf import syscall
from rmaplab.host.bpf.btf import FUNC, Btf, kernel_btf
from rmaplab.host.bpf.elf import Elf
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.bpf.relocate import relocate
from rmaplab.host.closing import Closing

_PSEUDO_MAP_FD, _PSEUDO_KFUNC_CALL = 1, 2
_READ_BYTES = 32 << 10  # the seq_file's buffer: a read never gives more


class MapDefinition(NamedTuple):
    """struct map of kernel.h."""

    kind: int
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int


class Iterator(Closing):
    """A loaded iterator: that `program` of an object that is in section PROGRAM/TARGET. `maps` are its maps' file descriptors, by name.

    A context manager. Raises BpfUnavailable where the kernel does not have what it needs, or does not let us.
    """

    def __init__(
        self, name: str, *, program: str = "iter", over_map: str | None = None, kernel: Btf | None = None
    ) -> None:
        kernel = kernel or kernel_btf()
        elf = Elf(Path(__file__).with_name(f"{name}.bpf.o").read_bytes())
        section = next(section for section in elf.sections if section.startswith(f"{program}/"))
        target = section.partition("/")[2]
        functions = kernel.find(f"bpf_iter_{target}", FUNC)
        if not functions:
            raise BpfUnavailable(f"this kernel has no BPF iterator {target} (Linux 5.12 or later, CONFIG_BPF_SYSCALL)")
        code = bytearray(relocate(elf, section, kernel))
        self.maps: dict[str, int] = {}
        self.definitions: dict[str, MapDefinition] = {}
        self._fds: list[int] = []
        try:
            for reference in elf.references(section):
                if reference.section == "maps":
                    self._use_map(code, reference.offset, reference.symbol, elf.sections["maps"])
                else:
                    _use_function(code, reference.offset, reference.symbol, kernel)
            if over_map is not None and over_map not in self.maps:  # nobody refers to it: the iterator hands it over
                self._create_map(over_map, elf.sections["maps"])
            licence = elf.sections["license"].rstrip(b"\0")
            self._program = self._keep(syscall.load_iterator(name, bytes(code), licence, functions[0]))
            over = None if over_map is None else self.maps[over_map]
            self._link = self._keep(syscall.create_iterator_link(self._program, map_fd=over))
        except OSError as error:
            self.close()
            raise BpfUnavailable(_why(error)) from None
        except BpfUnavailable:
            self.close()
            raise

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _create_map(self, name: str, section: bytes) -> None:
        definition = MapDefinition(*struct.unpack_from("<5I", section))  # an object of ours has one map
        self.definitions[name] = definition
        self.maps[name] = self._keep(syscall.create_map(*definition))

    def _use_map(self, code: bytearray, at: int, name: str, section: bytes) -> None:
        if name not in self.maps:
            self._create_map(name, section)
        code[at + 1] = code[at + 1] & 0xF | _PSEUDO_MAP_FD << 4
        struct.pack_into("<i", code, at + 4, self.maps[name])

    def close(self) -> None:
        """Let go of program, link and maps."""
        while self._fds:
            os.close(self._fds.pop())

    def read(self, pids: Collection[int] | None = None) -> memoryview:
        """One run, whole; or one over each of these processes: others are not even looked at. Raises BpfUnavailable if it is broken off.

        Where the kernel cannot be asked about one process (before Linux 6.1), it is everybody's.
        """
        rows = _Rows()
        for pid in pids if pids is not None else ():
            try:
                link = syscall.create_iterator_link(self._program, pid=pid)
            except OSError:
                pids, rows = None, _Rows()
                break
            try:
                rows.take(link)
            finally:
                os.close(link)
        if pids is None:
            rows.take(self._link)
        return rows.filled()


class _Rows:
    """What runs of an iterator have written, one after another."""

    def __init__(self) -> None:
        self._data, self._nr = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), 0
        with suppress(OSError):  # no huge pages here
            self._data.madvise(mmap.MADV_HUGEPAGE)

    def filled(self) -> memoryview:
        return memoryview(self._data)[: self._nr]

    def take(self, link: int) -> None:
        """All of one run. Raises BpfUnavailable."""
        fd = syscall.create_iterator(link)
        try:
            while True:
                if len(self._data) - self._nr < _READ_BYTES:
                    # mremap: nothing is copied, and what is not filled takes no memory
                    self._data.resize(2 * len(self._data))
                try:
                    with memoryview(self._data) as view:
                        got = os.readv(fd, [view[self._nr : self._nr + _READ_BYTES]])
                except (BlockingIOError, InterruptedError):
                    continue
                if not got:
                    break
                self._nr += got
        except OSError as error:
            raise BpfUnavailable(f"the kernel broke off a BPF iterator: {error.strerror}") from None
        finally:
            os.close(fd)


def _use_function(code: bytearray, at: int, name: str, kernel: Btf) -> None:
    """A function of the kernel that is open to programs (kfunc). Raises BpfUnavailable where there is none of this name."""
    found = kernel.find(name, FUNC)
    if not found:
        raise BpfUnavailable(f"this kernel has no {name}() for BPF programs")
    code[at + 1] = code[at + 1] & 0xF | _PSEUDO_KFUNC_CALL << 4
    struct.pack_into("<hi", code, at + 2, 0, found[0])


def _why(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES) and "the verifier" not in str(error.strerror):
        return "bpf(2) is refused: it needs CAP_BPF and CAP_PERFMON (run as root), and a kernel that is not locked down"
    if error.errno == errno.ENOSYS:
        return "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)"
    return f"the kernel does not take our BPF program: {error.strerror}"
