"""execve: a file becomes a process. Where things lie is each era's own.

    2004, i386                                    6.18, x86-64 (not randomised)
    0x08048000  text, data, bss | heap ->         0x555555554000  text, data, bss of a PIE | heap ->
    0x40000000  ld.so, libraries ->               ...             <- libraries, ld.so
    ...         <- stack                          mmap_base       <- stack
    0xc0000000  TASK_SIZE                         0x7ffffffff000

    top of the stack:  0 | path | environment, arguments | "i686", random bytes | auxv | envp | argv | argc
                                                                                              sp ^
The stack's VMA is as long as what exec has put there; since 2.6.23 it is 128 KiB more. What follows grows down to it by faults.

Source: 2.6.2 fs/exec.c, setup_arg_pages; fs/binfmt_elf.c, load_elf_binary, create_elf_tables, set_brk; 6.18 the same.
"""

import errno
from dataclasses import dataclass

from rmaplab.cpu.abi import ABIS, Abi
from rmaplab.cpu.elf import HEADER_BYTES, PF_R, PF_W, PF_X, ElfImage, LoadSegment, read_elf
from rmaplab.cpu.files.tree import FileTree
from rmaplab.cpu.process import Process
from rmaplab.cpu.thread import Thread
from rmaplab.errors import DiskError, NoMemory, SyscallError
from rmaplab.mm.file_io import file_read
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.open_file import fput, get_file
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.mm_types import File
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align

AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK, AT_SECURE, AT_RANDOM, AT_EXECFN = (
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    23,
    25,
    31,
)
USER_HZ = 100
RANDOM_BYTES = 16
MAX_ARG_BYTES = 2 << 20
MOST_STRINGS = 100_000
SCRIPT_LINE = 256
MOST_INTERPRETERS = 4
DEFAULT_PATH = b"/bin:/usr/bin"


@dataclass
class Program:
    """What execve has found: a file, what its headers say, how it is called."""

    path: bytes
    image: ElfImage
    file: File
    arguments: list[bytes]
    environment: list[bytes]
    interpreter: tuple[ElfImage, File] | None = None

    @property
    def abi(self) -> Abi:
        """Of its programs."""
        return ABIS[self.image.bits]

    def files(self) -> list[File]:
        """Held open until they are mapped."""
        return [self.file] if self.interpreter is None else [self.file, self.interpreter[1]]


def find_program(
    kernel: Kernel, tree: FileTree, process: Process, path: bytes, arguments: list[bytes], environment: list[bytes]
) -> Program:
    """What is to be run: its interpreter, if the file begins with #!. Nothing has changed yet. Raises SyscallError: ENOENT, EACCES, ENOEXEC, E2BIG, ELOOP ..."""
    if sum(map(len, arguments + environment)) + 8 * len(arguments + environment) > MAX_ARG_BYTES:
        raise SyscallError(errno.E2BIG, "execve")
    named = path
    for _ in range(MOST_INTERPRETERS + 1):
        file = tree.open_program(process, path)
        head = _read(kernel, file, SCRIPT_LINE)
        if not head.startswith(b"#!"):
            break
        _close(kernel, file)
        words = head[2:].split(b"\n", 1)[0].strip().split(None, 1)
        if not words:
            raise SyscallError(errno.ENOEXEC, "execve")
        arguments = [*words, path, *arguments[1:]]
        path = words[0]
    else:
        raise SyscallError(errno.ELOOP, "execve")
    try:
        image = read_elf(_read(kernel, file, HEADER_BYTES))
        program = Program(named, image, file, arguments, environment)
        if image.interpreter is not None:
            loader = tree.open_program(process, image.interpreter)
            try:
                program.interpreter = read_elf(_read(kernel, loader, HEADER_BYTES)), loader
                if program.interpreter[0].bits != image.bits:
                    raise SyscallError(errno.ELIBBAD, "execve")
            except SyscallError:
                _close(kernel, loader)
                raise
    except SyscallError:
        _close(kernel, file)
        raise
    return program


def search(kernel: Kernel, tree: FileTree, process: Process, name: bytes, environment: list[bytes]) -> bytes:
    """execvp: the path of a program that is named without a slash, by PATH. Raises SyscallError(ENOENT)."""
    if b"/" in name:
        return name
    path = next((text[5:] for text in environment if text.startswith(b"PATH=")), DEFAULT_PATH)
    for directory in path.split(b":"):
        candidate = (directory or b".") + b"/" + name
        try:
            _close(kernel, tree.open_program(process, candidate))
        except SyscallError:
            continue
        return candidate
    raise SyscallError(errno.ENOENT, "execve")


def close_program(kernel: Kernel, program: Program) -> None:
    """It is not to be run after all."""
    for file in program.files():
        _close(kernel, file)


def _close(kernel: Kernel, file: File) -> None:
    """Close a file that has just been opened."""
    fput(kernel, get_file(file))


def _read(kernel: Kernel, file: File, length: int) -> bytes:
    """kernel_read, through the page cache. Raises SyscallError: EIO, ENOMEM."""
    try:
        return file_read(kernel, file, 0, length)
    except DiskError:
        raise SyscallError(errno.EIO, "execve") from None
    except NoMemory as failure:
        raise failure.or_errno(errno.ENOMEM, "execve") from None


