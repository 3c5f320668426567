"""The loop that replay is held against makes the same calls."""

from __future__ import annotations

from benchmarks.replay import BOX, counted, loop, taken_down

from rmaplab.kernels.system import boot
from rmaplab.lab.replay.passed import PASSED
from rmaplab.lab.replay.plan_processes import KNOWN, plan_of
from rmaplab.lab.replay.player import LogPlayer
from rmaplab.workloads.strace_log import parse

LINES = (
    '7  execve("\\x2f\\x61", ["\\x61"], 0x7ffe00000000 /* 3 vars */) = 0',
    "7  mmap(NULL, 65536, 0x3, 0x22, -1, 0) = 0x7f0000000000",
    "7  mlock(0x7f0000000000, 65536) = 0",
    "7  munlock(0x7f0000000000, 65536) = 0",
    "7  clone(child_stack=NULL, flags=0x1200000|17) = 8",
    "8  madvise(0x7f0000000000, 65536, 4) = 0",
    "8  mprotect(0x7f0000004000, 8192, 0x1) = 0",
    "8  exit_group(0) = ?",
    "7  munmap(0x7f0000000000, 16384) = 0",
)


def test_the_loop_does_what_the_replay_does() -> None:
    plan = plan_of(parse(LINES, KNOWN, PASSED))
    made = taken_down("6.18", plan)
    assert {"mlock", "madvise", "mprotect", "munmap", "fork"} <= {name for _, name, _, _ in made}
    looped, played = boot("6.18", BOX), boot("6.18", BOX)
    loop(looped, made)
    LogPlayer(played, plan, "used").play(lambda: None)
    assert counted(looped) == counted(played)
