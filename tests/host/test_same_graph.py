"""The running kernel's anon_vma graph and the model's, after the same history: equal up to renaming. Needs root and Linux 6.18."""

import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import rmaplab
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.vmas import VmaDumper
from rmaplab.kernels.system import System
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.objects.graph import Graph
from rmaplab.objects.graph_check import findings, hidden
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.rmap.graph_of import graph_of

BASE, STEP, END = 0x2000_0000_0000, 0x4000, 0x2100_0000_0000
Forks = Callable[..., AbstractContextManager[list[int]]]

on_6_18 = pytest.mark.skipif(not platform.release().startswith("6.18."), reason="the host is not Linux 6.18")


def modelled(vmas: int, children: int, depth: int, *, write: bool) -> tuple[System, Graph]:
    """forks.c, in the model."""
    system = rmaplab.boot("6.18", ram="256M", paging="x86-64")
    tasks = [system.spawn()]
    root = tasks[0]
    for i in range(vmas):
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        assert root.mmap(0x2000, PROT_READ | PROT_WRITE, flags, BASE + i * STEP) == BASE + i * STEP
    for i in range(vmas):
        root.touch(BASE + i * STEP, 0x2000, write=True)
    tasks += [root.fork() for _ in range(children)]
    parent = root
    for _ in range(depth):
        parent = parent.fork()
        tasks.append(parent)
    if write:
        for task in tasks[1:]:
            for i in range(vmas):
                task.touch(BASE + i * STEP, 1, write=True)
    design = system.kernel.design
    assert isinstance(design, AnonVmaChainMap)
    return system, graph_of(design, system.kernel.tasks.values()).graph.part([task.pid for task in tasks], BASE, END)


@pytest.mark.parametrize(("vmas", "children", "depth"), [(1, 0, 0), (3, 4, 0), (2, 0, 6), (2, 3, 5)])
def test_the_models_graph_is_sound(vmas: int, children: int, depth: int) -> None:
    """By the same check as the live kernel's, and with nothing hidden."""
    _, graph = modelled(vmas, children, depth, write=True)
    assert findings(graph) == []
    assert hidden(graph) == (0, 0)
    line = 1 + depth
    assert len(graph.chains.vma) == vmas * (line * (line + 1) // 2 + 2 * children)


@on_6_18
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(("vmas", "children", "depth"), [(1, 0, 0), (3, 4, 0), (2, 0, 6), (2, 3, 5)])
def test_the_live_kernel_has_the_same(forks: Forks, vmas: int, children: int, depth: int, *, write: bool) -> None:
    """VMAs, anon_vmas with their counters, and every chain in its order."""
    try:
        dumper = VmaDumper()
    except BpfUnavailable as error:
        if os.environ.get("RMAPLAB_REQUIRE_ALL"):
            raise
        pytest.skip(str(error))
    _, model = modelled(vmas, children, depth, write=write)
    with dumper, forks(vmas, children, depth, write=write) as pids:
        live = dumper.dump().graph.part(pids, BASE, END, renumber=True)
    assert live.unlike(model) is None


@on_6_18
def test_pids_that_wrap_say_nothing_about_age(forks: Forks) -> None:
    """The child of the process with the largest pid has a small one, and the two graphs are one still."""
    _, model = modelled(2, 3, 5, write=False)
    last_pid, pid_max = Path("/proc/sys/kernel/ns_last_pid"), int(Path("/proc/sys/kernel/pid_max").read_text())
    for _ in range(20):
        last_pid.write_text(str(pid_max - 5))
        with VmaDumper() as dumper, forks(2, 3, 5) as pids:
            live = dumper.dump().graph.part(pids, BASE, END, renumber=True)
        if pids != sorted(pids):
            break
    assert pids != sorted(pids)
    assert live.unlike(model) is None


def test_a_difference_is_found_and_named() -> None:
    """One fork more, a counter, an order of chains."""
    _, one = modelled(2, 1, 2, write=False)
    _, other = modelled(2, 1, 3, write=False)
    assert one.unlike(one) is None
    assert "vmas here" in str(one.unlike(other))
    _, changed = modelled(2, 1, 2, write=False)
    changed.anon_vmas.num_children[1] += 1
    assert "anon_vmas[1].num_children" in str(one.unlike(changed))
    _, changed = modelled(2, 1, 2, write=False)
    changed.chains.anon_vma[-2:] = changed.chains.anon_vma[-2:][::-1].copy()
    assert "chains" in str(one.unlike(changed))
