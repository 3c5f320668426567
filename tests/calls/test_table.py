"""One table of calls: all who make calls, write them down or choose among them know exactly these; a row is all that a call needs."""

from __future__ import annotations

import ast
import os
import re
import shutil
from itertools import combinations
from pathlib import Path

import pytest

import rmaplab
from rmaplab.calls.table import BIRTHS, CALLS, RANGE, REQUIRED, Call, Returns
from rmaplab.calls.task import Task
from rmaplab.calls.words import FlagsKind, NewNameKind, ProtKind
from rmaplab.host.agent import Agent
from rmaplab.host.wire import KINDS
from rmaplab.lab.conformance.operations import LOCKING
from rmaplab.lab.differential.compare import compare
from rmaplab.lab.differential.fuzz import _Maker, make_script
from rmaplab.lab.differential.obey import Obedient, obey
from rmaplab.objects import flags
from rmaplab.objects.flags import VM_LOCKED
from rmaplab.workloads.script import parse

SOURCE = Path(rmaplab.__file__).parent
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
LINUX_NAMES = {
    "exec": "execve",
    "wait": "wait4",
    "limit": "setrlimit",
    "drop": "capset",
    "dup": "dup2",
    "seal": "fcntl",
    "seals": "fcntl",
    "copy_from_user": "pwrite64",
    "thread": "clone",
    "name": "prctl",
    "copy_to_user": "pread64",
}
NEWEST_EVERYWHERE = 434  # pidfd_open, 5.3
REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
here = (
    os.uname().machine == "x86_64" and os.uname().sysname == "Linux" and bool(shutil.which("cc") or shutil.which("gcc"))
)
needs_agent = pytest.mark.skipif(not REQUIRE_ALL and not here, reason="no C compiler, or not Linux on x86-64")


def test_who_treats_a_call_in_his_own_way_names_one_of_the_table() -> None:
    """The model, the agent, the maker of random scripts, the conformance kit."""
    for own in (Obedient._own, KINDS, _Maker.own, LOCKING):
        assert set(own) <= set(CALLS)
    assert set(LOCKING) == {"mlock", "mlock2", "munlock"}


def test_all_other_calls_are_their_name_and_their_arguments() -> None:
    """The agent has a number for them, the maker a value for each argument, and the births are those that make a child."""
    for name, call in CALLS.items():
        assert name == call.name
        if name not in KINDS and not call.not_on_host:
            assert call.number is not None, name
        if name not in _Maker.own:
            own = call.arguments[2:] if call.arguments[:2] == RANGE else call.arguments
            assert all(argument.tried for argument in own), name
        defaults = [argument.default is REQUIRED for argument in call.arguments]
        assert defaults == sorted(defaults, reverse=True), name
        makes_child = any(isinstance(argument.kind, NewNameKind) for argument in call.arguments)
        assert makes_child == (name in BIRTHS) == (call.returns is Returns.CHILD)


def test_what_is_harmless_can_be_written() -> None:
    """It is the rest of a script's line."""
    for name, call in CALLS.items():
        if call.harmless is not None:
            assert parse(f"A: {name} {call.harmless}").ops[0].call == name


@pytest.mark.skipif(not REQUIRE_ALL and not HEADER.exists(), reason="no kernel headers for x86-64")
def test_numbers_are_linux_s() -> None:
    """asm/unistd_64.h, as the C library has it."""
    numbers = {name: int(nr) for name, nr in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    for name, call in CALLS.items():
        if call.number is not None:  # a C library's headers may be older than the newest calls
            told = numbers.get(LINUX_NAMES.get(name, name), None if call.number <= NEWEST_EVERYWHERE else call.number)
            assert told == call.number, name


def test_words_are_the_constants_of_objects_flags() -> None:
    """What a flag is called in a program means there what it means in a script; what is a script's alone is a number."""
    for call in CALLS.values():
        for argument in call.arguments:
            kind = argument.kind
            if isinstance(kind, FlagsKind):
                bits = list(kind.words.values())
                values = bits if kind.exactly_one else [0, *bits, *map(sum, combinations(bits, 2))]
            elif isinstance(kind, ProtKind):
                values = list(range(8))
            else:
                continue
            for value in values:
                assert eval(kind.constants(value), dict(vars(flags))) == value
                assert kind.parse(kind.format(value)) == value


def test_the_newest_call_stands_in_one_place() -> None:
    """Outside of what it does (mm/, its method) and of the kernels that know it, its name is in the table only."""
    rooms = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value == "mlock2":
                rooms.add(str(path.relative_to(SOURCE)))
    assert {room for room in rooms if not room.startswith("mm/")} == {"calls/table.py", "calls/memory.py"}


# -- one row more ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mlock_too(monkeypatch: pytest.MonkeyPatch) -> str:
    """A call that nobody has heard of: its name, its number, its method and its arguments."""
    row = Call("mlock_too", 149, Task.mlock, RANGE, often=60, harmless="w+0 1", locks=VM_LOCKED)
    monkeypatch.setitem(CALLS, row.name, row)
    return row.name


def test_a_row_is_all_that_the_model_and_random_scripts_need(mlock_too: str) -> None:
    """It is read, obeyed, chosen."""
    record = obey(parse(f"A: mmap w+0 4 rw\nA: {mlock_too} w+1 2\nA: {mlock_too} w+8 1"), "6.18", check_each=True)
    assert record.error is None
    assert record.results == ["w+0", "ok", "ENOMEM"]
    assert any(op.call == mlock_too for number in range(5) for op in make_script(1, number, frozenset(CALLS)).ops)


@needs_agent
def test_a_row_is_all_that_the_agent_needs(mlock_too: str) -> None:
    """It asks the host for it, and has it made."""
    with Agent() as agent:
        assert mlock_too not in agent.missing
        script = parse(f"A: mmap w+0 4 rw\nA: {mlock_too} w+1 2\nA: {mlock_too} w+8 1\nA: fork B")
        host = agent.run(script)
        assert host.results == ["w+0", "ok", "ENOMEM", "ok"]
        if agent.version == (6, 18) or REQUIRE_ALL:
            assert compare(host, obey(script, "6.18", agent.circumstances)) is None
