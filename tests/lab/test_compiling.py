"""After random calls the loops of a kernel are compiled: what users do then compiles no more."""

import subprocess
import sys

import pytest

from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab import compiling

USED = """
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.experiment import run_forkbench
from rmaplab.lab.compiling import compiled, dispatchers, exercise

exercise("6.18")
before = {loop: set(loop.signatures) for loop in dispatchers()}
run_forkbench("6.18", 1, Box(ram="1G"))
more = {loop.__name__: set(loop.signatures) - before.get(loop, set()) for loop in dispatchers()}
print(sorted(name for name, versions in more.items() if versions), compiled().versions > 30)
"""


def test_what_is_used_then_is_compiled_already() -> None:
    """In a process of its own: here others have woken loops."""
    done = subprocess.run([sys.executable, "-c", USED], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"


def test_it_says_what_it_has_done(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And where nothing is kept, what to do."""
    monkeypatch.setattr(compiling, "exercise", lambda _: None)
    monkeypatch.setattr(compiling, "compiled", lambda: compiling.Compiled(7, 3, kept=False))
    compiling.main()
    said = capsys.readouterr().err
    assert "7 loops, 3 compiled now" in said
    assert "NUMBA_CACHE_DIR names a directory of yours" in said


def test_each_design_that_has_loops_of_its_own_is_exercised() -> None:
    """By a kernel that has it."""
    found = {find_kernel(kernel).design_class().name for kernel in compiling.KERNELS}
    assert found >= {"virtual_scan", "pte_chain", "anonmm", "anon_vma", "anon_vma_chain"}
