"""The real kernel's side of a script: agent.c obeys it in real processes, and here its answers become a Record.

    with Agent() as agent:
        agent.submit(script)          sent; the agent works while we do something else
        record = agent.result()       of the oldest script submitted

What this host shows is found out once, by a script (`sees`, `missing`): an ordinary user sees no frames; a container may refuse a
call. A process that dies, and an agent that does, is HostTrouble; nothing is left running (agent.c says how).
"""

import os
import signal
import subprocess
from collections import deque
from contextlib import suppress
from importlib.resources import files
from typing import Any

import numpy as np

from rmaplab.calls.table import BIRTHS, CALLS, DISK, Returns
from rmaplab.errors import UsageError, errno_name
from rmaplab.host.asked import HostTrouble, largest_segment, packed, ranges, tasks_of_others
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.circumstances import huge_shmem, promises
from rmaplab.host.closing import Closing
from rmaplab.host.compiler import compile_kept
from rmaplab.host.procfs import read_fields
from rmaplab.host.vmas import VmaDumper
from rmaplab.host.wire import (
    COPY_FROM,
    COPY_TO,
    HEADER,
    HELLO,
    KINDS,
    MAGIC,
    OUTCOME,
    SNAPSHOT,
    TOO_MUCH,
    WANT_ALL,
    WANT_HOLD,
    Reply,
    Wire,
    code_name,
    how_it_died,
    signal_name,
)
from rmaplab.objects.flags import CAP_IPC_LOCK, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NPROC, VM_DONTCOPY
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE
from rmaplab.workloads.places import REACH, WINDOW, Places
from rmaplab.workloads.script import FIRST, Op, Script, parse, steps
from rmaplab.workloads.segments import Segments
from rmaplab.workloads.world import Circumstances, Raw, Record, Watcher, seen_of, stamp
from rmaplab.workloads.world_text import result_text, signal_text

OPTIONS = ("-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector",
           "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-fno-builtin", "-w")  # fmt: skip
TASK_SIZE = (1 << 47) - PAGE_SIZE
VSYSCALL = (0xFFFF_FFFF_FF60_0000, 0xFFFF_FFFF_FF60_1000)  # what the kernel does there is no memory
MOST_COPIED = 256 << 20
PFN = (1 << 55) - 1
MEMLOCK_BYTES = 8 << 20  # Linux's default since 5.16: both sides begin with it
KPF_ANON, KPF_ZERO_PAGE, KPF_ANON_EXCLUSIVE = (
    1 << 12,
    1 << 24,
    1 << 34,
)  # the last means something else of a file's page
OWN = KPF_ANON | KPF_ANON_EXCLUSIVE
OF_SEGMENTS = ("shmget", "shmat", "shmdt", "shmctl", "shmstat")
ON_TMPFS = ("create", "memfd", "zero", "shmget")
PATIENCE_S = 5
SINCE_BORDERS = (6, 16)  # the release since which VMAs merge as they do in 6.18 (879bca0a2c4f; modern.md 1.8)
REFUSALS = ("ENOSYS", "EPERM", "SIGSYS", "EINVAL")  # EINVAL: a prctl that it does not know
PROBE = """\
A: mmap w+0 4 rw
A: madvise w+3 1 DONTFORK
A: write w+1
A: read w+0
A: fork B
B: exit
"""


