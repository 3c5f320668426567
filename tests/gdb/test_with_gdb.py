"""Debian's gdb, in batch mode, on programs and workloads: what it prints is what a user would see."""

from __future__ import annotations

import os
import random
import re
import signal

import pytest
from tests.cpu.programs import compiled, ran, root
from tests.gdb.world import Client, Gdb, beside

import rmaplab
from rmaplab.cpu.userland import Bounds
from rmaplab.gdb import probes
from rmaplab.gdb.session import Session
from rmaplab.kernels.box import Box
from rmaplab.lab.programs.executed import Asked, Executed, execute

SOURCE = r"""
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
char *page;
volatile int counter;
double half = 0.5;
int touch(int v) { page[0] = v; return page[0]; }
int main(void)
{
	int status;
	page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	strcpy(page, "hello");
	if (!fork()) {
		sleep(1);
		_exit(page[0]);
	}
	touch('j');
	for (int i = 0; i < 5; i++)
		counter += i;
	half *= 3;
	wait(&status);
	printf("%d %d %.1f\n", counter, WEXITSTATUS(status), half);
	return 3;
}
"""
SIGNALS = r"""
#include <signal.h>
#include <stdio.h>
void came(int number) { printf("%d ", number); }
void here(void) { }
int main(void)
{
	setbuf(stdout, 0);
	for (int i = 1; i <= 64; i++)
		signal(i, came);
	for (;;)
		here();
}
"""
NOT_RUN = "int f(int v)\n{\n\tint r = v + 1;\n\treturn r;\n}\nint main(void)\n{\n\treturn f(6);\n}\n"
KINDS = [("2.6.5-rc1-aa1", 64, "x86-64"), ("2.6.5-rc1-aa1", 32, "i386-pae"), ("6.18", 64, "x86-64")]
each_kind = pytest.mark.parametrize(("kernel", "bits", "paging"), KINDS, ids=str)


def debugged(kernel: str, bits: int, paging: str, *commands: str) -> tuple[Gdb, Executed, str]:
    """The program with these commands: gdb, what came of it, what it has printed."""
    program = compiled(SOURCE, f"-m{bits}", "-g", name=f"debugged{bits}")
    gdb = Gdb(*commands, program=str(root() / program[1:]))
    sessions = list[Session]()
    done, printed = ran(
        kernel, program, paging=paging, watch=lambda system, _: sessions.append(beside(system, gdb, "task"))
    )
    sessions[0].end(done.status or 0)
    assert probes.nr_probed() == 0
    return gdb, done, printed.decode()


@each_kind
def test_a_program(kernel: str, bits: int, paging: str) -> None:
    """It stands at its first instruction; breakpoints, a backtrace, registers, variables and threads are the program's; it ends as it would have."""
    gdb, done, printed = debugged(
        kernel, bits, paging,
        "info threads", "break touch", "continue", "bt", "print page", "print half", "info registers", "print $sp", "info threads",
        "p $st0", "p $mxcsr", "finish", "next", "tbreak wait", "continue", "set var counter = 110", "thread 2", "bt 1", "x/s page", "thread 1",
        "delete", "continue",
    )  # fmt: skip
    said = gdb.said()
    assert "in _start ()" in said
    assert re.search(r'\* 1 +Thread 1 "debugged\d\d" \(on CPU \d\)', said)
    assert "hit Breakpoint 1, touch (v=" in said
    assert re.search(r"#1 .* in main \(\)", said)
    assert re.search(r'\$1 = 0x[0-9a-f]+ "hello"', said)
    assert "$2 = 0.5" in said
    assert re.search(r"(rip|eip) +0x[0-9a-f]+ +0x[0-9a-f]+ <touch", said)
    assert re.search(r'  2 +Thread 2 "debugged\d\d" \((sleeps|waits for CPU \d|on CPU \d)\)', said)
    assert "Value returned is" in said
    assert re.search(r"\[Switching to thread 2 .*\].*0x[0-9a-f]+:\t\"hello\"", said, re.DOTALL)
    assert "exited with code 03" in said
    assert (done.outcome, done.status, printed) == ("ok", 3, "110 104 1.5\n")
    assert "Cannot" not in said.replace("Cannot access memory", "", 8)