def load_program(thread: Thread, program: Program) -> tuple[int, int]:
    """Map it into the empty address space of the thread's task: (where it begins, its stack pointer). Raises SyscallError, SegmentationFault: it cannot be loaded."""
    mm, paging = thread.task.mm, thread.machine.paging
    assert mm is not None
    image = program.image
    top = paging.task_size
    for file in program.files():
        get_file(file)
    try:
        bias = _map_image(thread, image, program.file, _program_base(thread, image))
        mm.start_brk = mm.brk = page_align(image.high + bias)
        entry, base = image.entry + bias, 0
        if program.interpreter is not None:
            loader, loader_file = program.interpreter
            base = _map_image(thread, loader, loader_file, None)
            entry = loader.entry + base
        sp = _stack(thread, program, top, bias, base)
    finally:
        for file in program.files():
            fput(thread.kernel, file)
    thread.process.start_stack = sp
    thread.process.start_code = image.low + bias
    return entry, sp


def _program_base(thread: Thread, image: ElfImage) -> int | None:
    """ELF_ET_DYN_BASE, two thirds of all addresses; None: where mmap finds room, which is where loaders and static PIEs go since 4.13."""
    if not image.position_independent:
        return 0
    if image.interpreter is None and thread.userland.loaders_lie_with_mmap:
        return None
    return (thread.machine.paging.task_size // 3 * 2 & -PAGE_SIZE) - image.low


def _map_image(thread: Thread, image: ElfImage, file: File, bias: int | None) -> int:
    """Its segments, at `bias` or where there is room: the bias."""
    if bias is None:
        span = page_align(image.high) - image.low
        hole = thread.task.mmap_opened(span, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 0, None, 0)
        thread.task.munmap(hole, span)
        bias = hole - image.low
    for segment in image.segments:
        _map_segment(thread, segment, file, bias)
    return bias


def _prot(segment: LoadSegment) -> int:
    return (
        (PROT_READ if segment.flags & PF_R else 0)
        | (PROT_WRITE if segment.flags & PF_W else 0)
        | (PROT_EXEC if segment.flags & PF_X else 0)
    )


def _map_segment(thread: Thread, segment: LoadSegment, file: File, bias: int) -> None:
    """elf_map, padzero, set_brk: the pages of the file, zeros in the rest of the last one, and pages of zeros."""
    task = thread.task
    address, prot = segment.address + bias, _prot(segment)
    start = address & -PAGE_SIZE
    file_end, memory_end = address + segment.file_size, address + segment.memory_size
    if segment.file_size:
        pgoff = (segment.offset - (address - start)) >> PAGE_SHIFT
        task.mmap_opened(page_align(file_end) - start, prot, MAP_PRIVATE | MAP_FIXED, start, file, pgoff)
    if memory_end > file_end:
        bss = page_align(file_end)
        if file_end % PAGE_SIZE and segment.file_size and segment.flags & PF_W:
            thread.put(file_end, bytes(bss - file_end))
        if memory_end > bss:
            task.mmap_opened(page_align(memory_end) - bss, prot, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, bss, None, 0)


def _stack(thread: Thread, program: Program, top: int, bias: int, base: int) -> int:
    """setup_arg_pages, create_elf_tables: the stack pointer."""
    abi, image, userland = program.abi, program.image, thread.userland
    strings, at = list[bytes](), top - abi.word  # built downwards from the top

    def push(text: bytes) -> int:
        nonlocal at
        at -= len(text)
        strings.append(text)
        return at

    name = push(program.path + b"\0")
    environment = [push(text + b"\0") for text in reversed(program.environment)][::-1]
    arguments = [push(text + b"\0") for text in reversed(program.arguments)][::-1]
    push(bytes(at % 16))
    platform = push(abi.platform + b"\0")
    random = push(userland.random_bytes(RANDOM_BYTES))
    auxiliary = (
        AT_HWCAP, abi.hwcap, AT_PAGESZ, PAGE_SIZE, AT_CLKTCK, USER_HZ, AT_PHDR, image.headers_address + bias, AT_PHENT, image.header_size,
        AT_PHNUM, image.nr_headers, AT_BASE, base, AT_FLAGS, 0, AT_ENTRY, image.entry + bias, AT_UID, 0, AT_EUID, 0, AT_GID, 0, AT_EGID, 0,
        AT_SECURE, 0, AT_RANDOM, random, AT_EXECFN, name, AT_PLATFORM, platform, AT_NULL, 0,
    )  # fmt: skip
    words = (len(arguments), *arguments, 0, *environment, 0, *auxiliary)
    sp = (at - len(words) * abi.word) & -16
    table = abi.words(*words)
    whole = table + bytes(at - sp - len(table)) + b"".join(reversed(strings)) + bytes(abi.word)
    start = sp & -PAGE_SIZE
    prot = PROT_READ | PROT_WRITE | (PROT_EXEC if image.executable_stack else 0)
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN
    start -= userland.extra_stack_bytes
    thread.task.mmap_opened(top - start, prot, flags, start, None, 0)
    thread.put(sp, whole)
    return sp
