"""The same script on both sides, and the first thing that differs.

    host, Linux     results and worlds  --+
                                          +--  compare()  -->  None, or a Difference: operation, aspect, both records
    model 6.18      results and worlds  --+

A difference is in the result of an operation, or in what it has left: who lives, VMAs, pages, page tables. Equal means equal up to
renaming (workloads/world.py). A model that breaks down differs too. What is known to differ, and why, is in docs/divergences.md.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from rmaplab.calls.table import BIRTHS, CALLS, Returns
from rmaplab.calls.words import FlagsKind
from rmaplab.workloads.script import FAILURE, FIRST, Op, Script
from rmaplab.workloads.world import Record, State, World, has_disk, seen_columns, seen_vmas
from rmaplab.workloads.world_text import without_code

DISKS_OWN = (Returns.RESIDENT, Returns.BLOCKS)
"""What a disk makes its own affair: what has been read ahead, and when blocks are taken."""


@dataclass(frozen=True)
class Difference:
    """The first difference: in operation `index` of the script (from 0), in `aspect`; of process `process`, if of one.

    `aspect` is "result", "processes", "VMAs", "pages", "page tables", "locked pages", "expectation" (both sides agree, and the script says otherwise: `what`), "graph" (of anon_vmas: `what` says more), or "model" where that
    broke down.
    """

    host: Record
    model: Record
    index: int
    aspect: str
    process: str = ""
    what: str = ""

    @property
    def is_of_one(self) -> bool:
        """Whether the model was alone."""
        return self.host is self.model

    @property
    def script(self) -> Script:
        """What was run."""
        return self.host.script

    @property
    def op(self) -> Op:
        """The operation."""
        return self.script.ops[self.index]

    @property
    def sees(self) -> frozenset[str]:
        """What both sides see."""
        return self.host.sees & self.model.sees

    @property
    def sign(self) -> tuple[str, str, str, str]:
        """What two differences of one cause have in common."""
        told = ("", "") if self.aspect != "result" else (self.host.results[self.index], self.model.results[self.index])
        kinds = [result_kind(result) for result in told]
        error = type(self.model.error).__name__ if self.aspect == "model" else ""
        return (self.op.call, self.aspect + error, kinds[0], kinds[1])


def compare(host: Record, model: Record) -> Difference | None:
    """The first difference of two records of one script. O(results and worlds)."""
    sees, on_disk = host.sees & model.sees, has_disk(host.script)
    for index in range(len(host.script.ops)):
        if index >= len(model.results):
            return Difference(host, model, index, "model")
        results = host.results[index], model.results[index]
        if on_disk and CALLS[host.script.ops[index].call].returns in DISKS_OWN:
            results = result_kind(results[0]), result_kind(results[1])
        if results[0] != results[1] and ("codes" in sees or without_code(results[0]) != without_code(results[1])):
            return Difference(host, model, index, "result")
        if not host.script.ops[index].is_as_expected(host.results[index]):
            return Difference(host, model, index, "expectation", what=host.script.ops[index].expected)
        found = _worlds_differ(host.worlds[index], model.worlds[index], sees)
        if found is not None:
            return Difference(host, model, index, *found)
    if host.graph is not None and model.graph is not None:
        what = host.graph.unlike(model.graph)
        if what is not None:
            return Difference(host, model, len(host.script.ops) - 1, "graph", what=what)
    return None


def unexpected(model: Record) -> Difference | None:
    """The first thing in a record of the model's own, of a script that no host was asked, that is not as the script says."""
    return compare(model, model)


def _worlds_differ(host: World, model: World, sees: frozenset[str]) -> tuple[str, str] | None:
    if host.keys() != model.keys():
        return "processes", ""
    for name in host:
        if not host[name].same(model[name], sees):
            return _aspect(host[name], model[name], sees), name
    return None


def _aspect(host: State, model: State, sees: frozenset[str]) -> str:
    vmas = seen_vmas(host.vmas, sees), seen_vmas(model.vmas, sees)
    if vmas[0].tolist() != vmas[1].tolist():
        return "VMAs"
    columns = seen_columns(sees)
    pages = host.pages[:, columns], model.pages[:, columns]
    if "pages" in sees and pages[0].tolist() != pages[1].tolist():
        return "pages"
    return "page tables" if "tables" in sees and host.tables != model.tables else "locked pages"


def result_kind(result: str) -> str:
    """A result in one word: "ok" where it is an address or a value."""
    found = [match.group() for match in FAILURE.finditer(result)]
    return found[-1] if found else "ok"


@dataclass
class Coverage:
    """What scripts have done: operations by what they were and what came of it, and what families they made."""

    scripts: int = 0
    operations: int = 0
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    families: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(processes, generations) of a script."""

    def add(self, record: Record) -> None:
        """One script more."""
        self.scripts += 1
        self.operations += len(record.results)
        self.calls.update(
            (variant(op), result_kind(result)) for op, result in zip(record.script.ops, record.results, strict=False)
        )
        self.families[family(record.script.ops)] += 1

    def update(self, more: "Coverage") -> None:
        """What others have done is counted, too."""
        self.scripts += more.scripts
        self.operations += more.operations
        self.calls.update(more.calls)
        self.families.update(more.families)


def variant(op: Op) -> str:
    """A call with the flags that make it another one: "mremap MAYMOVE|FIXED", "madvise FREE"."""
    words = [op.call]
    for argument, value in zip(CALLS[op.call].arguments, op.arguments, strict=True):
        if isinstance(argument.kind, FlagsKind) and (value or op.call == "mremap"):
            words.append(argument.kind.format(value))
    if op.call == "mmap" and op["address"] == "any":
        words.insert(1, "any")
    return " ".join(words)


def family(ops: Iterable[Op]) -> tuple[int, int]:
    """How many processes there are, over how many generations."""
    generation = {FIRST: 1}
    for op in ops:
        if op.call in BIRTHS:
            generation[op["child"]] = generation[op.process] + 1
    return len(generation), max(generation.values())
