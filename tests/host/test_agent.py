"""The agent: what real processes do with a script, on whatever kernel this is; and that nothing is left running, whatever happens."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rmaplab.calls.table import CALLS
from rmaplab.errors import UsageError
from rmaplab.host.agent import OPTIONS, Agent
from rmaplab.host.asked import HostTrouble, tasks_of_others
from rmaplab.host.compiler import compile_c
from rmaplab.lab.differential.compare import compare
from rmaplab.lab.differential.obey import obey
from rmaplab.workloads.script import parse
from rmaplab.workloads.world import EVERYTHING, Record
from rmaplab.workloads.world_text import state_text

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
here = (
    os.uname().machine == "x86_64" and os.uname().sysname == "Linux" and bool(shutil.which("cc") or shutil.which("gcc"))
)
needs_agent = pytest.mark.skipif(not REQUIRE_ALL and not here, reason="no C compiler, or not Linux on x86-64")
needs_root = pytest.mark.skipif(not REQUIRE_ALL and os.geteuid() != 0, reason="frames are shown to root only")
pytestmark = needs_agent


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


def vmas(record: Record, process: str = "A", at: int = -1) -> list[str]:
    """Where VMAs are, and their protection."""
    return [" ".join(vma.split()[:2]) for vma in state_text(record.worlds[at][process], record.sees).vmas]


def pages(record: Record, process: str = "A", at: int = -1) -> list[str]:
    """What is in them."""
    return list(state_text(record.worlds[at][process], record.sees).pages)


def group(pid: int) -> list[int]:
    """All living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[2]) == pid:
            found.append(int(path.parent.name))
    return found


# -- what it does ---------------------------------------------------------------------------------------------------------


def test_memory_is_where_the_script_says(agent: Agent) -> None:
    """POSIX, on any Linux: mappings, contents, errors, a child's own copy."""
    record = agent.run(parse("""
        A: mmap w+0 4 rw
        A: write w+1 2
        A: fork B
        B: write w+2
        B: read w+0 4
        A: read w+0 4
        A: mprotect w+3 1 r
        A: write w+3
        A: munmap w+0 0
        B: exit 7
        A: wait
        A: wait"""))  # fmt: skip
    assert record.results == [
        "w+0",
        "ok",
        "ok",
        "ok",
        "0 #2 #4 0",
        "0 #2 #2.1 0",
        "ok",
        "SIGSEGV w+3 ACCERR",
        "EINVAL",
        "ok",
        "B 7",
        "ECHILD",
    ]
    assert vmas(record) == ["w+0..w+3 rw-", "w+3..w+4 r--"]
    assert list(record.worlds[8]) == ["A", "B"]
    assert list(record.worlds[-1]) == ["A"]


def test_a_read_stops_where_it_faults(agent: Agent) -> None:
    """What came before is told."""
    record = agent.run(parse("A: mmap w+0 2 rw\nA: write w+0 2\nA: read w+0 3"))
    assert record.results[-1] == "#2 #2.1 SIGSEGV w+2 MAPERR"


@needs_root
def test_frames_are_told_apart(agent: Agent) -> None:
    """Shared after fork, a copy after the write; exclusive at first, not while shared; the zero page is nobody's."""
    assert agent.sees == EVERYTHING
    record = agent.run(
        parse("A: mmap w+0 2 rw\nA: write w+0\nA: read w+1\nA: fork B\nB: write w+0\nB: exit\nA: write w+0")
    )
    assert pages(record, at=2) == ["w+0 frame a x1 exclusive #2", "w+1 zero page 0"]
    assert pages(record, "B", 3) == ["w+0 frame a x2 #2", "w+1 zero page 0"]
    assert pages(record, "B", 4) == ["w+0 frame b copied x1 exclusive #5", "w+1 zero page 0"]
    assert pages(record, at=5) == ["w+0 frame a x1 #2", "w+1 zero page 0"]  # mapped once, and not yet exclusive again
    assert pages(record, at=6) == ["w+0 frame a x1 exclusive #7", "w+1 zero page 0"]  # reused, not copied