@each_kind
def test_a_cow_fault_is_stepped_over(kernel: str, bits: int, paging: str) -> None:
    """One instruction: before it two tasks map the page, after it each has its own. `monitor rmap` is checked against the page tables each time."""
    asks = 'eval "monitor rmap %p", page'
    gdb, _, printed = debugged(
        kernel, bits, paging, "break touch", "continue", asks, "while page[0] == 'h'\nstepi\nend", "x/i $pc", asks, 'eval "monitor pte %p", page', "delete", "continue"
    )  # fmt: skip
    said = gdb.said()
    first, second = (part.split("entry flags")[0] for part in said.split("owner: ")[1:3])
    assert [len(re.findall(r"^pid \d", part, re.MULTILINE)) for part in (first, second)] == [2, 1]
    assert '"hello"' in first
    assert '"jello"' in second
    assert said.count("as in the page tables") == 2
    assert re.search(r"frame \d+: present, writable, user, accessed, dirty", said)
    assert printed == "10 104 1.5\n"


@each_kind
def test_a_watchpoint(kernel: str, bits: int, paging: str) -> None:
    """A write, a read and either, by their values; each at the instruction after, and nothing else stops it."""
    gdb, _, printed = debugged(
        kernel, bits, paging, "break main", "continue", "watch counter", "continue", "continue", "continue", "delete", "rwatch half", "continue",
        "delete", "awatch half", "continue", "delete", "continue",
    )  # fmt: skip
    said = gdb.said()
    assert re.findall(r"(Old|New) value = (\d+)\n", said)[:6] == [
        ("Old", "0"), ("New", "1"), ("Old", "1"), ("New", "3"), ("Old", "3"), ("New", "6")
    ]  # fmt: skip
    assert re.search(r"hit Hardware read watchpoint 3: half\n\nValue = 0.5", said)
    assert re.search(
        r"hit Hardware access \(read/write\) watchpoint 4: half\n\n(Old value = 0.5\nNew|)[ ]?[vV]alue = 1.5", said
    )
    assert printed == "10 104 1.5\n"


def test_a_breakpoint_at_reclaim() -> None:
    """A workload that has no registers: kswapd is a thread, the page is looked at, and then gdb detaches."""
    gdb = Gdb(
        "info threads", "monitor break shrink_zone", "continue", "info threads", "bt", "monitor tasks", "monitor delete shrink_zone",
        "monitor break try_to_unmap", "continue", "stepi", "monitor ledger", "detach",
    )  # fmt: skip
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="24M", swap="32M", boot_use="2M", reclaim=True)
    system.spawn(lambda task: task.touch(task.mmap("28M"), "28M", write=True))
    session = beside(system, gdb, "hog")
    system.run()
    session.end(0)
    said = gdb.said()
    assert "at shrink_zone(zone " in said
    assert re.search(r'Thread 4194304 "kswapd0" \((on CPU|waits|sleeps)', said)
    assert "at try_to_unmap(walk of page " in said
    assert "comes to page_table_lock" in said
    assert re.search(r"hog +(on CPU|waits|sleeps)", said)
    assert re.search(r"pgscan +\d", said)
    assert "detached" in said
    assert gdb.lines[-1] == "gdb has detached: the run goes on"
    assert system.machine.ledger.counts["pswpout"]
    system.check()


@each_kind
def test_a_breakpoint_in_code_that_has_not_run(kernel: str, bits: int, paging: str) -> None:
    """The first instructions of a function tell gdb from where on its arguments are in their places: also before any of its page has been touched."""
    program = compiled(NOT_RUN, f"-m{bits}", "-g", "-O0", name=f"notrun{bits}")
    gdb = Gdb("break f", "continue", "print v", "print $sp", "continue", program=str(root() / program[1:]))
    sessions = list[Session]()
    done, _ = ran(kernel, program, paging=paging, watch=lambda system, _: sessions.append(beside(system, gdb)))
    sessions[0].end(done.status or 0)
    said = gdb.said()
    assert "Breakpoint 1, f (v=6) at" in said
    assert "$1 = 6" in said


