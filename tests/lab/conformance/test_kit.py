"""The conformance kit: what is right passes, what is wrong is caught, and the script it prints shows it."""

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import Phase, find, settings

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.designs import designs, load_design
from rmaplab.lab.conformance.kit import attempt, conformance, scripts
from rmaplab.lab.conformance.operations import MARKING, TREATING, Brk, Madvise, Mlock
from rmaplab.lab.conformance.run import Step
from rmaplab.machine.batch import Batch
from rmaplab.machine.slab import SlabCache
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.anon_vma import AnonVmaMap
from rmaplab.rmap.anonmm import AnonMmMap
from rmaplab.rmap.protocol import ReverseMap
from rmaplab.rmap.pte_chain import PteChain

OURS = [("2.4.21", "i386"), ("2.6.2", "i386-pae"), ("2.6.5-rc1", "x86-64"), ("2.6.5-rc1+anonmm", "i386-pae")]
OURS += [
    ("2.6.5-rc1-aa1", "i386"),
    ("2.6.5-rc1+anon_vma", "i386-pae"),
    ("2.6.5-rc3-aa3", "i386"),
    ("2.6.7", "i386-pae"),
]
OURS += [("2.6.5-rc1+anon_vma_chain", "i386-pae"), ("6.18", "x86-64"), ("6.18+anonmm", "x86-64")]
TEMPLATE = Path(__file__).parents[3] / "docs" / "template-design"


class ForgetsAFork(AnonVmaMap):
    """The child's VMA does not join its parent's anon_vma."""

    def vma_fork(self, vma: VmArea, child: VmArea) -> None:
        child.anon_vma = None


class KeepsASlot(PteChain):
    """The last entry of a batch stays in its chain."""

    def remove(self, batch: Batch) -> None:
        batch.nr -= 1
        super().remove(batch)
        batch.nr += 1


class LeaksAnObject(AnonVmaMap):
    """An anon_vma is never given back."""

    def vma_unlink(self, vma: VmArea) -> None:
        kept = self.cache.free
        self.cache.free = lambda _: None  # type: ignore[method-assign, assignment]
        super().vma_unlink(vma)
        self.cache.free = kept  # type: ignore[method-assign]


class MissesMremap(AnonMmMap):
    """Moved pages are looked for where they were."""

    def moved(self, old: Batch, new: Batch, vma: VmArea) -> None:
        pass


BROKEN = [ForgetsAFork, KeepsASlot, LeaksAnObject, MissesMremap]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The broken designs and the template, as other packages' entry points."""
    points = [EntryPoint(cls.__name__.lower(), f"{__name__}:{cls.__name__}", "rmaplab.designs") for cls in BROKEN]
    points.append(EntryPoint("pv_list", "pv_list:PvList", "rmaplab.designs"))
    others = importlib.metadata.entry_points  # Numba asks for its own

    def entry_points(**select: str) -> object:
        return points if select.get("group") == "rmaplab.designs" else others(**select)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.syspath_prepend(str(TEMPLATE))
    yield
    sys.modules.pop("pv_list", None)


@pytest.mark.parametrize(("kernel", "paging"), OURS)
def test_ours_pass(kernel: str, paging: str) -> None:
    """No script shows anything wrong with a design of ours, under its own kernel or another's."""
    report = conformance(kernel, paging=paging, examples=25, steps=40, seed=1)
    assert report.counterexample is None, report.counterexample and report.counterexample.source
    assert report.scripts >= 20
    assert report.calls > report.scripts


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("design", BROKEN)
def test_what_is_broken_is_caught_by_a_short_script_that_runs(design: type[ReverseMap]) -> None:
    """The printed script, run as it is, fails as it says; it is short enough to be read."""
    found = conformance(f"2.6.5-rc1+{design.__name__.lower()}", examples=150, steps=40).counterexample
    assert found is not None
    assert found.nr_calls <= 8
    with pytest.raises(Exception, match=r".") as failure:
        exec(compile(found.source, "counterexample", "exec"), {})
    assert f"{failure.type.__name__}: {failure.value}".splitlines()[0] == found.message