def test_page_tables_are_the_script_s_own(agent: Agent) -> None:
    """Three for the first page of the window (x86-64, four levels, less the top one), one more 2 MiB on; as many in children."""
    record = agent.run(
        parse(
            "A: mmap w+0 1024 rw\nA: write w+0\nA: write w+511\nA: write w+512\nA: fork B\nB: fork C\nC: munmap w+512 512"
        )
    )
    tables = [{name: state.tables for name, state in world.items()} for world in record.worlds]
    assert tables == [
        {"A": 0},
        {"A": 3},
        {"A": 3},
        {"A": 4},
        {"A": 4, "B": 4},
        {"A": 4, "B": 4, "C": 4},
        {"A": 4, "B": 4, "C": 3},
    ]


def test_addresses_that_the_kernel_chooses_are_told_from_m(agent: Agent) -> None:
    """The first mapping ends at m; what is moved by mremap goes there as well."""
    record = agent.run(
        parse("A: mmap any 4 rw\nA: mmap w+0 1 rw\nA: mmap w+1 1 r\nA: mremap w+0 1 2 MAYMOVE\nA: write m-4")
    )
    assert record.results == ["m-4", "w+0", "w+1", "m-6", "ok"]


def test_the_heap_begins_at_h(agent: Agent) -> None:
    """With nothing below it that it could merge with."""
    record = agent.run(parse("A: brk h+2\nA: write h+1\nA: brk h+1\nA: brk h+0"))
    assert record.results == ["h+2", "ok", "h+1", "h+0"]
    assert vmas(record, at=1) == ["h+0..h+2 rw-"]
    assert vmas(record) == []


def test_vfork_clone_and_exec(agent: Agent) -> None:
    """A vfork child and a clone with CLONE_VM live in their parent's memory; exec leaves it."""
    record = agent.run(parse("""
        A: mmap w+0 2 rw
        A: vfork B
        B: write w+0
        B: exec
        A: read w+0
        B: mmap w+0 1 r
        A: clone C VM
        C: write w+1
        A: read w+1
        A: exec
        C: read w+0 2"""))  # fmt: skip
    assert record.results[4:] == ["#3", "w+0", "ok", "ok", "#8", "ok", "#3 #8"]
    assert (vmas(record, "A"), vmas(record, "B"), vmas(record, "C")) == ([], ["w+0..w+1 r--"], ["w+0..w+2 rw-"])


def test_orphans_go_on(agent: Agent) -> None:
    """A parent's exit does not end its children, and a script's end ends them all."""
    record = agent.run(
        parse("A: mmap w+0 1 rw\nA: write w+0\nA: fork B\nB: fork C\nA: exit\nB: exit\nC: read w+0\nC: write w+0")
    )
    assert record.results[-2:] == ["#2", "ok"]
    assert group(agent.pid) == [agent.pid]


def test_limits_and_capabilities(agent: Agent) -> None:
    """RLIMIT_AS counts from what the agent itself has; RLIMIT_MEMLOCK binds whoever has not CAP_IPC_LOCK."""
    record = agent.run(parse("A: limit AS 4\nA: mmap w+0 4 rw\nA: mmap w+8 1 rw\nA: limit AS 100\nA: mmap w+8 1 rw"))
    assert record.results == ["ok", "w+0", "ENOMEM", "ok", "w+8"]
    record = agent.run(parse("A: drop IPC_LOCK\nA: limit MEMLOCK 2\nA: mmap w+0 4 rw\nA: mlock w+0 2\nA: mlock w+0 3"))
    assert record.results[-2:] == ["ok", "ENOMEM"]


def test_a_users_processes_are_counted_from_what_it_has(agent: Agent) -> None:
    """Root is not bound; who is, finds as many as the script says, beside all others of his."""
    script = parse("A: limit NPROC 2\nA: fork B\nA: fork C\nB: exit\nA: wait\nA: fork D")
    unbound = agent.circumstances.privileged
    assert agent.run(script).results == ["ok", "ok", "ok" if unbound else "EAGAIN", "ok", "B 0", "ok"]
    if not unbound:
        assert tasks_of_others(script, agent.pid) >= 2  # this one, and the supervisor


def test_a_user_that_root_has_become_is_counted_too(agent: Agent) -> None:
    """Nobody has two tasks, one more than NPROC allows: the next exec fails, and works when they are gone."""
    if not agent.circumstances.privileged:
        pytest.skip("setuid takes root")
    lines = ["A: fork B", "B: setuid 65534", "A: fork C", "C: setuid 65534", "A: limit NPROC 1", "A: setuid 65534"]
    script = parse("\n".join([*lines, "A: fork D", "A: exec", "B: exit", "C: exit", "A: wait", "A: wait", "A: exec"]))
    found, expected = agent.run(script).results, obey(script, "6.18").results
    assert found[5:8] == ["ok", "EAGAIN", "EAGAIN"]
    assert found[-1] == "ok"
    assert found == expected