@each_kind
def test_a_function_is_called(kernel: str, bits: int, paging: str) -> None:
    """It returns to a breakpoint that gdb has put on the stack, where nothing may be executed: that is a stop, and no SIGSEGV."""
    gdb, _, printed = debugged(
        kernel, bits, paging, "tbreak touch", "continue", "print touch('k')", "print page", "continue"
    )
    said = gdb.said()
    assert "$1 = 107" in said
    assert re.search(r'\$2 = 0x[0-9a-f]+ "kello"', said)
    assert "exited with code 03" in said
    assert printed == "10 104 1.5\n"


def test_a_jump_to_a_breakpoint() -> None:
    """It stops there before it has done anything, as it does when it comes there by itself."""
    gdb, _, _ = debugged(*KINDS[0], "tbreak main", "continue", "break *touch", "jump *touch", "print $pc", "kill")
    assert "Breakpoint 2, touch" in gdb.said()


def test_signals_by_name() -> None:
    """Signals have numbers of their own in the protocol: what is asked for by name is what comes, whether handled or not."""
    names = (
        "SIGHUP",
        "SIGBUS",
        "SIGSYS",
        "SIGUSR1",
        "SIGUSR2",
        "SIGCHLD",
        "SIGCONT",
        "SIGURG",
        "SIGPWR",
        "SIG34",
        "SIG64",
    )
    program = compiled(SIGNALS, "-g", "-O0", name="named")
    asked = (f"signal {name}" for name in names)
    gdb = Gdb("break here", "continue", *asked, "signal SIGEMT", "signal SIGKILL", program=str(root() / program[1:]))
    sessions = list[Session]()
    done, printed = ran("2.6.7", program, watch=lambda system, _: sessions.append(beside(system, gdb)))
    sessions[0].end(done.status or 0)
    gdb.said()
    wanted = [signal.SIGRTMIN - 34 + int(name[3:]) if name[3:].isdigit() else signal.Signals[name] for name in names]
    assert [int(number) for number in printed.split()] == wanted
    assert done.outcome == "SIGKILL"


def test_a_name_that_a_terminal_would_obey() -> None:
    """Of a program's file: no byte of it comes out of `monitor` or `info threads` as it is."""
    program = compiled("int main(void) { return 0; }", name="a\x1b[31m\x01")
    gdb = Gdb("monitor vmas", "monitor tasks", "info threads", "detach")
    sessions = list[Session]()
    ran("2.6.7", program, watch=lambda system, _: sessions.append(beside(system, gdb)))
    sessions[0].end(0)
    said = gdb.said()
    assert said.count(r"a\x1b[31m\x01") >= 3
    assert not {"\x1b", "\x01"} & set(said)


def test_ctrl_c_while_a_program_waits_for_the_host() -> None:
    """read(2) of a pipe that nobody writes to: the machine stands still, and gdb is heard all the same."""
    waits = compiled(
        "#include <unistd.h>\nint main(void) { char c; return read(0, &c, 1) == 1 ? c : 99; }", name="waits"
    )
    reading, writing = os.pipe()

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        gdb.send(b"c")
        gdb.raw(b"\x03")
        assert gdb.receive().startswith(b"T02thread:1;")
        gdb.send(b"c")
        os.write(writing, b"\x07")
        assert gdb.receive() == b"W07"

    sessions, client = list[Session](), Client(talk)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        asked = Asked((waits.encode(),), (b"PATH=/bin",), root=str(root()))
        box = Box(ram="256M", paging="x86-64", reclaim=None)
        streams = reading, nowhere.fileno(), nowhere.fileno()
        done = execute("2.6.7", box, asked, streams, lambda system, _: sessions.append(beside(system, client)))
    sessions[0].end(done.status or 0)
    client.join()
    os.close(reading)
    os.close(writing)
    assert done.status == 7


