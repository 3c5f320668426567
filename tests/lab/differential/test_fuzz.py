"""Random scripts are valid, the same for the same seed, and are made small."""

from rmaplab.calls.table import CALLS
from rmaplab.lab.differential.fuzz import make_script
from rmaplab.lab.differential.shrink import shrink
from rmaplab.workloads.script import Script, life_problems, parse

ALL = frozenset(CALLS)


def test_the_same_seed_makes_the_same_script() -> None:
    """On its own, whatever was made before; another number or seed makes another."""
    assert str(make_script(1, 17, ALL)) == str(make_script(1, 17, ALL))
    assert len({str(make_script(seed, number, ALL)) for seed in range(5) for number in range(20)}) == 100


def test_what_is_made_can_be_read() -> None:
    """Who calls lives, and the text is a script."""
    for number in range(200):
        script = make_script(2, number, ALL)
        assert list(life_problems(script.ops)) == []
        assert [line.same() for line in parse(str(script)).ops] == [line.same() for line in script.ops]


def test_only_calls_that_there_are() -> None:
    """Where a host refuses some."""
    some = frozenset({"mmap", "write", "fork"})
    assert {op.call for number in range(50) for op in make_script(3, number, some).ops} == some


def test_shrinking_finds_the_smallest() -> None:
    """Whatever it stood in: an mremap by a grandchild needs two forks, and nothing else."""

    def fails(script: Script) -> bool:
        if list(life_problems(script.ops)):
            return False
        parents = {op["child"]: op.process for op in script.ops if op.call == "fork"}
        return any(op.call == "mremap" and parents.get(parents.get(op.process, "")) for op in script.ops)

    found = 0
    for number in range(1000):
        script = make_script(4, number, ALL)
        if fails(script):
            found += 1
            small = shrink(script, fails)
            assert [op.call for op in small.ops] == ["fork", "fork", "mremap"]
            assert [op.line for op in small.ops] == [1, 2, 3]
    assert found > 10


def test_arguments_become_simple() -> None:
    """Shorter, without flags that do not matter, without odd bytes."""
    script = parse(
        "A: mmap w+3 7 rw NORESERVE|POPULATE\nA: mremap w+3+17b 5+100b 6 MAYMOVE|FIXED w+20\nA: write w+4 9\nA: wait"
    )
    small = shrink(script, lambda tried: sum(op.call in ("mmap", "mremap", "write") for op in tried.ops) == 3)
    assert str(small) == "A: mmap w+3 1 rw\nA: mremap w+3 1 1 FIXED w+20\nA: write w+4\n"
