"""Two ways from task to task: straight, or not at all where nobody is due earlier; and by the hub each time. A run is the same.

straight    task 7 ---------------------> task 9            task 7 ... goes on
by the hub  task 7 ---> hub ---> task 9                     task 7 ---> hub ---> task 7
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from rmaplab.kernels.box import Box, announced
from rmaplab.kernels.catalogue import KERNELS
from rmaplab.kernels.system import System
from rmaplab.lab.announcement.experiment import run_forkbench
from rmaplab.lab.costs.mixes import run_mix
from rmaplab.machine import machine as machine_module
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.timer import nothing
from rmaplab.workloads.kbuild import Kbuild

CPUS = (1, 2, 3, 16)


class ByTheHub(Scheduler):
    """Every piece of work is an event, and every event is the hub's."""

    def _switch_away(self) -> None:
        assert self._hub is not None
        self.switches += 1
        self.by_hub = getattr(self, "by_hub", 0) + 1
        self._hub.switch()

    def _pass(self, entity: SchedEntity, ns: int, *, user: bool) -> None:
        self.at(self.now_ns, nothing, watches=True)  # somebody is always due earlier
        super()._pass(entity, ns, user=user)


def told(box: Box, kernel: str) -> str:
    """Everything that a run says of itself, but for our own time."""
    return digest(replace(run_forkbench(kernel, 3, box), wall_s=0).as_json())


def digest(row: object) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True, default=str).encode()).hexdigest()


@pytest.mark.parametrize("ht", ["off", "on"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_forkbench(kernel: str, ht: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every kernel, from one CPU to sixteen, two to a core or not: counts, times, locks, memory."""
    paging = KERNELS[kernel].architectures[0]
    boxes = [announced(cpus=cpus, ht=ht, paging=paging) for cpus in CPUS if ht == "off" or not cpus % 2]
    straight = [told(box, kernel) for box in boxes]
    monkeypatch.setattr(machine_module, "Scheduler", ByTheHub)
    assert [told(box, kernel) for box in boxes] == straight
    assert len(set(straight)) > 1


@pytest.mark.parametrize("ht", ["off", "on"])
@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7"])
def test_where_tasks_sleep(kernel: str, ht: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilers that wait for a disk, kernel threads, timers: likewise, and to whom the CPUs went."""

    def row(cpus: int) -> tuple[str, int]:
        systems = list[System]()
        box = announced(cpus=cpus, ht=ht, ram="48M", swap="64M", boot_use="8M", paging="i386", reclaim=True)
        found = run_mix(kernel, box, 3, lambda _: Kbuild(2, 3, 3), systems.append)
        sched = systems[0].machine.sched
        assert (getattr(sched, "by_hub", 0) > 0) == isinstance(sched, ByTheHub)
        return digest(replace(found, wall_s=0).as_json()), sched.nr_switches

    straight = [row(cpus) for cpus in (2,)]
    monkeypatch.setattr(machine_module, "Scheduler", ByTheHub)
    assert [row(cpus) for cpus in (2,)] == straight