def test_kill() -> None:
    """The program ends there, and nothing is left behind."""
    gdb, done, printed = debugged(*KINDS[0], "break touch", "continue", "kill")
    assert (done.status, done.outcome, done.why, printed) == (None, "ended", "gdb has killed it", "")
    assert "[Inferior 1 (Remote target) killed]" in gdb.said()


@pytest.mark.parametrize("last", ["detach", "kill -9"])
def test_what_is_stepped_is_not_changed(last: str) -> None:
    """Counts of a program that was looked at, stepped and left are those of one that was not, but for time; a client that vanishes is one that leaves."""

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        for _ in range(300):
            assert gdb.ask(b"vCont;s").startswith(b"T05")
        gdb.ask(b"g")
        if last == "detach":
            gdb.ask(b"D")

    program = compiled(SOURCE, "-g", name="debugged64")
    sessions, client = list[Session](), Client(talk)
    done, printed = ran(
        "2.6.5-rc1-aa1", program, watch=lambda system, _: sessions.append(beside(system, client, "task"))
    )
    sessions[0].end(0)
    client.join()
    alone, before = ran("2.6.5-rc1-aa1", program)
    assert printed == before == b"10 104 1.5\n"
    assert done.ledger | {"disk_request": 0} == alone.ledger | {"disk_request": 0}  # requests meet when time is short
    assert done.peak == alone.peak


def test_where_a_signal_comes_from() -> None:
    """A program that crashes is seen before it does, by a probe at force_sig_info."""
    crash = compiled("int main(void) { *(volatile int *)16 = 1; return 0; }", "-g", name="crash")
    gdb = Gdb("monitor break force_sig_info", "continue", "bt", "x/i $pc", "continue", program=str(root() / crash[1:]))
    sessions = list[Session]()
    done, _ = ran("2.6.7", crash, watch=lambda system, _: sessions.append(beside(system, gdb)))
    sessions[0].end(done.status or 0)
    said = gdb.said()
    assert re.search(r"#0 +0x[0-9a-f]+ in main|#0 +main \(\)", said)
    assert re.search(r"=> 0x[0-9a-f]+ <main.*:\tmov", said)
    assert done.outcome == "SIGSEGV"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kernel", "bits", "paging"), KINDS[:2], ids=str)
def test_random_words_to_a_program(kernel: str, bits: int, paging: str, seed: int) -> None:
    """Registers and memory with anything in them, breakpoints and watchpoints anywhere: what comes of the program is its own affair, and never an error of ours."""
    draw = random.Random(seed)

    def talk(gdb: Client) -> None:
        nr_bytes = len(gdb.ask(b"g")) // 2
        for _ in range(150):
            word = draw.choice([0, 1, 8, 0x401000, 0x8049000, draw.getrandbits(31), draw.getrandbits(bits)])
            packet = draw.choice([
                b"G" + draw.randbytes(nr_bytes).hex().encode(), b"P%x=" % draw.randrange(60) + draw.randbytes(draw.choice((4, 8, 10, 16))).hex().encode(),
                b"M%x,4:" % word + draw.randbytes(4).hex().encode(), b"Z%x,%x,4" % (draw.randrange(5), word), b"z%x,%x,4" % (draw.randrange(5), word),
                b"m%x,100" % word, b"vCont;s", b"vCont;s", b"vCont;c", b"vCont;r%x,%x" % (word, word + 64), b"C0b", b"qXfer:auxv:read::0,400", b"qXfer:exec-file:read::0,400",
            ])  # fmt: skip
            if gdb.ask(packet)[:1] in (b"W", b""):
                return
        gdb.send(b"k")

    program = compiled(SOURCE, f"-m{bits}", "-g", name=f"debugged{bits}")
    sessions, client = list[Session](), Client(talk)
    done, _ = ran(
        kernel,
        program,
        paging=paging,
        bounds=Bounds(blocks=3_000_000, simulated_s=100),
        watch=lambda system, _: sessions.append(beside(system, client)),
    )
    sessions[0].end(done.status or 0)
    client.join()
    assert probes.nr_probed() == 0
    assert done.outcome
