"""forkbench.c on the real kernel."""

import os
import shutil

import pytest

from rmaplab.errors import UsageError
from rmaplab.host import forkbench
from rmaplab.host.forkbench import HostForkbench
from rmaplab.kernels.box import announced
from rmaplab.lab.announcement.experiment import compare_forkbench

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
needs_compiler = pytest.mark.skipif(
    not REQUIRE_ALL and not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")), reason="no C compiler"
)


@needs_compiler
def test_a_host_row_says_what_it_knows() -> None:
    """Kernel "host", an outcome, a wall time, the real hardware; what only the model can count is None."""
    with HostForkbench() as host:
        *_, row = compare_forkbench(["2.6.5-rc1-aa1"], [1], [announced()], host=host)
    assert (row.kernel, row.outcome, row.processes) == ("host", "ok", 2)
    assert row.wall_s > 0
    assert row.hardware["ram_bytes"] > 0
    assert (row.ledger, row.memory_peak_bytes, row.prices) == (None, None, None)


@needs_compiler
def test_a_level_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's machine is driven out of memory: half of what is available is the most that is taken."""
    monkeypatch.setattr(forkbench, "_meminfo", lambda _: 2 << 30)
    with HostForkbench() as host:
        host.check_memory(3)
        with pytest.raises(UsageError, match="leave --host or that level out"):
            host.check_memory(9)


def test_no_compiler_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """--host without cc."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UsageError, match="install gcc, or leave --host out"):
        HostForkbench()