@pytest.mark.parametrize(
    "line",
    [
        "mmap 0x10000 1 rw",
        "munmap 0x200000 1000",  # the ring
        "read 0x400000",
        "write h-1",
        "brk h-1",
        "munmap m+0 1",
        "madvise w+0 9000000000 DONTNEED",  # up to the stack
        "mmap 0x7ffffffde000 1 rw",
        "mremap w+0 1 1 MAYMOVE|FIXED 0x200000",
    ],
)
def test_the_agents_own_memory_is_refused(agent: Agent, line: str) -> None:
    """In one line, before anything runs: it is not compared, and without it a worker dies."""
    with pytest.raises(
        HostTrouble, match=r"x:2: .* reaches memory that the host's agent has for itself: give addresses"
    ) as caught:
        agent.run(parse(f"A: mmap w+0 1 rw\nA: {line}", "x"))
    assert "\n" not in str(caught.value)
    assert agent.run(parse("A: mmap w+0 1 rw")).results == ["w+0"]


def test_absolute_addresses_elsewhere_are_the_scripts(agent: Agent) -> None:
    """Above the heap, and where user space ends."""
    record = agent.run(parse("""
        A: mmap w+0 1 rw
        A: mmap 0x20000000000 1 rw
        A: write 0x20000000000
        A: mmap 0x7ffffffff000 1 rw"""))  # fmt: skip
    assert record.results == ["w+0", "0x20000000000", "ok", "ENOMEM"]
    assert compare(record, obey(record.script, "6.18", record.around)) is None


def test_scripts_do_not_see_each_other(agent: Agent) -> None:
    """The same script gives the same record, also when others are submitted ahead of their results."""
    scripts = [parse(f"A: mmap w+0 {n} rw\nA: write w+0 {n}\nA: fork B\nB: read w+0 {n}") for n in (1, 2, 3, 2, 1)]
    for script in scripts:
        agent.submit(script)
    ahead = [agent.result() for _ in scripts]
    assert [record.results for record in ahead] == [agent.run(script).results for script in scripts]
    assert ahead[0].results == ahead[4].results
    assert ahead[1].results != ahead[0].results


def test_many_mappings_are_all_seen(agent: Agent) -> None:
    """A thousand VMAs, and a thousand pages of a mapping beside them: nothing is cut."""
    lines = [
        "A: mmap w+0 2000 rw",
        *(f"A: mprotect w+{page} 1 r" for page in range(1, 2000, 2)),
        "A: mmap w+3000 1500 rw POPULATE",
    ]
    record = agent.run(parse("\n".join(lines)))
    assert len(vmas(record)) == 2001
    assert len(record.worlds[-1]["A"].pages) == 1500


def test_the_agent_compiles_without_a_warning(tmp_path: Path) -> None:
    """With all that the compiler has."""
    source = Path(sys.modules["rmaplab.host.agent"].__file__ or "").with_name("agent.c")
    options = [option for option in OPTIONS if option != "-w"]
    compile_c(source.read_bytes(), "agent.c", tmp_path / "agent", [*options, "-Wall", "-Wextra", "-Werror"])


# -- what goes wrong ------------------------------------------------------------------------------------------------------


def test_a_process_that_dies_is_said_and_the_next_script_runs() -> None:
    """Killed from outside, in the middle of a script."""
    with Agent() as agent:
        lines = ["A: mmap w+0 4096 rw", "A: fork B", *["B: write w+0 4096", "B: madvise w+0 4096 DONTNEED"] * 100]
        agent.submit(parse("\n".join(lines), "x"))
        victims = list[int]()
        while len(victims) < 2:
            victims = [pid for pid in group(agent.pid) if pid != agent.pid]
        os.kill(max(victims), signal.SIGKILL)
        with pytest.raises(HostTrouble, match=r"^x:\d+: the host's process B was killed by SIGKILL in (write|madvise)"):
            agent.result()
        assert agent.run(parse("A: mmap w+0 1 rw\nA: write w+0")).results == ["w+0", "ok"]
        assert group(agent.pid) == [agent.pid]


