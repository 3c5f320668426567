"""The model's side of a script: a System obeys it, and what became of memory is a Record, as the host's is.

    record = obey(script, "6.18")

Each script gets a system of its own. Afterwards the kernel checks itself, against the judge too: a KernelBug is ours.
"""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from rmaplab.calls.table import BIRTHS, CALLS, Returns
from rmaplab.calls.task import Task
from rmaplab.errors import (
    BusError,
    Hung,
    KernelBug,
    NoMemory,
    NotModelled,
    OomKilled,
    SegmentationFault,
    SyscallError,
    UsageError,
)
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import System, boot
from rmaplab.lab.differential.sight import ModelView
from rmaplab.mm.access import check_copy
from rmaplab.mm.overcommit import Overcommit, OvercommitMode
from rmaplab.mm.vma import link_vma, vm_area_alloc
from rmaplab.objects.flags import MADV_REMOVE, MCL_CURRENT, VM_DONTEXPAND
from rmaplab.objects.graph import Graph
from rmaplab.objects.mm_types import MmStruct
from rmaplab.reclaim.oom_kill import OomKiller
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE
from rmaplab.workloads.box import HOST, ScriptBox
from rmaplab.workloads.places import REACH, WINDOW, Places
from rmaplab.workloads.script import FIRST, WORD, Op, Script, steps
from rmaplab.workloads.segments import Segments
from rmaplab.workloads.world import EVERYTHING, Circumstances, Raw, Record, Watcher, seen_of, stamp
from rmaplab.workloads.world_text import result_text, signal_text

RAM, PAGING = "256M", "x86-64"
SMALL_RAM = "64M"
"""What is tried first, where the script has no machine of its own: boxes take longer to boot and to check the larger they are."""
HUNG = "hung"
"""The result of a call that never returns, and of all that follow."""
SMALL_WINDOW = 1 << 38  # where the address space ends at 512 GiB


