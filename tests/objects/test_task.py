"""A process's children beside a plain list of them: their order, and who of them have ended."""

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.locks import Locks
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct
from rmaplab.objects.task import Children, FilesStruct, TaskStruct

LOCKS = Locks(
    (("mmap_sem", True, False), ("page_table_lock", False, True)),
    Scheduler(SchedRules(1, 1, 1, 1, one_queue=False, child_first=True), 1),
    Ledger(PriceList("free", "none", {})),
)
PIDS = count(1)
steps = st.lists(
    st.tuples(st.sampled_from(("born", "born", "ends", "reaped", "given")), st.integers(0, 99)), max_size=60
)


def task() -> TaskStruct:
    mm = MmStruct(1, 0, 0, LOCKS)
    return TaskStruct(next(PIDS), None, mm, Limits(), 0, mm, 0, FilesStruct())  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(steps)
def test_children_are_a_list(todo: list[tuple[str, int]]) -> None:
    """They come at its end, dead or alive; zombies are those who have ended, in its order."""
    children, plain = Children(), list[TaskStruct]()
    for verb, number in todo:
        chosen = plain[number % len(plain)] if plain else None
        if verb == "born":
            plain.append(task())
            children.append(plain[-1])
        elif chosen is None:
            continue
        elif verb == "ends" and chosen.exit_code is None:
            chosen.exit_code = 0
            children.has_ended(chosen)
        elif verb == "reaped":
            plain.remove(chosen)
            children.remove(chosen)
        elif verb == "given":
            plain.remove(chosen)
            plain.append(chosen)
            children.remove(chosen)
            children.append(chosen)
        assert list(children) == plain
        assert list(reversed(children)) == plain[::-1]
        assert list(children.zombies()) == [child for child in plain if child.exit_code is not None]
        assert len(children) == len(plain)
        assert bool(children) == bool(plain)
    children.clear()
    assert not children
    assert not list(children.zombies())
