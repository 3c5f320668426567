"""Random scripts of other habits: valid, the same for the same seed, each of its kind, within what a host's agent may do."""

from collections import Counter

import pytest

from rmaplab.calls.table import BIRTHS, CALLS, Argument, Call
from rmaplab.calls.words import FlagsKind, NumberKind
from rmaplab.errors import UsageError
from rmaplab.host.agent import TASK_SIZE
from rmaplab.host.asked import largest_segment, ranges
from rmaplab.lab.differential import pen
from rmaplab.lab.differential.fuzz import make_script
from rmaplab.lab.differential.habits import ALL, HABITS, STEPS, find_maker, make_habitual
from rmaplab.objects.flags import MAP_SHARED
from rmaplab.workloads.places import WINDOW, Places
from rmaplab.workloads.script import Script, life_problems, parse

CALLS_OF_ALL = frozenset(CALLS)
PLACES = Places(WINDOW, 0x7FFF_F7DF_F000, 0x80_0000)


def scripts(habit: str, nr: int = 40) -> list[Script]:
    return [make_habitual(habit, 5, number, CALLS_OF_ALL) for number in range(nr)]


@pytest.mark.parametrize("habit", [ALL, *HABITS])
def test_what_is_made_can_be_read_and_made_again(habit: str) -> None:
    """Who calls lives, the text is a script, no two are alike, and each is made on its own."""
    made = scripts(habit)
    for script in made:
        assert list(life_problems(script.ops)) == []
        assert [op.same() for op in parse(str(script)).ops] == [op.same() for op in script.ops]
        assert [op.line for op in script.ops] == list(range(1, len(script.ops) + 1))
    assert len({str(script) for script in made}) == len(made)
    assert str(make_habitual(habit, 5, 17, CALLS_OF_ALL)) == str(made[17])
    assert str(make_habitual(habit, 6, 17, CALLS_OF_ALL)) != str(made[17])


@pytest.mark.parametrize("habit", list(HABITS))
def test_nothing_reaches_the_agents_own_memory(habit: str) -> None:
    """It would refuse the script: all lies from the heap to m, or beyond user space."""
    for script in scripts(habit, 80):
        for op in script.ops:
            for first, end in ranges(op, PLACES, largest_segment(script)):
                assert not (first < PLACES.h and end > 0), f"{script.name}: {op}"
                assert not (first < TASK_SIZE and end > PLACES.m), f"{script.name}: {op}"


def test_a_script_that_binds_and_limits_locks_does_not_lock_all() -> None:
    """The model would refuse it: what the host's agent has mapped counts for mlockall."""
    for script in scripts(ALL, 150):
        said = {(op.call, str(op).split()[2]) for op in script.ops if op.call in ("limit", "mlockall")}
        assert not (("limit", "MEMLOCK") in said and any(call == "mlockall" for call, _ in said))


def test_each_is_of_its_kind() -> None:
    """What the habits are there for, which steps seldom or never do."""
    ops = {habit: [op for script in scripts(habit) for op in script.ops] for habit in HABITS}
    calls = {habit: Counter(op.call for op in found) for habit, found in ops.items()}
    per_script = {habit: len(found) / 40 for habit, found in ops.items()}
    assert per_script["long"] > 250
    assert max(sum(op.call == "mmap" for op in script.ops) for script in scripts("many")) > 150
    assert calls["storm"]["mremap"] > 15 * 40
    assert max(len(script.processes) for script in scripts("lineage")) >= 15
    assert calls["lineage"]["exit"] > 5 * 40
    assert calls["stripes"]["mprotect"] + calls["stripes"]["madvise"] + calls["stripes"]["mlock"] > 30 * 40
    assert sum(op.call == "mmap" and op["address"] == "any" for op in ops["placed"]) > 5 * 40
    assert sum("0xffff" in str(op) for op in ops["ends"]) > 5 * 40
    placed = calls["shared"]["shmat"] + calls["shared"]["remap_file_pages"]
    assert min(placed, calls["shared"]["fallocate"] + calls["shared"]["ftruncate"], calls["shared"]["fork"]) > 2 * 40
    assert sum(op.call == "mmap" and bool(op["flags"] & MAP_SHARED) for op in ops["shared"]) > 4 * 40
    assert calls["clones"]["clone"] + calls["clones"]["vfork"] > 3 * 40


def test_only_calls_that_there_are() -> None:
    """Where a host refuses some; where it refuses all of a habit's, the script does nothing."""
    some = frozenset({"mmap", "write", "fork"})
    assert {op.call for number in range(40) for op in make_habitual(ALL, 3, number, some).ops} == some
    assert [op.call for op in make_habitual("stripes", 3, 1, frozenset({"exit"})).ops] == ["exit"]


def test_a_new_row_of_the_table_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    """With arguments by their kinds; one whose kinds are not known is left out."""
    words = FlagsKind("MAP", "STACK NORESERVE")
    address, length = CALLS["munmap"].arguments
    new = Call(
        "fly", 999, print, (address, length, Argument("how", words), Argument("often", NumberKind("x", 3))), often=50
    )
    odd = Call("odd", 998, print, (Argument("child", CALLS["fork"].arguments[0].kind),), often=50)
    table = {**CALLS, "fly": new, "odd": odd}
    monkeypatch.setattr(pen, "CALLS", table)
    monkeypatch.setattr("rmaplab.workloads.script.CALLS", table)
    made = [op for n in range(20) for op in make_habitual("long", 1, n, frozenset(table)).ops]
    flown = [op for op in made if op.call == "fly"]
    assert len(flown) > 100
    assert {op["how"] for op in flown} == {0, *words.words.values(), sum(words.words.values())}
    assert {op["often"] for op in flown} == {1, 2, 3}
    assert not any(op.call == "odd" for op in made)
    assert set(BIRTHS) <= {op.call for op in made}


def test_a_maker_is_found_by_its_name() -> None:
    """The first generator is one of them."""
    assert find_maker(STEPS) is make_script
    assert str(find_maker("storm")(1, 2, CALLS_OF_ALL)) == str(make_habitual("storm", 1, 2, CALLS_OF_ALL))
    with pytest.raises(UsageError, match="no habit 'stripe': choose from steps, all, many, lineage"):
        find_maker("stripe")
