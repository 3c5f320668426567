"""Calls of processes, planned: who is born of whom, what they share, who begins another program, and who goes when.

A thread group ends whole, by exit_group or a signal; a thread alone, by exit. A leader that calls exit while threads go on leaves with the last of them.
"""

import re
from collections.abc import Callable

from rmaplab.lab.replay.places import HostSpace
from rmaplab.lab.replay.plan import LoggedDescriptor, LoggedTask, Plan, Planner
from rmaplab.lab.replay.plan_files import FILES
from rmaplab.lab.replay.plan_memory import MEMORY
from rmaplab.objects.flags import CLONE_FILES, CLONE_THREAD, CLONE_VFORK, CLONE_VM
from rmaplab.workloads.strace_log import BIRTHS, Log, LoggedCall, LoggedEnd
from rmaplab.workloads.strace_words import BadWord, field, number, text

Planned = Callable[[Planner, LoggedCall, LoggedTask], None]
WNOWAIT = 0x1000000
_STOPPED = re.compile(r"WIFSTOPPED|WIFCONTINUED")


def plan_birth(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan fork, vfork, clone, clone3."""
    pid = event.result
    if event.error or pid is None or pid <= 0:
        plan.log.passed[event.name] += 1
        return
    flags = {"fork": 0, "vfork": CLONE_VM | CLONE_VFORK}.get(event.name)
    if flags is None:
        flags = field(event.words, "flags")
    before = plan.tasks.get(pid)
    if before is not None and before.alive:
        plan.log.wonder(f"{event.name} of a pid that somebody has")
        return
    thread = bool(flags & CLONE_THREAD and flags & CLONE_VM)
    space = who.space if flags & CLONE_VM else plan.copied(who)
    shared = thread or flags & CLONE_FILES
    fds = who.fds if shared else {fd: LoggedDescriptor(d.file, d.closes_on_exec) for fd, d in who.fds.items()}
    child = plan.new_task(pid, space, fds)
    if thread:
        child.leader = who.leader
        plan.plan.threads[child.number] = True
        who.leader.threads.append(child)
        call = "thread"
    elif flags & CLONE_VM:
        call = "vfork" if flags & CLONE_VFORK else "clone_vm"
    else:
        call = "fork"
    stack = field(event.words, "stack") + field(event.words, "stack_size") if "stack_size=" in event.words else 0
    if stack == 0 and "child_stack=" in event.words:
        stack = field(event.words, "child_stack")
    if stack and flags & CLONE_VM:
        plan.touch(event.line, who, stack - 8, 8)
    plan.add(event, who, call, child.number)
    if call == "vfork":
        who.vforked, child.lender = len(plan.plan.steps) - 1, who


def plan_execve(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan execve, execveat: another program, in an address space of its own; its threads are gone, and it has the pid of the process."""
    if event.error:
        plan.log.passed[event.name] += 1
        return
    words = plan.words(event, 2)
    path = text(words[1 if event.name == "execveat" else 0])
    leader = who.leader
    if not leader.alive:
        raise BadWord("a process that has gone")
    closes = sorted(fd for fd, descriptor in leader.fds.items() if descriptor.closes_on_exec)
    image = plan.image(path, plan.named_file(path))
    leader.give_back()
    plan.add(event, leader, "execve", tuple(closes), image, tuple(task.number for task in leader.threads))
    for thread in leader.threads:
        thread.alive = False
    leader.threads = []
    leader.fds = {fd: descriptor for fd, descriptor in leader.fds.items() if fd not in closes}
    leader.space = HostSpace(image)


def plan_exit(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan exit, of one thread."""
    if who.leader is who and who.threads:
        who.leaves_last = True
        plan.log.passed["exit"] += 1
        return
    plan.add(event, who, "exit")
    _gone(plan, event.line, who)


def plan_exit_group(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan exit_group."""
    plan.add(event, who.leader, "exit_group", tuple(task.number for task in who.leader.threads))
    _group_gone(who.leader)


def plan_wait(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan wait4, waitid: whom it has buried."""
    words = plan.words(event, 3)
    if event.name == "waitid":
        pid = field(words[2], "si_pid") if "si_pid=" in words[2] and not event.error else 0
        buried = pid > 0 and not (len(words) > 3 and number(words[3]) & WNOWAIT)
    else:
        pid = event.result or 0
        buried = pid > 0 and not _STOPPED.search(words[1])
    child = plan.tasks.get(pid)
    if not buried or event.error or child is None or child.alive:
        plan.log.passed[event.name] += 1
        return
    plan.add(event, who, "wait", child.number)
    del plan.tasks[pid]


def plan_end(plan: Planner, end: LoggedEnd) -> None:
    """A line that says that somebody has gone, in case no call has said so."""
    who = plan.tasks.get(end.pid)
    if who is not None and who.leader is not who and not who.alive:
        del plan.tasks[end.pid]
    if end.how == "superseded" or who is None or not who.alive:
        return
    if end.how == "killed" or who.leader is who:
        plan.beside(end.line, who.leader, "exit_group", tuple(task.number for task in who.leader.threads))
        _group_gone(who.leader)
    else:
        plan.beside(end.line, who, "exit")
        _gone(plan, end.line, who)


def _group_gone(leader: LoggedTask) -> None:
    for task in (*leader.threads, leader):
        task.alive = False
        task.give_back()
    leader.threads = []


def _gone(plan: Planner, line: int, who: LoggedTask) -> None:
    who.alive = False
    who.give_back()
    leader = who.leader
    if leader is who:
        return
    leader.threads.remove(who)
    if leader.leaves_last and leader.alive and not leader.threads:
        plan.beside(line, leader, "exit_group", ())
        leader.alive = False


def _plan_uid(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Who it is: the first process, and so all that follow."""
    plan.log.passed[event.name] += 1
    if event.result == 0 and not event.error and who.number == 0:
        plan.plan.root = True


PROCESSES: dict[str, Planned] = {
    **dict.fromkeys(sorted(BIRTHS), plan_birth),
    "execve": plan_execve,
    "execveat": plan_execve,
    "exit": plan_exit,
    "exit_group": plan_exit_group,
    "wait4": plan_wait,
    "waitid": plan_wait,
    "geteuid": _plan_uid,
}
"""By name."""
KNOWN: dict[str, Planned] = {**MEMORY, **FILES, **PROCESSES}
"""Every call that a log is read for."""


def plan_of(log: Log) -> Plan:
    """The plan of a log. O(calls). Raises UsageError for one beyond the bounds."""
    planner = Planner(log)
    for event in log.events:
        if isinstance(event, LoggedEnd):
            plan_end(planner, event)
            continue
        if event.result is None and event.name not in ("exit", "exit_group"):
            log.passed[event.name] += 1  # it has not returned, or begins anew behind a signal
            continue
        begins = event.name == "execve" and not event.error
        who = planner.who(event.line, event.pid, begins=begins)
        if not who.alive:
            log.wonder("a call of one that has gone")
            continue
        try:
            KNOWN[event.name](planner, event, who)
        except BadWord:
            log.wonder(f"{event.name}, in words that say nothing here")
    return planner.plan
