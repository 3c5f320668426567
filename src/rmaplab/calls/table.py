"""The calls that a task can make: one table for all who make them, write them down or choose among them.

    Call("mlock2", 325, Task.mlock2, (*RANGE, ONFAULT), often=2, harmless="w+0 1", locks=VM_LOCKED_MASK)
          |        |    |            |                  |        |                 |
          |        |    |            |                  |        |                 what it leaves of VM_LOCKED_MASK on its pages
          |        |    |            |                  |        arguments with which a host may be asked whether it knows the call
          |        |    |            |                  how often a random script makes it
          |        |    |            its arguments in order: each has a name, a kind of word, perhaps a default
          |        |    what makes the call on a simulated task, given the arguments' numbers
          |        its number on x86-64
          its name in a script

Who reads it: scripts (workloads/script.py), the model that obeys them (lab/differential/obey.py) and the real processes that do
(host/agent.py), random scripts (lab/differential/fuzz.py), the conformance kit (lab/conformance). A new call that is no more
than its name and its arguments is a method of Task and a row here; what it is given and returns is told by its arguments and `returns`.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import Enum, auto
from typing import Any

from rmaplab.calls.task import Task
from rmaplab.calls.words import (
    AddressKind,
    FileKind,
    FlagsKind,
    KeyKind,
    Kind,
    Length,
    LengthKind,
    LivingKind,
    NewNameKind,
    NumberKind,
    PlaceKind,
    ProtKind,
    SegmentKind,
    VmaNameKind,
    WordKind,
)
from rmaplab.errors import NoMemory, SyscallError
from rmaplab.mm.file_io import LONGEST, max_bytes
from rmaplab.mm.rules import Rules
from rmaplab.objects.flags import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    IPC_CREAT,
    IPC_RMID,
    RLIMIT_AS,
    RLIMIT_DATA,
    RLIMIT_MEMLOCK,
    RLIMIT_NPROC,
    RLIMIT_STACK,
    SHM_LOCK,
    SHM_NORESERVE,
    SHM_UNLOCK,
    VM_LOCKED,
    VM_LOCKED_MASK,
)
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

CLONE_A_THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
REQUIRED = object()  # an argument without a default
HINT = 1 << 40  # no bit of mmap(2)'s: the address is a hint
TMPFS, DISK = 0, 1  # where a file is
READS, WRITES = 1, 2  # what it is opened for
F_ADD_SEALS, F_GET_SEALS = 1033, 1034  # include/uapi/linux/fcntl.h
ST_SIZE, ST_BLOCKS = 6, 8  # which word of struct stat
OWNER_ONLY = 0o600


class Returns(Enum):
    """What a call returns to the program, if it does not fail."""

    NOTHING = auto()
    ADDRESS = auto()
    BREAK = auto()  # the break as it is now; Linux's returns it also where it could not be moved
    RESIDENT = auto()  # a bool for each page
    LENGTH = auto()  # bytes
    BLOCKS = auto()  # of 512 bytes
    SEALS = auto()
    SEGMENT = auto()  # an id: told by the first name that has it
    STATUS = auto()  # of a segment: size, attachments, mode, key
    WORDS = auto()  # one of each page that was loaded from
    BYTES = auto()  # how many were copied; and a word of each whole page that the kernel has read
    CHILD = auto()  # and to the child: a birth
    WHO = auto()  # which child has ended, and how
    NEVER = auto()  # the process ends


@dataclass(frozen=True)
class Argument:
    """One argument of a call; without `default` it must be there.

    `tried` are the values that random scripts give it: one of them, each as likely as the others.
    """

    name: str
    kind: Kind
    default: Any = REQUIRED
    tried: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Call:
    """A row, as it is read above.

    `number` is None for loads and stores, which are no system calls. `method` is given a number for each argument; the name of a child
    is none. `harmless` is None where a host need not be asked. `locks` is None where the call neither locks nor unlocks, and means the
    call with all its flags. `clone_flags` is what clone(2) is given to make this birth. `not_on_host` says why no host is asked to make it;
    With `unmaps` it may change the entries of everybody.
    `given` are a system call's arguments where they are not ours in our order: names of ours, and numbers.
    `option` is what a host's kernel must be built with, "" if nothing. `rule` is the one of mm/rules.py that says whether a kernel knows
    the call; "" if all do.
    """

    name: str
    number: int | None
    method: Callable[..., Any]
    arguments: tuple[Argument, ...] = ()
    returns: Returns = Returns.NOTHING
    _: KW_ONLY
    often: float
    harmless: str | None = None
    locks: int | None = None
    clone_flags: int = 0
    rule: str = ""
    not_on_host: str = ""
    option: str = ""
    unmaps: bool = False
    given: tuple[str | int, ...] = ()

    def is_known(self, rules: Rules) -> bool:
        """Whether a kernel of these rules has it."""
        return not self.rule or bool(getattr(rules, self.rule))


# -- arguments -----------------------------------------------------------------------------------------------------------


def _argument(name: str, kind: Kind, tried: str = "", default: Any = REQUIRED) -> Argument:
    return Argument(name, kind, default, tuple(kind.parse(word) for word in tried.split()))


MAP = FlagsKind(
    "MAP",
    "SHARED PRIVATE FIXED_NOREPLACE HINT GROWSDOWN LOCKED NORESERVE POPULATE NONBLOCK STACK 32BIT DROPPABLE",
    raw=True,
    own={"HINT": HINT},
)
MREMAP = FlagsKind("MREMAP", "MAYMOVE FIXED DONTUNMAP", raw=True)
MADV = FlagsKind(
    "MADV",
    "NORMAL RANDOM SEQUENTIAL WILLNEED DONTNEED FREE DONTFORK DOFORK MERGEABLE UNMERGEABLE NOHUGEPAGE DONTDUMP DODUMP"
    " WIPEONFORK KEEPONFORK COLD REMOVE POPULATE_READ POPULATE_WRITE DONTNEED_LOCKED GUARD_INSTALL GUARD_REMOVE",
    exactly_one=True,
    raw=True,
)
MLOCK = FlagsKind("MLOCK", "ONFAULT", raw=True)
MCL = FlagsKind("MCL", "CURRENT FUTURE ONFAULT", raw=True)
MS = FlagsKind("MS", "ASYNC INVALIDATE SYNC", raw=True)
MPOL = FlagsKind(
    "MPOL", "DEFAULT PREFERRED BIND INTERLEAVE LOCAL PREFERRED_MANY WEIGHTED_INTERLEAVE", exactly_one=True, raw=True
)
MPOL_MF = FlagsKind("MPOL_MF", "STRICT MOVE MOVE_ALL", raw=True)
CLONE = FlagsKind("CLONE", "VM", exactly_one=True)
RLIMIT = FlagsKind("RLIMIT", "AS DATA MEMLOCK STACK NPROC", exactly_one=True)
CAP = FlagsKind("CAP", "IPC_LOCK", exactly_one=True)
MFD = FlagsKind("MFD", "ALLOW_SEALING NOEXEC_SEAL EXEC", raw=True)
SEALS = FlagsKind("F_SEAL", "SEAL SHRINK GROW WRITE FUTURE_WRITE EXEC", raw=True)
FALLOC = FlagsKind("FALLOC_FL", "KEEP_SIZE PUNCH_HOLE COLLAPSE_RANGE ZERO_RANGE INSERT_RANGE", raw=True)
SHMGET = FlagsKind("IPC", "CREAT EXCL NORESERVE", raw=True, own={"NORESERVE": SHM_NORESERVE})  # and a mode
SHMAT = FlagsKind("SHM", "RDONLY RND REMAP EXEC", raw=True)
SHMCTL = WordKind({"RMID": IPC_RMID, "LOCK": SHM_LOCK, "UNLOCK": SHM_UNLOCK})
NONLINEAR = FlagsKind("MAP", "NONBLOCK", raw=True)
PROT = ProtKind()

PLACE, ADDRESS = _argument("address", PlaceKind()), _argument("address", AddressKind())
LENGTH = _argument("length", LengthKind())
RANGE = (ADDRESS, LENGTH)
PAGES = _argument("pages", NumberKind("a number of pages", 1 << 20), default=1)
PROTECTION = _argument("prot", PROT, "rw rw rw rw rw rw r r - rwx w rx")
OLD, NEW, TO = _argument("old", LengthKind()), _argument("new", LengthKind()), _argument("to", AddressKind(), "", None)
ONFAULT = _argument("flags", MLOCK, "ONFAULT ONFAULT 0", 0)
WHICH = "CURRENT FUTURE CURRENT|FUTURE CURRENT|ONFAULT CURRENT|FUTURE|ONFAULT FUTURE|ONFAULT ONFAULT 0"
CHILD = _argument("child", NewNameKind())
WHO = _argument("who", LivingKind())
FILE, MAPPED, FROM = (
    _argument("file", FileKind()),
    _argument("file", FileKind(none=True), "", -1),
    _argument("from", FileKind()),
)
OFFSET = _argument("offset", LengthKind())
ACCESS = _argument("access", WordKind({"r": READS, "w": WRITES, "rw": READS | WRITES}), "rw rw r w", READS | WRITES)
WHERE = _argument("where", WordKind({"tmpfs": TMPFS, "disk": DISK}), "", TMPFS)
SEGMENT = _argument("segment", SegmentKind())
SECOND = _argument("address2", AddressKind(), "", None), _argument("length2", LengthKind(), "", Length(0))


# -- what is not called as it is written ---------------------------------------------------------------------------------


def _mmap(task: Task, address: int, length: int, prot: int, flags: int, file: int, offset: int) -> int:
    if offset % PAGE_SIZE:  # the system call's own check (sys_x86_64.c)
        raise SyscallError(errno.EINVAL, "mmap", "an offset within a page")
    return task.mmap(length, prot, flags, address, file=None if file < 0 else file, pgoff=offset >> PAGE_SHIFT)


def _create(task: Task, file: int, length: int, access: int, where: int) -> None:
    """A new file, which has no name, of so many zeros, and a descriptor of it."""
    on_disk = where == DISK
    if length > (longest := max_bytes(task.kernel, on_disk=on_disk)):  # as ftruncate, which gives it its length
        raise SyscallError(
            errno.EINVAL if length > LONGEST else errno.EFBIG, "create", f"no file is longer than {longest} bytes"
        )
    try:
        made = task.kernel.new_file(size=length, on_disk=on_disk)
    except NoMemory as failure:
        raise failure.or_errno(errno.ENOMEM, "create") from None
    _open(task, made, file, access)


def _open_again(task: Task, file: int, of: int, access: int) -> None:
    """The file that `of` means, opened once more."""
    _open(task, task.opened("open", of).mapping, file, access)


def _open(task: Task, space: AddressSpace, file: int, access: int) -> None:
    task.open(space, readable=bool(access & READS), writable=bool(access & WRITES), fd=file)


def _zero(task: Task, file: int, access: int) -> None:
    task.open_zero(readable=bool(access & READS), writable=bool(access & WRITES), fd=file)


def _memfd(task: Task, file: int, flags: int) -> None:
    task.memfd_create(flags, file)


def _fallocate(task: Task, file: int, offset: int, length: int, mode: int) -> None:
    task.fallocate(file, mode, *(number - (number >> 63 << 64) for number in (offset, length)))  # loff_t


def _remap_file_pages(task: Task, address: int, length: int, offset: int, prot: int, flags: int) -> None:
    task.remap_file_pages(address, length, prot, offset, flags)


def _dup(task: Task, file: int, of: int) -> None:
    task.dup(of, file)


def _name(task: Task, address: int, length: int, name: int) -> None:
    task.set_vma_name(address, length, VmaNameKind.name(name))


def _clone(task: Task, flags: int) -> Task:
    return task.clone_vm()  # VM is the one that a script can name


def _limit(task: Task, resource: int, length: int) -> None:
    if resource == RLIMIT_NPROC:  # so many pages stand for so many processes
        task.limit_nproc(length >> PAGE_SHIFT)
        return
    {
        RLIMIT_AS: task.limit_as,
        RLIMIT_DATA: task.limit_data,
        RLIMIT_MEMLOCK: task.limit_memlock,
        RLIMIT_STACK: task.limit_stack,
    }[resource](length)


def _fail(task: Task, nth: int) -> None:
    """Who makes the next call arms the injector for it (lab/differential/obey.py): that call must be its own."""


def _drop(task: Task, capability: int) -> None:
    task.cap_ipc_lock(granted=False)  # IPC_LOCK is the one that a script can name


# -- the table -----------------------------------------------------------------------------------------------------------

_ROWS = (
    Call("mmap", 9, _mmap, (PLACE, LENGTH, PROTECTION, _argument("flags", MAP, default=0), MAPPED, _argument("offset", LengthKind(), "", Length(0))),
         Returns.ADDRESS, often=15),
    Call("create", None, _create, (FILE, LENGTH, ACCESS, WHERE), often=3),
    Call("open", None, _open_again, (FILE, FROM, ACCESS), often=1.5),
    Call("dup", 33, _dup, (FILE, FROM), often=0.7, given=("from", "file")),
    Call("zero", None, _zero, (FILE, ACCESS), often=0.7, harmless="f0"),
    Call("memfd", None, _memfd, (FILE, _argument("flags", MFD, "ALLOW_SEALING ALLOW_SEALING ALLOW_SEALING 0 NOEXEC_SEAL EXEC ALLOW_SEALING|EXEC 0x20", 0)),
         often=1.5, harmless="f0"),
    Call("seal", 72, Task.add_seals, (FILE, _argument("seals", SEALS, "SHRINK GROW SHRINK|GROW WRITE WRITE FUTURE_WRITE SEAL EXEC 0x40 0")), often=1,
         given=("file", F_ADD_SEALS, "seals")),
    Call("seals", 72, Task.get_seals, (FILE,), Returns.SEALS, often=0.3, given=("file", F_GET_SEALS)),
    Call("fallocate", 285, _fallocate, (FILE, OFFSET, LENGTH, _argument("mode", FALLOC,
         "0 0 KEEP_SIZE KEEP_SIZE|PUNCH_HOLE KEEP_SIZE|PUNCH_HOLE KEEP_SIZE|PUNCH_HOLE PUNCH_HOLE COLLAPSE_RANGE ZERO_RANGE INSERT_RANGE 0x40", 0)),
         often=2, unmaps=True, given=("file", "mode", "offset", "length")),
    Call("blocks", None, Task.file_blocks, (FILE,), Returns.BLOCKS, often=0.7, given=("file", ST_BLOCKS)),
    Call("close", 3, Task.close, (FILE,), often=0.5),
    Call("pread", None, Task.pread, (FILE, OFFSET, PAGES), Returns.WORDS, often=1.5),
    Call("pwrite", None, Task.pwrite, (FILE, OFFSET, PAGES), often=2),
    Call("ftruncate", 77, Task.ftruncate, (FILE, LENGTH), often=2, unmaps=True),
    Call("fsync", 74, Task.fsync, (FILE,), often=0.5),
    Call("fstat", None, Task.file_size, (FILE,), Returns.LENGTH, often=0.7, given=("file", ST_SIZE)),
    Call("shmget", None, Task.shmget, (SEGMENT, _argument("key", KeyKind(), "PRIVATE PRIVATE 1 1 2"), LENGTH,
         _argument("flags", SHMGET, "CREAT|0x180 CREAT|0x180 CREAT|0x1b6 CREAT|0x124 0 CREAT|EXCL|0x180 CREAT|NORESERVE|0x1b6", IPC_CREAT | OWNER_ONLY)),
         Returns.SEGMENT, often=1.5, harmless="s0 PRIVATE 1", option="CONFIG_SYSVIPC"),
    Call("shmat", 30, Task.shmat, (SEGMENT, _argument("address", PlaceKind(), default="any"), _argument("flags", SHMAT, "0 0 0 0 RDONLY RND REMAP REMAP EXEC", 0)),
         Returns.ADDRESS, often=3),
    Call("shmdt", 67, Task.shmdt, (ADDRESS,), often=1),
    Call("shmctl", 31, Task.shmctl, (SEGMENT, _argument("command", SHMCTL, "RMID RMID LOCK UNLOCK")), often=1),
    Call("shmstat", None, Task.shm_stat, (SEGMENT,), Returns.STATUS, often=0.7),
    Call("remap_file_pages", 216, _remap_file_pages,
         (*RANGE, _argument("offset", NumberKind("a page of the file", 10**15 - 1), "0 0 1 2 3 5 8", 0), _argument("prot", PROT, "- - - - - r", 0),
          _argument("flags", NONLINEAR, "0 0 0 NONBLOCK", 0)), often=2, given=("address", "length", "prot", "offset", "flags")),
    Call("munmap", 11, Task.munmap, RANGE, often=6, harmless="w+0 1"),
    Call("mprotect", 10, Task.mprotect, (*RANGE, PROTECTION), often=11, harmless="w+0 1 r"),
    Call("mremap", 25, Task.mremap, (ADDRESS, OLD, NEW, _argument("flags", MREMAP, default=0), TO), Returns.ADDRESS,
         often=15, harmless="w+0 1 1"),
    Call("brk", 12, Task.brk, (ADDRESS,), Returns.BREAK, often=2, harmless="h+0"),
    Call("madvise", 28, Task.madvise, (*RANGE, _argument("advice", MADV)), often=11, harmless="w+0 1 NORMAL"),
    Call("process_madvise", 440, Task.process_madvise, (WHO, *RANGE, _argument("advice", MADV), *SECOND), Returns.LENGTH, often=2,
         harmless="A w+0 1 COLD", rule="process_madvise_known"),
    Call("mlock", 149, Task.mlock, RANGE, often=4, harmless="w+0 1", locks=VM_LOCKED),
    Call("mlock2", 325, Task.mlock2, (*RANGE, ONFAULT), often=2, harmless="w+0 1", locks=VM_LOCKED_MASK,
         rule="mlock2_known"),
    Call("munlock", 150, Task.munlock, RANGE, often=3, harmless="w+0 1", locks=0),
    Call("mlockall", 151, Task.mlockall, (_argument("flags", MCL, WHICH),), often=0.6, locks=VM_LOCKED_MASK),
    Call("munlockall", 152, Task.munlockall, often=0.6, harmless="", locks=0),
    Call("mseal", 462, Task.mseal, (*RANGE, _argument("flags", NumberKind("flags, of which there are none", 255), "0 0 0 0 0 0 0 1", 0)),
         often=1, harmless="w+0 1", rule="mseal_known"),
    Call("mbind", 237, Task.mbind,
         (*RANGE, _argument("mode", MPOL, "BIND BIND BIND INTERLEAVE PREFERRED LOCAL DEFAULT DEFAULT 0x8002 0x4002 0xc002 0x7"),
          _argument("nodes", NumberKind("a mask of nodes", 63), "1 1 1 1 1 0 0 0 2 3", 0), _argument("flags", MPOL_MF, "0 0 0 0 STRICT 0x10", 0)),
         often=2, harmless="w+0 1 DEFAULT", rule="mbind_known"),
    Call("name", 157, _name, (*RANGE, _argument("name", VmaNameKind(), "a a a b -")), often=1, harmless="w+0 1 a",
         rule="anon_names_known", option="CONFIG_ANON_VMA_NAME"),
    Call("mincore", 27, Task.mincore, RANGE, Returns.RESIDENT, often=2, harmless="w+0 1"),
    Call("msync", 26, Task.msync, (*RANGE, _argument("flags", MS, "ASYNC SYNC INVALIDATE ASYNC|SYNC INVALIDATE|SYNC 0")), often=1, harmless="w+0 1 ASYNC"),
    Call("read", None, Task.read, (ADDRESS, PAGES), Returns.WORDS, often=6),
    Call("write", None, Task.write, (ADDRESS, PAGES), often=20),
    Call("fetch", None, Task.execute, (ADDRESS,), often=2),
    Call("copy_from_user", 18, Task.copy_from_user, RANGE, Returns.BYTES, often=3),
    Call("copy_to_user", 17, Task.copy_to_user, RANGE, Returns.BYTES, often=4),
    Call("fork", 57, Task.fork, (CHILD,), Returns.CHILD, often=9),
    Call("vfork", 58, Task.vfork, (CHILD,), Returns.CHILD, often=1, clone_flags=CLONE_VM | CLONE_VFORK),
    Call("clone", 56, _clone, (CHILD, _argument("flags", CLONE, "VM")), Returns.CHILD, often=1, clone_flags=CLONE_VM),
    Call("thread", 56, Task.thread, (CHILD,), Returns.CHILD, often=1, clone_flags=CLONE_A_THREAD, rule="thread_groups"),
    Call("wait", 61, Task.wait, (), Returns.WHO, often=2, harmless=""),
    Call("exec", 59, Task.execve, often=0.3),
    Call("exit", 60, Task.exit, (_argument("code", NumberKind("an exit code", 255), "0 0 3", 0),), Returns.NEVER, often=5),
    Call("kill", 62, Task.kill, (), Returns.NEVER, often=0.7),
    Call("limit", 160, _limit, (_argument("resource", RLIMIT), LENGTH), often=0.8),
    Call("setuid", 105, Task.setuid, (_argument("uid", NumberKind("a user's number", 65534), "65534 65534 1000 0"),), often=0.4),
    Call("drop", 126, _drop, (_argument("capability", CAP, "IPC_LOCK"),), often=0.7),
    Call("fail", None, _fail, (_argument("nth", NumberKind("which allocation, from 1 on", 1 << 20), "1"),), often=0,
         not_on_host="failing allocations need CONFIG_FAULT_INJECTION"),
)  # fmt: skip
CALLS: Mapping[str, Call] = {call.name: call for call in _ROWS}
BIRTHS = tuple(call.name for call in _ROWS if call.returns is Returns.CHILD)
