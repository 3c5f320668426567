"""Probes: small C programs (probes/) about one subject each. Compiled static, they say the same on this machine's kernel and on the simulated 6.18."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.cpu.programs import compiled, ran, root

PROBES = Path(__file__).with_name("probes")
GROUPS = {
    "memory": ("cow", "mremap", "mlock", "growsdown", "madvise", "mapfixed", "brk"),
    "shared memory": ("sigbus", "shared", "truncate", "msync", "shm", "memfd"),
    "signals": ("sigsegv", "sigaltstack", "sigmask", "restart", "alarms"),
    "processes": ("vfork", "threads", "execve", "auxv", "waits", "limits"),
    "waiting": ("futex", "pipes", "polls", "calls"),
    "code": ("code", "fpu"),
}

OF_2004 = {
    # [stack_guard_gap] of 4.12 is what a neighbour keeps away from
    "growsdown": {"refused at page 44, neighbour n": "refused at page 301, neighbour n"},
    # a copy of a private mapping by an old length of 0 was allowed until 4.14
    "mremap": {"of a private one: EINVAL": "of a private one: ok"},
    # CAP_IPC_LOCK it was, until 2.6.9 made RLIMIT_MEMLOCK everybody's; then mlockall asks for the limit before the right;
    # failures of the faults themselves were nobody's concern
    "mlock": {
        "within: ok": "within: EPERM",
        "again: ok": "again: EPERM",
        "one more: ENOMEM": "one more: EPERM",
        "then: ok": "then: EPERM",
        "MAP_LOCKED: EAGAIN": "MAP_LOCKED: EPERM",
        "given back with the memory: ok": "given back with the memory: EPERM",
        "munlockall ok": "munlockall EPERM",
        "after that: ok": "after that: EPERM",
        "future: ok": "future: ENOMEM",
        "large: EAGAIN": "large: ok",
        "limit 0: EPERM": "limit 0: ENOMEM",
        "wraps: ENOMEM": "wraps: EINVAL",
        "no rights: ENOMEM": "no rights: ok",
    },
    # advice that came later: FREE 4.5, DONTFORK and REMOVE 2.6.16, WIPEONFORK 4.14; of memory there was nothing to be read ahead (EBADF)
    "madvise": {
        "FREE: ok": "FREE: EINVAL",
        "DONTFORK: ok, WIPEONFORK: ok": "DONTFORK: EINVAL, WIPEONFORK: EINVAL",
        "not for children: signal 11, wiped: 0": "not for children: read, wiped: 111",
        "DOFORK: ok, KEEPONFORK: ok": "DOFORK: EINVAL, KEEPONFORK: EINVAL",
        "WILLNEED: ok, of a file: ok": "WILLNEED: EBADF, of a file: ok",
        "REMOVE of shared: ok, 115": "REMOVE of shared: EINVAL, 115",
    },
    # MAP_FIXED_NOREPLACE is of 4.17; a mapping of nothing was no error; user memory ends at 3 GiB, on the host at 4
    "mapfixed": {
        "where something is, not to be replaced: EEXIST": "where something is, not to be replaced: ok",
        "too long for the hole: EEXIST": "too long for the hole: ok",
        "length 0: EINVAL": "length 0: ok",
        "much too long: ENOMEM": "much too long: EINVAL",
        "above all: ok": "above all: ENOMEM",
        "munmap above all: ok": "munmap above all: EINVAL",
    },
    # mincore knew files only
    "msync": {
        "nothing yet: 00000000": "nothing yet: ENOMEM",
        "two written: 01000100": "two written: ENOMEM",
        "one thrown away: 00000100": "one thrown away: ENOMEM",
        "up to it: 00": "up to it: ENOMEM",
        "length 0: ok, nowhere: EFAULT": "length 0: ok, nowhere: ENOMEM",
    },
    # the CPU of i386 page tables does not tell fetches, and runs what can be read; the kernel's own half is at 3 GiB
    "sigsegv": {
        "signal 11 code 1 at elsewhere+0 trap 14 error 6": "signal 11 code 1 at elsewhere+0 trap 14 error 7",
        "signal 11 code 2 at pc+0 trap 14 error 21": "",
        "signal 11 code 1 at pc+0 trap 14 error 20": "signal 11 code 1 at pc+0 trap 14 error 4",
        "seen 14": "seen 13",
    },
    # a kernel of 64 bits leaves 8 bytes at the end of the stack
    "auxv": {"the end of the stack is behind it: 0": "the end of the stack is behind it: 1"},
    # RLIMIT_DATA was the heap's until 4.7
    "limits": {"private: ENOMEM": "private: ok"},
}
"""Of a 32-bit program: what this machine says, and what is said on the kernels of 2004 instead ("": nothing)."""


def built(name: str, *options: str) -> str:
    """A probe: "./NAME", from the directory of programs."""
    source = (PROBES / f"{name}.c").read_text()
    return "." + compiled(source, f"-I{PROBES}", "-pthread", *options, name="-".join((name, *options)))


def commands(names: tuple[str, ...], *options: str) -> list[str]:
    """Probes, one after the other."""
    return [built(name, *options) for name in ("runner", *names)]


def on_the_host(words: list[str]) -> str:
    """What this machine makes of it."""
    environment = {"PATH": "/bin:/usr/bin"}
    done = subprocess.run(words, cwd=root(), env=environment, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs are for x86")
@pytest.mark.parametrize("group", GROUPS)
def test_6_18_and_the_host_say_the_same(group: str) -> None:
    """Word for word; nothing that a probe calls is unknown, and each ends well."""
    words = commands(GROUPS[group])
    done, output = ran("6.18", *words)
    assert output.decode() == on_the_host(words)
    assert (done.status, done.outcome) == (0, "ok")
    assert done.unknown_calls.keys() <= {"call 9999"}
    assert output.count(b"\nexit 0\n") >= len(GROUPS[group])


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs are for x86")
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kernel", ["2.6.7", "2.6.5-rc1-aa1"])
def test_32_bits_in_2004(kernel: str, group: str) -> None:
    """The same programs, compiled for i386: what differs from this machine is the era's, line by line."""
    words = commands(tuple(name for name in GROUPS[group] if name != "memfd"), "-m32")
    done, output = ran(kernel, *words, paging="i386-pae")
    assert output.decode() == as_of_2004(on_the_host(words))
    assert (done.status, done.outcome) == (0, "ok")


def as_of_2004(text: str) -> str:
    """What this machine has said, in the words of 2004."""
    lines, name = list[str](), ""
    for line in text.splitlines():
        if line.startswith("== "):
            name = line[5:].split("-")[0]
        said = OF_2004.get(name, {}).get(line, line)
        lines += [f"{said}\n"] if said else []
    return "".join(lines)


def test_every_probe_is_run() -> None:
    """None lies about."""
    assert {"runner", *(name for names in GROUPS.values() for name in names)} == {
        path.stem for path in PROBES.glob("*.c")
    }