@pytest.mark.usefixtures("offered")
def test_the_template_passes() -> None:
    """docs/template-design is a design that runs, is right, and takes its bytes."""
    assert designs()["pv_list"].path == "pv_list:PvList"
    assert conformance("2.6.5-rc1+pv_list", examples=40, steps=40).counterexample is None
    system = rmaplab.boot("2.6.5-rc1+pv_list", ram="64M")
    task = system.spawn()
    address = task.mmap(4096)
    task.write(address, b"x")
    child = task.fork()
    assert {m.mm.pid for m in system.who_maps(child, address)} == {task.pid, child.pid}
    (cache,) = system.kernel.design.caches()
    assert isinstance(cache, SlabCache)
    assert (cache.nr_objects, cache.object_bytes) == (1, 12)


def test_a_design_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module that is not there, is broken, has no such class, is no design, or speaks another protocol."""
    module = tmp_path / "rmaplab_test_designs.py"
    module.write_text(
        "from rmaplab.rmap.anon_vma import AnonVmaMap\n"
        "class Old(AnonVmaMap):\n    protocol_version = 0\n"
        "class Thing: pass\n"
    )
    (tmp_path / "rmaplab_test_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    for path in (
        "no_such_module:X",
        "rmaplab_test_broken:X",
        "rmaplab_test_designs:Missing",
        "rmaplab_test_designs:Thing",
        "rmaplab_test_designs:Old",
    ):
        with pytest.raises(UsageError) as error:
            load_design(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kernel", "paging"), OURS)
@pytest.mark.parametrize("spare", [0, 12])
def test_memory_that_is_out_again_and_again_loses_nothing(kernel: str, paging: str, spare: int) -> None:
    """A box of a few dozen frames: many calls fail for want of memory, by themselves; all checks hold after each (issue 4: 4).

    A task of 6.18 alone takes more than a box of 2004: its slabs are of eight pages, its stack of four.
    """
    frames = spare + (64 if kernel.startswith("6.18") else 28)
    report = conformance(kernel, paging=paging, examples=24, steps=50, seed=frames, frames=frames)
    assert report.counterexample is None, report.counterexample.source
    assert report.nr_short > 1


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1", "6.18"])
def test_every_kernel_is_asked_what_it_knows(kernel: str) -> None:
    """Advice and locks are in everybody's scripts: the advice and the calls that the kernel's own rules name, all of them."""
    rules = find_kernel(kernel).rules(8)
    seen: dict[str, set[object]] = {"madvise": set(), "lock": set()}
    known: dict[str, set[object]] = {
        "madvise": {advice for advice in (*MARKING, *TREATING) if rules.madvise_advice >> advice & 1},
        "lock": {"mlock", "munlock"} | ({"mlock2"} if kernel == "6.18" else set()),
    }

    def all_seen(script: tuple[Step | None, ...]) -> bool:
        """Scripts are drawn until nothing is missing; an advice the kernel does not know is never in one."""
        for step in script:
            if step is not None and isinstance(step.op, Madvise):
                seen["madvise"].add(step.op.advice)
            elif step is not None and isinstance(step.op, Mlock):
                seen["lock"].add(step.op.call)
        return all(seen[kind] >= known[kind] for kind in known)

    # Sixty scripts of fifty calls miss one of thirteen now and then; a thousand never do.
    find(scripts(50, rules), all_seen, settings=settings(max_examples=1000, database=None, phases=[Phase.generate]))
    assert seen == known
    assert known["madvise"] >= {0, 1, 2, 4}


@pytest.mark.parametrize("fails", [None, 0])
def test_a_heap_that_cannot_shrink_stays_and_brk_says_so(fails: int | None) -> None:
    """It is cut in two for that, which takes a VMA: without one brk has no errno, and ends where it has ended."""
    script = [Step(Brk(0, 2)), Step(Brk(0, 1), fail_after=fails), Step(Brk(0, 3))]
    assert attempt("2.6.5-rc1", "i386-pae", script)[2] is None