def test_nothing_is_left_when_the_agent_is_killed() -> None:
    """Its workers notice within a second or so, and who waits for results is told."""
    with Agent() as agent:
        agent.submit(parse("\n".join(["A: mmap w+0 1 rw", "A: fork B", "B: fork C", *["C: write w+0"] * 400])))
        while len(group(agent.pid)) < 4:
            pass
        os.kill(agent.pid, signal.SIGSTOP)
        workers = [pid for pid in group(agent.pid) if pid != agent.pid]
        os.kill(agent.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        with pytest.raises(HostTrouble, match="the agent on the host was killed by SIGKILL"):
            agent.result()
        with pytest.raises(HostTrouble, match="the agent on the host was killed by SIGKILL"):
            agent.submit(parse("A: wait"))
    assert group(agent.pid) == []


def test_nothing_is_left_when_python_is_killed() -> None:
    """Not even by kill -9 in the middle of a script."""
    code = """
import sys
from rmaplab.host.agent import Agent
from rmaplab.workloads.script import parse
agent = Agent()
agent.submit(parse("A: mmap w+0 1 rw\\nA: fork B\\nB: fork C"))
record = agent.result()
agent._process.stdin.write(bytes(3)); agent._process.stdin.flush()
print(agent.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as python:
        assert python.stdout is not None
        pid = int(python.stdout.readline())
        assert pid in group(pid)
        python.kill()
    deadline = time.monotonic() + 10
    while group(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert group(pid) == []


FILTER = """
import ctypes, struct, sys
from rmaplab.host import agent as module
from rmaplab.workloads.script import parse
NR, ACTION = 325, int(sys.argv[1], 16)  # mlock2
code = [(0x20, 0, 0, 0), (0x15, 0, 1, NR), (6, 0, 0, ACTION), (6, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("<HBBI", *line) for line in code)
libc = ctypes.CDLL(None, use_errno=True)
class Fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
buffer = ctypes.create_string_buffer(program)
fprog = Fprog(len(code), ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(fprog), 0, 0) == 0
with module.Agent() as agent:
    print(agent.missing)
    print(agent.run(parse("A: mmap w+0 1 rw\\nA: mlock w+0 1")).results)
    try:
        agent.run(parse("A: mmap w+0 1 rw\\nA: mlock2 w+0 1", "x"))
    except module.HostTrouble as trouble:
        print(trouble)
"""


@pytest.mark.parametrize(
    ("action", "how"),
    [
        ("0x00050001", "EPERM"),
        ("0x00050026", "ENOSYS"),
        ("0x00030000", "SIGSYS"),
        ("0x80000000", "it kills the process"),
    ],
)
def test_a_call_that_seccomp_refuses_is_named(action: str, how: str) -> None:
    """Whether the filter returns an errno, sends SIGSYS or kills; the other calls work."""
    python = subprocess.run(
        [sys.executable, "-c", FILTER, action], capture_output=True, text=True, timeout=60, check=True
    )
    missing, results, trouble = python.stdout.splitlines()
    named = {call: why for call, why in ast.literal_eval(missing).items() if not CALLS[call].option}
    assert named == {"mlock2": how}
    assert results == "['w+0', 'ok']"
    assert trouble == f"x:2: this host refuses mlock2 ({how}): leave it out"


@needs_root
def test_an_ordinary_user_sees_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layout, contents and page tables, but no frames; the same results."""
    with tempfile.TemporaryDirectory() as directory:
        for path in (Path(directory), Path(directory) / "rmaplab"):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        monkeypatch.setenv("XDG_CACHE_HOME", directory)
        Agent().close()  # compiled by root
        nobody = partial(subprocess.Popen, user=65534, group=65534, extra_groups=[])
        monkeypatch.setattr(subprocess, "Popen", nobody)
        with Agent() as agent:
            assert agent.sees == EVERYTHING - {"frames", "mapcounts", "exclusive"}
            assert not agent.circumstances.privileged
            record = agent.run(
                parse("A: mmap w+0 2 rw\nA: write w+1\nA: fork B\nB: write w+1\nA: limit MEMLOCK 1\nA: mlock w+0 2")
            )
            assert record.results == ["w+0", "ok", "ok", "ok", "ok", "ENOMEM"]
            assert pages(record, "B", 3) == ["w+1 #4"]


def test_no_compiler_and_no_linux_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, with the way out."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(
        UsageError,
        match=r"no C compiler is installed: install gcc, or compare with recorded results \(--against FILE\)",
    ):
        Agent()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Darwin", "x", "24", "1", "arm64")))
    with pytest.raises(UsageError, match="needs Linux on x86-64"):
        Agent()
