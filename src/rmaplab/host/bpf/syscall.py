"""bpf(2) itself, by its number: there is no wrapper in the C library.

Every command takes a union of structs, laid out in include/uapi/linux/bpf.h; what is not given is zero.
"""

import ctypes
import errno
import os
import platform
import struct
from functools import cache

from rmaplab.host.bpf.errors import BpfUnavailable

MAP_CREATE, MAP_UPDATE_ELEM, PROG_LOAD, LINK_CREATE, ITER_CREATE = 0, 2, 5, 28, 33
PROG_TYPE_TRACING, TRACE_ITER = 26, 28

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_ATTR_BYTES = 160


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> int:
    """One call. Returns what the kernel returned; raises OSError."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise BpfUnavailable(f"bpf(2) is not known here for {platform.machine()}: x86_64, aarch64 and riscv64 are")
    attr = ctypes.create_string_buffer(attributes, _ATTR_BYTES)
    result: int = _libc().syscall(
        ctypes.c_long(number), ctypes.c_int(command), ctypes.byref(attr), ctypes.c_uint(_ATTR_BYTES)
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def create_map(kind: int, key_bytes: int, value_bytes: int, max_entries: int, flags: int) -> int:
    """A map's file descriptor (BPF_MAP_CREATE)."""
    return bpf(MAP_CREATE, struct.pack("<5I", kind, key_bytes, value_bytes, max_entries, flags))


def update_map(map_fd: int, key: int, value: int) -> None:
    """Set an element of a map of signed words (BPF_MAP_UPDATE_ELEM, BPF_ANY)."""
    words = (ctypes.c_int64 * 2)(key, value)
    at = ctypes.addressof(words)
    bpf(MAP_UPDATE_ELEM, struct.pack("<IxxxxQQQ", map_fd, at, at + 8, 0))


def load_iterator(name: str, code: bytes, licence: bytes, btf_id: int) -> int:
    """Verify and load a program for the iterator whose function in the kernel has this BTF id (BPF_PROG_LOAD).

    Returns its file descriptor. Raises OSError with the end of the verifier's log, where there is one.
    """
    instructions, text = ctypes.create_string_buffer(code), ctypes.create_string_buffer(licence)
    log = ctypes.create_string_buffer(1 << 20)

    def attributes(*, logged: bool) -> bytes:
        where = (1, len(log), ctypes.addressof(log)) if logged else (0, 0, 0)
        return struct.pack(
            "<IIQQIIQII16sIIIIQIIQII",
            PROG_TYPE_TRACING, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(text), *where,
            0, 0, name.encode()[:15], 0, TRACE_ITER, 0, 0, 0, 0, 0, 0, 0, btf_id,
        )  # fmt: skip

    try:
        return bpf(PROG_LOAD, attributes(logged=False))
    except OSError as error:
        if error.errno == errno.EPERM:
            raise
    try:
        return bpf(PROG_LOAD, attributes(logged=True))
    except OSError as error:
        lines = log.value.decode(errors="replace").strip().splitlines()
        said = [line for line in lines if not line.startswith(("processed ", "verification time", "stack depth"))]
        if not said:
            raise
        raise OSError(error.errno, f"{error.strerror}; the verifier: {said[-1]}") from None


def create_iterator_link(program_fd: int, *, map_fd: int | None = None, pid: int | None = None) -> int:
    """Attach an iterator program: to all there is, to the elements of a map, or to one process (BPF_LINK_CREATE). Returns the link."""
    if map_fd is None and pid is None:
        return bpf(LINK_CREATE, struct.pack("<4I", program_fd, 0, TRACE_ITER, 0))
    which = struct.pack("<3I", map_fd, 0, 0) if map_fd is not None else struct.pack("<3I", 0, pid or 0, 0)
    info = ctypes.create_string_buffer(which, 16)
    return bpf(LINK_CREATE, struct.pack("<4IQI", program_fd, 0, TRACE_ITER, 0, ctypes.addressof(info), 16))


def create_iterator(link_fd: int) -> int:
    """A file to read a new run of the iterator from (BPF_ITER_CREATE)."""
    return bpf(ITER_CREATE, struct.pack("<II", link_fd, 0))
