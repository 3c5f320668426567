"""What a zoo changes on the machine is as it was, whatever happens to the test."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import REQUIRE_ALL
from .machine_settings import MEMORY, NR_HUGEPAGES, alone

SETTINGS = [
    NR_HUGEPAGES,
    *(MEMORY / "ksm" / name for name in ("run", "pages_to_scan", "sleep_millisecs")),
    *(MEMORY / "transparent_hugepage" / name for name in ("enabled", "hugepages-64kB/enabled")),
    Path("/proc/swaps"),
]


def settings() -> dict[Path, str]:
    """As they are while no zoo runs, nor one of another's tests."""
    with ExitStack() as stack:
        alone(stack)
        return now()


def now() -> dict[Path, str]:
    return {path: path.read_text() for path in SETTINGS if path.exists()}


def test_all_is_undone_when_the_one_who_started_it_goes(tmp_path: Path) -> None:
    """Ctrl-C and a signal do not get in between: the end of its stdin is what counts, which comes when its starter ends."""
    if os.getuid() and not REQUIRE_ALL:
        pytest.skip("a zoo of memory takes root")
    before = settings()
    command = [sys.executable, "-E", "-S", "-m", "tests.host.zoo", str(tmp_path)]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline()
        assert now() != before
        for number in (signal.SIGTERM, signal.SIGINT):
            keeper.send_signal(number)
        keeper.communicate()
    assert keeper.returncode == 0
    assert settings() == before
    assert not (tmp_path / "swap").exists()