class Agent(Closing):
    """The compiled agent, running. A context manager.

    `places` says where it has the regions; `sees` what this host shows, of world.EVERYTHING; `missing` the calls that it refuses,
    with what they return; `release` is the kernel's; `has_disk` says whether files can be made on one; `circumstances` are what the other side must know. With `graph` records end with
    the anon_vma graph, which needs BPF: `no_graph` says why it cannot be had.
    """

    def __init__(self, *, graph: bool = False) -> None:
        if os.uname().machine != "x86_64" or os.uname().sysname != "Linux":
            raise HostTrouble("the host side needs Linux on x86-64: compare with recorded results (--against FILE)")
        if os.sysconf("SC_PAGE_SIZE") != PAGE_SIZE:
            raise HostTrouble("the host side needs pages of 4 KiB: compare with recorded results (--against FILE)")
        source = (files("rmaplab.host") / "agent.c").read_bytes()
        try:
            program = compile_kept(source, "agent.c", OPTIONS)
        except UsageError as error:
            raise HostTrouble(f"{error}, or compare with recorded results (--against FILE)") from None
        self.release = os.uname().release.partition("-")[0]  # without what a distribution adds
        self._pending: deque[Script] = deque()
        self._alive: list[int] = []  # pids, after the operation last read, in order of birth
        self._dumper: VmaDumper | None = None
        self._shares_ipc = False
        self.no_graph = "" if graph else "nobody has asked for it"
        told_to, self._go = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603
            [program, str(told_to)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[told_to],
        )
        os.close(told_to)
        self._wire = Wire(self._process)
        try:
            _, steady, m, h, memlock_bytes, alone_bytes = HELLO.unpack(self._read(HELLO.size))
            self.places = Places(WINDOW, m, h)
            status = read_fields(f"{self._process.pid}/status")
            alone = -(-alone_bytes // PAGE_SIZE) * PAGE_SIZE
            self._own = {  # what a process has for itself of what is limited
                resource: int(status[size].split()[0]) * 1024 - alone
                for resource, size in ((RLIMIT_AS, "VmSize"), (RLIMIT_DATA, "VmData"))
            }
            privileged = bool(int(status["CapEff"], 16) >> CAP_IPC_LOCK & 1)
            self.circumstances = Circumstances(
                privileged, m, h, own_pages=self._own[RLIMIT_AS] >> PAGE_SHIFT, **promises()
            )
            self._tables = 0
            self.missing: dict[str, str] = {}
            if os.geteuid():
                self.missing["setuid"] = "the agent is not root"
            if huge := huge_shmem():
                self.missing |= dict.fromkeys(ON_TMPFS, huge)
            self._shares_ipc = bool(steady & 4)
            self.has_disk = bool(steady & 2)
            if not steady & 1:
                self.missing["exec"] = "it does not let addresses stay where they are: personality(2)"
            if memlock_bytes != MEMLOCK_BYTES:
                locking = [call.name for call in CALLS.values() if call.locks]
                self.missing |= dict.fromkeys(locking, f"RLIMIT_MEMLOCK is {memlock_bytes} bytes")
            self.sees = self._probe()
            if none := self.missing.get("shmget"):
                self.missing |= dict.fromkeys(OF_SEGMENTS, none)
            if graph:
                self._look_for_graph()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the agent and everything it has started."""
        if self._shares_ipc:  # its segments would outlive it: it removes them
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()
        if self._go >= 0:
            os.close(self._go)
            self._go = -1
        if self._dumper is not None:
            self._dumper.close()
            self._dumper = None

    @property
    def version(self) -> tuple[int, ...]:
        """The kernel's release as numbers: (6, 18)."""
        return tuple(map(int, self.release.split(".")[:2]))

    @property
    def pid(self) -> int:
        """The supervisor's; its process group holds all it has started."""
        return self._process.pid

    def submit(self, script: Script) -> None:
        """Send a script. Raises HostTrouble: the agent has died, or the host cannot do what the script asks for."""
        segment = largest_segment(script)
        for op in script.ops:
            if reason := CALLS[op.call].not_on_host:
                raise HostTrouble(f"{script.name}:{op.line}: no host does {op.call}: {reason}")
            if op.call == "create" and op["where"] == DISK and not self.has_disk:
                raise HostTrouble(
                    f"{script.name}:{op.line}: no directory here lies on ext4 (/var/tmp, /tmp, .): create the file on tmpfs"
                )
            if op.call in self.missing:
                raise HostTrouble(
                    f"{script.name}:{op.line}: this host refuses {op.call} ({self.missing[op.call]}): leave it out"
                )
            if KINDS.get(op.call) in (COPY_FROM, COPY_TO):
                nr = op["length"].nr_bytes
                if nr > MOST_COPIED and self.places.real(op["address"]) + nr <= TASK_SIZE:  # beyond, nothing is copied
                    raise HostTrouble(
                        f"{script.name}:{op.line}: {op.call} of so much would fill the machine: give at most {MOST_COPIED // PAGE_SIZE} pages"
                    )
            owns = [
                (0, self.places.h),
                (self.places.m, TASK_SIZE),
                *([VSYSCALL] if op.call in ("read", "write", "fetch") else []),
            ]
            for first, end in ranges(op, self.places, segment):
                if any(first < own_end and own < end for own, own_end in owns):
                    raise HostTrouble(
                        f"{script.name}:{op.line}: {op.call} at {first:#x} reaches memory that the host's agent has for itself: "
                        f"give addresses from h+0 ({self.places.h:#x}) to m ({self.places.m:#x})"
                    )
        own = self._own | {RLIMIT_NPROC: tasks_of_others(script, self.pid)}
        want = WANT_ALL if self._dumper is None else WANT_ALL | WANT_HOLD
        message = [HEADER.pack(MAGIC, len(script.ops), want, 0)]
        message += [
            packed(op, number, step, self.places, own)
            for number, (op, step) in enumerate(zip(script.ops, steps(script.ops), strict=True), 1)
        ]
        if self._process.stdin is None or self._process.stdin.closed:
            raise self._agent_died()
        try:
            self._wire.send(b"".join(message))
        except BrokenPipeError:
            raise self._agent_died() from None
        self._pending.append(script)

    def result(self) -> Record:
        """What the oldest submitted script did. Raises HostTrouble: a process or the agent has died."""
        script = self._pending.popleft()
        self._alive = []
        record = Record(script, seen_of(script, self.sees), self.circumstances)
        watcher, segments = Watcher(self._tables), Segments()
        pids, names, trouble = dict[int, str](), {0: FIRST}, None  # names by places, in order of birth
        for op, step in zip(script.ops, steps(script.ops), strict=True):
            if op.call in BIRTHS:
                names.pop(step.child_slot, None)
                names[step.child_slot] = op["child"]
            outcome = self._read_outcome(names)
            if outcome.died >= 0 and trouble is None:
                how = how_it_died(outcome.died)
                trouble = f"{script.name}:{op.line}: the host's process {op.process} was killed{how} in {op.call}"
            if op.call in BIRTHS and outcome.ret > 0:
                pids[outcome.ret] = op["child"]
            record.results.append(self._result(op, outcome, pids, segments))
            record.worlds.append(watcher.world(op, outcome.raws))
        if self._dumper is not None:
            record.graph = self._dumper.dump_only(self._alive).graph.part(
                self._alive, WINDOW, WINDOW + REACH, renumber=True
            )
            os.write(self._go, b"g")
        if trouble is not None:
            raise HostTrouble(f"{trouble}: look at the kernel's log, and run it again")
        return record

    def run(self, script: Script) -> Record:
        """submit() and result()."""
        self.submit(script)
        return self.result()

    # -- what this host shows --------------------------------------------------------------------------------------------

    def _probe(self) -> frozenset[str]:
        """What it sees, and which calls it refuses; and the page tables that a process has of its own."""
        self.sees = frozenset({"tables"})
        first = self._raws(parse("A: munmap w+0 1", "probe"))[0]
        self._tables = first["A"].tables
        for call in CALLS.values():
            if call.harmless is None or call.name in self.missing:
                continue
            try:
                result = self.run(parse(f"A: mmap w+0 1 rw\nA: {call.name} {call.harmless}", "probe")).results[1]
            except HostTrouble as trouble:  # a seccomp filter may kill
                self._need_agent(trouble)
                self.missing[call.name] = "it kills the process"
                continue
            if result.split(" ", maxsplit=1)[0] in REFUSALS:
                self.missing[call.name] = f"{result}: it has no {call.option}" if call.option else result
        _, _, written, read, forked, _ = self._raws(parse(PROBE, "probe"))
        sees = {"codes"}
        if first["A"].tables >= 0:
            sees |= {"tables", "locked"}
        if (written["A"].vmas[:, 2] & VM_DONTCOPY).any():
            sees.add("flags")
        page = written["A"].pages
        if len(page) == 1:
            sees.add("pages")
            if page[0, 5] == stamp(3):
                sees.add("words")
            if page[0, 1] and read["A"].pages[0, 2]:
                sees.add("frames")
            if page[0, 3] == 1 and forked["A"].pages[-1, 3] == 2:
                sees.add("mapcounts")
            if page[0, 4] and not forked["A"].pages[-1, 4]:
                sees.add("exclusive")
        if self.version >= SINCE_BORDERS:
            sees.add("borders")
        return frozenset(sees)

    def _look_for_graph(self) -> None:
        try:
            self._dumper = VmaDumper()
        except BpfUnavailable as error:
            self.no_graph = str(error)

    def _raws(self, script: Script) -> list[dict[str, Raw]]:
        self.submit(script)
        self._pending.popleft()
        return [self._read_outcome(dict(enumerate(script.processes))).raws for _ in script.ops]

    # -- from the agent --------------------------------------------------------------------------------------------------

    def _need_agent(self, trouble: HostTrouble) -> None:
        if self._process.poll() is not None:
            raise trouble

    def _read(self, nr: int) -> bytes:
        if self._process.stdout is None or self._process.stdout.closed:
            raise self._agent_died()
        try:
            data = self._wire.read(nr)
        except BrokenPipeError:
            raise self._agent_died() from None
        if len(data) < nr:
            raise self._agent_died()
        return data

    def _agent_died(self) -> HostTrouble:
        code = self._process.wait()
        if code == TOO_MUCH:
            self.close()
            return HostTrouble(
                "a process of the script has more VMAs or pages than the agent can hold: use fewer of them"
            )
        how = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with code {code}"
        self.close()
        return HostTrouble(f"the agent on the host {how}: run it again, and look at the kernel's log if it stays so")

    def _read_outcome(self, names: dict[int, str]) -> Reply:
        """The next operation's."""
        ret, number, code, address, died, nr_data, nr_snapshots = OUTCOME.unpack(self._read(OUTCOME.size))
        data = self._read(8 * nr_data)
        found = {name: (pid, raw) for name, pid, raw in (self._read_snapshot(names) for _ in range(nr_snapshots))}
        born = [name for name in names.values() if name in found]
        self._alive = [found[name][0] for name in born]
        raws = {name: found[name][1] for name in born}
        return Reply(ret, number, code, address, died, data, raws)

    def _read_snapshot(self, names: dict[int, str]) -> tuple[str, int, Raw]:
        slot, nr_vmas, nr_pages, pid, table_kib, locked_kib = SNAPSHOT.unpack(self._read(SNAPSHOT.size))
        vmas = np.frombuffer(self._read(40 * nr_vmas), np.int64).reshape(-1, 5).copy()
        rows = np.frombuffer(self._read(40 * nr_pages), np.int64).reshape(-1, 5)
        vmas[:, :2] = self.places.canonical(vmas[:, :2])
        pages = np.empty((nr_pages, 6), np.int64)
        pages[:, 0] = self.places.canonical(rows[:, 0])
        pages[:, 1] = rows[:, 1] & PFN
        pages[:, 2] = (rows[:, 3] & KPF_ZERO_PAGE != 0) & (rows[:, 3] != -1)
        pages[:, 3] = rows[:, 2]
        pages[:, 4] = (rows[:, 3] & OWN == OWN) & (rows[:, 3] != -1)
        pages[:, 5] = rows[:, 4]
        vmas, pages = (rows[np.argsort(rows[:, 0], kind="stable")] for rows in (vmas, pages))  # as they are told
        return names[slot], pid, Raw(vmas, pages, *(kib // 4 if kib >= 0 else -1 for kib in (table_kib, locked_kib)))

    def _result(self, op: Op, outcome: Reply, pids: dict[int, str], segments: Segments) -> str:
        """In the words that both sides use."""
        ret, number, data = outcome.ret, outcome.signal, outcome.data
        returns, words = CALLS[op.call].returns, list[int]()
        if returns is Returns.WORDS:
            words = np.frombuffer(data, np.uint64).tolist()
        if number:
            code = code_name(number, outcome.code)
            return signal_text(signal_name(number), self.places.name(outcome.address) if code else "", code, words)
        if ret < 0:
            return errno_name(-ret)
        value: Any = ret
        match returns:
            case Returns.WORDS:
                value = words
            case Returns.BREAK if ret < self.places.real(op["address"]):
                return "ENOMEM"
            case Returns.RESIDENT:
                value = [byte & 1 for byte in data[: -(-op["length"].nr_bytes // PAGE_SIZE)]]
            case Returns.BYTES:
                value = ret, np.frombuffer(data, np.uint64).tolist()
            case Returns.SEGMENT:
                value = segments.given(op["segment"], ret)
            case Returns.STATUS:
                value = np.frombuffer(data, np.uint64).tolist()
            case Returns.WHO:
                status = int.from_bytes(data[:4], "little")
                how = f"killed by {signal_name(status & 127)}" if status & 127 else str(status >> 8 & 255)
                value = (pids.get(ret, "a stranger"), how) if ret else None
        return result_text(returns, value, self.places)
