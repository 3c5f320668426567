"""The endless fork on the running kernel: after hundreds of generations its graph is the model's. Needs root, BPF and Linux 6.18."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.vmas import VmaDumper
from rmaplab.kernels.system import boot
from rmaplab.lab.explain.endless_fork import STEP, generations
from rmaplab.lab.explain.side_by_side import page
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.rmap.graph_of import graph_of

# The same calls by real processes: argv is generations, VMAs, where the first begins, bytes from one to the next. The first process
# only buries the dead; a child goes on when its parent's memory is gone, which is before it gets another parent (do_exit).
PROGRAM = """
import ctypes, os, signal, sys
nr, vmas, base, step = map(int, sys.argv[1:])
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork():
    sys.stdin.read()
    os._exit(0)
for i in range(vmas):
    at = base + i * step
    assert libc.mmap(ctypes.c_void_p(at), ctypes.c_size_t(8192), 3, 0x100022, -1, ctypes.c_long(0)) == at
    ctypes.memset(at, 1, 8192)
for generation in range(nr):
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        os.sched_yield()
    for i in range(vmas):
        ctypes.memset(base + i * step, 2, 1)
libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: it goes with the first
print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.mark.skipif(not platform.release().startswith("6.18."), reason="the host is not Linux 6.18")
@pytest.mark.parametrize(("nr", "vmas"), [(3, 2), (300, 10)])
def test_the_live_kernel_reuses_as_the_model(nr: int, vmas: int) -> None:
    """anon_vmas, counters, parents and chains in their order: thirty for ten VMAs after three hundred generations."""
    try:
        dumper = VmaDumper()
    except BpfUnavailable as error:
        if os.environ.get("RMAPLAB_REQUIRE_ALL"):
            raise
        pytest.skip(str(error))
    system = boot("6.18", ram="64M", paging="x86-64")
    for _ in generations(system, nr, vmas):
        pass
    design = system.kernel.design
    assert isinstance(design, AnonVmaChainMap)
    (task,) = (task for task in system.kernel.tasks.values() if task.mm is not None)
    end = page(vmas * STEP)
    model = graph_of(design, [task]).graph.part([task.pid], page(0), end)
    arguments = [str(each) for each in (nr, vmas, page(0), STEP * 4096)]
    with (
        dumper,
        subprocess.Popen(
            [sys.executable, "-E", "-S", "-c", PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as first,
    ):
        assert first.stdout is not None
        pid = int(first.stdout.readline())
        live = dumper.dump().graph.part([pid], page(0), end)
        assert first.stdin is not None
        first.stdin.close()
    assert live.unlike(model) is None
    assert len(live.anon_vmas.num_children) == 3 * vmas