class Obedient:
    """A system that obeys a script. `kernel` is a name. Its box is the script's, and where that says nothing the host's (`around`), with `ram`."""

    def __init__(self, kernel: str, around: Circumstances, box: ScriptBox = HOST, ram: str = RAM) -> None:
        rules = find_kernel(kernel).rules(WORD)
        own = box.ram is not None
        self.system: System = boot(
            kernel,
            ram=ram if box.ram is None else box.ram,
            swap=(box.swap or 0) if own else 0,
            paging=PAGING,
            mmap_base=around.m if rules.mmap_topdown else None,
            heap_base=around.h,
            overcommit=around.overcommit if box.overcommit is None else box.overcommit,
            overcommit_ratio=around.ratio if box.ratio is None else box.ratio,
            max_map_count=box.max_map_count
            if box.max_map_count is not None or not rules.max_map_count_settable
            else around.max_map_count,
        )
        k = self.system.kernel
        self.killer = OomKiller(k) if own else None
        reclaim = self.system.spec.reclaim_class()
        if self.killer is not None and k.machine.swap_pages and reclaim is not None:
            reclaim(k, self.system.spec.reclaim_rules(WORD), self.killer.out_of_memory)
        if not own:
            k.overcommit = _as_promised(k.overcommit, around, box)
        self._own_pages = around.own_pages
        self.why = ""
        """Why the last operation failed, as the rule says that has refused it."""
        self.tasks: dict[str, Task] = {}
        self.names: dict[int, str] = {}
        self._hung: dict[str, str] = {}  # processes that try for ever to get memory, and why
        self._failing: dict[str, int] = {}  # processes: which allocation of their next call fails
        self._top = top = _top(kernel, around.m if rules.mmap_topdown else None)
        first = self._add(FIRST, self.system.spawn(root=around.privileged))
        self._fence(first)
        roomy = self.system.machine.paging.task_size > WINDOW + REACH
        self.places = Places(WINDOW if roomy else SMALL_WINDOW, top, self._mm(first).brk)
        self._sight = ModelView(self.system.machine, self.places)
        self._segments = Segments()
        self.watcher = Watcher(self._mm(first).nr_tables)

    def do(self, number: int, op: Op) -> str:
        """One operation, the `number`-th; its result in the words that both sides use. Raises UsageError, KernelBug."""
        task = self.tasks.get(op.process)
        self.why = self._hung.get(op.process, "")
        if task is None:  # its fork has failed
            return "ESRCH"
        if op.process in self._hung:
            return HUNG
        allocator = self.system.machine.allocator
        nth = self._failing.pop(op.process, 0)
        try:
            if nth:
                allocator.fail_after = nth - 1
            return self._own.get(op.call, Obedient._call)(self, number, op, task)
        except SyscallError as error:
            self.why = error.why
            return error.name
        except SegmentationFault as fault:
            return self._signal(fault)
        except NotModelled as error:
            raise NotModelled(f"line {op.line}: {error}") from None
        except Hung as failure:
            self.why = self._hung[op.process] = failure.why
            return HUNG
        except (NoMemory, OomKilled) as failure:
            self.why = str(failure)
            killed = isinstance(failure, OomKilled) and (nth > 0 or self.killer is not None)
            if killed or (self.killer is not None and self.killer.kill_chosen()):
                return signal_text("SIGKILL")
            raise UsageError(
                f"line {op.line}: the model's box of {RAM} is too small for this: use fewer pages"
            ) from None
        finally:
            if nth:
                allocator.fail_after = None

    def raws(self, *touched: str, only: Sequence[str] | None = None) -> dict[str, Raw]:
        """All processes that live, or `only` those, as this side sees them (sight.py)."""
        self._bury()
        return self._sight.raws({name: self._mm(task) for name, task in self.tasks.items()}, touched, only)

    @property
    def has_room(self) -> bool:
        """Whether all memory that was asked for was there above the low marks: then in a larger box nothing would have come out otherwise."""
        return self.system.machine.allocator.kswapd_wakes == 0

    def graph(self) -> Graph | None:
        """The anon_vma graph of the window, if the design has one."""
        design, low = self.system.kernel.design, self.places.w
        tasks = [task for task in self.tasks.values() if task.leader is task]
        graph = design.graph(tasks)
        return None if graph is None else graph.part([task.pid for task in tasks], low, low + REACH)

    # -- the calls -------------------------------------------------------------------------------------------------------

    def _call(self, number: int, op: Op, task: Task) -> str:
        """A call as the table has it."""
        call = CALLS[op.call]
        numbers = self.places.numbers(op)
        self._segments.put(op, numbers)
        value: Any = call.method(task, *numbers.values())
        if op.call == "exec":
            self.tasks = {name: task for name, task in self.tasks.items() if task.mm is not None}
            self._fence(task)
        if call.returns is Returns.CHILD:
            mm = self._mm(self._add(op["child"], value))
            if mm is not task.mm and mm.find_vma(self._top):  # a fence of its own
                mm.total_vm, mm.total_vm_drift = mm.total_vm - 1, mm.total_vm_drift + 1
        if call.returns is Returns.NEVER:
            self.tasks = {name: task for name, task in self.tasks.items() if task.mm is not None}
        if call.returns is Returns.SEGMENT:
            value = self._segments.given(op["segment"], value)
        return result_text(call.returns, value, self.places)

    def _read(self, number: int, op: Op, task: Task) -> str:
        """Loads, a word of each page, up to the one that faults."""
        words: list[int] = []
        try:
            for page in range(op["pages"]):
                words.append(int.from_bytes(task.read(self._page(op, page), WORD), "little"))  # noqa: PERF401
        except SegmentationFault as fault:
            return self._signal(fault, words)
        return result_text(Returns.WORDS, words, self.places)

    def _write(self, number: int, op: Op, task: Task) -> str:
        """Stores, a word to each page."""
        for page in range(op["pages"]):
            task.write(self._page(op, page), (stamp(number) + page).to_bytes(WORD, "little"))
        return "ok"

    def _pread(self, number: int, op: Op, task: Task) -> str:
        """A word of each page, as far as the file goes."""
        file, offset, _ = self.places.numbers(op).values()
        words: list[int] = []
        for page in range(op["pages"]):
            word = task.pread(file, WORD, offset + page * PAGE_SIZE)
            if not word:
                break
            words.append(int.from_bytes(word, "little"))
        return result_text(Returns.WORDS, words, self.places)

    def _pwrite(self, number: int, op: Op, task: Task) -> str:
        """A word to each page."""
        file, offset, _ = self.places.numbers(op).values()
        for page in range(op["pages"]):
            task.pwrite(file, (stamp(number) + page).to_bytes(WORD, "little"), offset + page * PAGE_SIZE)
        return "ok"

    def _blocks(self, number: int, op: Op, task: Task) -> str:
        """What a file takes on a disk is the disk's own affair."""
        file = task.opened("fstat", op["file"])
        on_disk = file.mapping.on_disk and file.mapping is not self.system.kernel.dev_zero
        return result_text(Returns.BLOCKS, 0, self.places) if on_disk else self._call(number, op, task)

    def _fetch(self, number: int, op: Op, task: Task) -> str:
        """The instruction that stands there is run: it must be one that changes nothing, as 0 and small numbers are (add to where a register points)."""
        address = self.places.real(op["address"])
        task.execute(address)
        if task.copy_from_user(address, 2)[1]:
            raise NotModelled("what stands at the address would be run: fetch from a page that nobody has written to")
        return "ok"

    def _copy_from_user(self, number: int, op: Op, task: Task) -> str:
        """What the kernel has read is told as far as it is the first word of a page."""
        first = self.places.real(op["address"])
        data = task.copy_from_user(first, op["length"].nr_bytes)
        starts = range(-first % PAGE_SIZE, len(data) - WORD + 1, PAGE_SIZE)
        words = [int.from_bytes(data[at : at + WORD], "little") for at in starts]
        return result_text(Returns.BYTES, (len(data), words), self.places)

    def _copy_to_user(self, number: int, op: Op, task: Task) -> str:
        """A number to the beginning of each page, zeros behind it."""
        first, length = self.places.real(op["address"]), op["length"].nr_bytes
        skip = first % PAGE_SIZE
        check_copy(self.system.kernel, first, length)
        nr = -(-(skip + length) // PAGE_SIZE)
        pages = ((stamp(number) + page).to_bytes(WORD, "little").ljust(PAGE_SIZE, b"\0") for page in range(nr))
        copied = task.copy_to_user(first, b"".join(pages)[skip : skip + length])
        return result_text(Returns.BYTES, (copied, []), self.places)

    def _wait(self, number: int, op: Op, task: Task) -> str:
        """It does not sleep (WNOHANG)."""
        children = task.leader.children
        if children and all(child.exit_code is None for child in children):
            return result_text(Returns.WHO, None, self.places)
        pid, code = task.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else str(code)
        return result_text(Returns.WHO, (self.names[pid], how), self.places)

    def _fail(self, number: int, op: Op, task: Task) -> str:
        """The next call of this process meets a failing allocation."""
        self._failing[op.process] = op["nth"]
        return "ok"

    def _process_madvise(self, number: int, op: Op, task: Task) -> str:
        """Of one range, or of two."""
        who, values = self.tasks.get(op["who"]), self.places.numbers(op)
        if who is None:  # its fork has failed
            return "ESRCH"
        ranges = [(values["address"], values["length"]), (values["address2"], values["length2"])]
        advised = task.process_madvise(who, ranges[: 1 if op["address2"] is None else 2], values["advice"])
        return result_text(Returns.LENGTH, advised, self.places)

    def _mlockall(self, number: int, op: Op, task: Task) -> str:
        """MCL_CURRENT compares RLIMIT_MEMLOCK with all that a process has mapped, which is more on the host. Raises NotModelled where that tells."""
        mapped, most = self._mm(task).total_vm, task.limits.memlock >> PAGE_SHIFT
        if op["flags"] & MCL_CURRENT and not task.limits.may_lock and mapped <= most < mapped + self._own_pages:
            raise NotModelled(
                f"mlockall compares RLIMIT_MEMLOCK, {most} pages, with all that a process has mapped: {mapped} here, and on the host "
                f"{self._own_pages} more of its own: map less, or leave mlockall out"
            )
        return self._call(number, op, task)

    _own: ClassVar[Mapping[str, Callable[["Obedient", int, Op, Task], str]]] = {  # those that are more than one call
        "read": _read,
        "write": _write,
        "fetch": _fetch,
        "pread": _pread,
        "pwrite": _pwrite,
        "blocks": _blocks,
        "copy_from_user": _copy_from_user,
        "copy_to_user": _copy_to_user,
        "wait": _wait,
        "fail": _fail,
        "process_madvise": _process_madvise,
        "mlockall": _mlockall,
    }

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _add(self, name: str, task: Task) -> Task:
        self.tasks[name] = task
        self.names[task.pid] = name
        return task

    def _bury(self) -> None:
        """Whoever has been killed lives no more: as the caller, or because memory ran out for another one."""
        self.tasks = {name: task for name, task in self.tasks.items() if task.mm is not None}

    def _fence(self, task: Task) -> None:
        """Above m a program has something of its own, which merges with nothing and is not counted."""
        mm, k = self._mm(task), self.system.kernel
        if not k.rules.mmap_topdown:
            return
        link_vma(k, vm_area_alloc(k, mm, self._top, self._top + PAGE_SIZE, VM_DONTEXPAND, self._top >> PAGE_SHIFT))
        mm.total_vm_drift += 1

    def _mm(self, task: Task) -> MmStruct:
        if task.mm is None:
            raise KernelBug("obey", f"task {task.pid} has lost its address space")
        return task.mm

    def _signal(self, fault: SegmentationFault, words: Sequence[int] = ()) -> str:
        self.why = fault.cause
        name, code = ("SIGBUS", "ADRERR") if isinstance(fault, BusError) else ("SIGSEGV", fault.code)
        return signal_text(name, self.places.name(fault.address), code, words)

    def _page(self, op: Op, page: int) -> int:
        return self.places.real(op["address"]) + page * PAGE_SIZE


@cache
def _top(kernel: str, base: int | None) -> int:
    """The end of what mmap gives first, which is "m". Found once, on a box of its own."""
    return boot(kernel, ram=RAM, paging=PAGING, mmap_base=base).spawn().mmap(PAGE_SIZE) + PAGE_SIZE


def _as_promised(promises: Overcommit, around: Circumstances, box: ScriptBox) -> Overcommit:
    """Promises are kept as the host keeps them, with the box's swap; nothing is swapped, and all else is free there."""
    ram, swap = around.promised - around.swap, around.swap if box.swap is None else box.swap
    if promises.mode is OvercommitMode.STRICT:
        return replace(promises, totalram=ram >> PAGE_SHIFT, swap=swap >> PAGE_SHIFT, nr_free_at_boot=ram >> PAGE_SHIFT)
    return replace(promises, swap=(ram + swap >> PAGE_SHIFT) - promises.totalram)


def _unmaps(op: Op) -> bool:
    """Whether it may change the entries of everybody."""
    return CALLS[op.call].unmaps or (op.call in ("madvise", "process_madvise") and op["advice"] == MADV_REMOVE)


def obey(
    script: Script,
    kernel: str,
    around: Circumstances = Circumstances(),  # noqa: B008
    *,
    check_each: bool = False,
    graph: bool = False,
) -> Record:
    """Run a script on a new system of `kernel`, and check() that at its end, or after each operation.

    `around` says what is to be as on the host; with `graph` the record ends with the anon_vma graph.
    Where the model is wrong in itself the record ends, and says so. Raises UsageError: no such kernel; NotModelled:
    what Linux can do and the model cannot.
    """
    for ram in (SMALL_RAM, RAM) if script.box.ram is None else (RAM,):
        try:
            obedient = Obedient(kernel, around, script.box, ram)
        except UsageError as error:
            if ram == SMALL_RAM:
                continue
            raise UsageError(f"{script.name}: {error}" if script.box != HOST else str(error)) from None
        record = _obeyed(obedient, script, around, check_each=check_each, graph=graph, may_fail=ram == SMALL_RAM)
        if record is not None:
            break
    assert record is not None
    return record


def _obeyed(
    obedient: Obedient, script: Script, around: Circumstances, *, check_each: bool, graph: bool, may_fail: bool
) -> Record | None:
    """The record. None: the box is too small, and `may_fail` for that."""
    sees = EVERYTHING if obedient.system.kernel.rules.anon_exclusive else EVERYTHING - {"exclusive"}
    record = Record(script, seen_of(script, sees), around)
    try:
        for number, (op, step) in enumerate(zip(script.ops, steps(script.ops), strict=True), 1):
            result = obedient.do(number, op)
            if may_fail and not obedient.has_room:
                return None
            last = number == len(script.ops)
            if check_each or last:
                obedient.system.check()
            touched = [op.process, *([op["child"]] if op.call in BIRTHS else [])]
            if last or _unmaps(op):
                touched = []
            record.worlds.append(obedient.watcher.world(op, obedient.raws(*touched, only=step.looks)))
            record.results.append(result)
            record.reasons.append(obedient.why)
        if graph:
            record.graph = obedient.graph()
    except UsageError as error:
        if may_fail and not obedient.has_room:
            return None
        raise type(error)(f"{script.name}, {error}") from None
    except Exception as error:  # noqa: BLE001
        if may_fail and not obedient.has_room:
            return None
        record.error = error
    return record
