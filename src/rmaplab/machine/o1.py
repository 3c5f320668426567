"""The O(1) scheduler of 2.6: a queue per CPU, which ticks and balancing keep about equally long.

    CPU 0   runs A   active [B] [C] [D]   expired [E]          CPU 1   idle: pulls half the surplus, E and then D

    fork        the child takes half the parent's slice and stands just before it in its queue: child runs first,
                unless the parent's slice ran out during the fork; then both wait with the expired
    slice gone  a new slice, and the tail of the expired queue; when the active queue is empty the two are exchanged
    idle CPU    pulls half the surplus of the longest queue, from the tail, expired tasks first: at once, then every tick
    busy CPU    does the same every 200 ms if the difference is at least a quarter
    exit        a child that never got a second slice gives the rest of its first one back to its parent
    wait        a child that exits takes its waiting parent over to its own CPU, to the tail (a sync wakeup; no bonus for
                having slept: __activate_task leaves the priority alone)

Left out, and believed not to matter for tasks that compute: dynamic priorities, cache-hot limits, moving a running task to a
free core.

Source: 2.6.2 kernel/sched.c, wake_up_forked_process, sched_exit, scheduler_tick, load_balance, find_busiest_queue; eras.md 8.
"""

from rmaplab.machine.runqueue import Cpu, RunQueue, SchedEntity
from rmaplab.machine.sched_policy import Engine, SchedPolicy, SchedRules


class O1Policy(SchedPolicy):
    """2.6: who waits, waits for one CPU, until another that is idle or balances pulls it over."""

    def __init__(self, rules: SchedRules, engine: Engine) -> None:
        super().__init__(rules, engine)
        self.renewed_ns = rules.timeslice_ns

    def queue(self) -> RunQueue:
        """One for each CPU."""
        return RunQueue()

    def next_task(self, cpu: Cpu) -> SchedEntity | None:
        """The head of the CPU's queue, after load_balance if that is empty or its time has come. O(CPUs)."""
        if not cpu.queue:
            self._pull(cpu, idle=True)
        elif self.engine.now_ns - cpu.last_balance_ns >= self.rules.busy_balance_ns:
            self._pull(cpu, idle=False)
        return cpu.queue.take(cpu)

    def wake_idle(self) -> None:
        """They see it at their next tick."""
        cpus = self.engine.cpus
        if any(cpu.queue for cpu in cpus):
            for cpu in cpus:
                if cpu.current is None:
                    self.engine.ask_for_tick(cpu)

    def tick(self, cpu: Cpu) -> None:
        """rebalance_tick of an idle CPU: it pulls, or an idle one on an idle core does."""
        self.engine.dispatch(self.idle_cpus()[0] if self.rules.knows_siblings else cpu)
        self.wake_idle()

    def _pull(self, cpu: Cpu, *, idle: bool) -> None:
        """load_balance: half the difference to the longest queue, from its tail, expired tasks first."""
        cpu.last_balance_ns = self.engine.now_ns
        busiest = max(self.engine.cpus, key=lambda c: (c.nr_running, -c.index))
        surplus = (busiest.nr_running - cpu.nr_running) // 2
        if busiest is cpu or surplus <= 0 or (not idle and surplus < (busiest.nr_running + 3) // 4):
            return
        for _ in range(surplus):
            queue = busiest.queue.expired or busiest.queue.active
            if not queue:
                return
            entity = queue.pop()
            entity.cpu = cpu
            cpu.queue.active.append(entity)
