"""What tests on several floors share: a family of real processes (forks.c), and that every table they draw has the columns that its report says."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rmaplab.report import emit
from rmaplab.report.tables import Table, new_table

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))

HOST = ("host/", "cli/test_live", "cli/test_who", "cli/test_check", "cli/test_main_job", "cli/test_record", "cli/test_rerun", "lab/differential/test_compare",
        "lab/census/test_census", "calls/test_table", "benchmarks/test_against")  # fmt: skip


def needed(program: str) -> str:
    """Where a program is. Skips where there is none."""
    found = shutil.which(program)
    if found is None:
        if REQUIRE_ALL:
            raise RuntimeError(f"no {program} is installed")
        pytest.skip(f"no {program}")
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks the real kernel is not disturbed by tests beside it."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(HOST):
            item.add_marker("host")


@pytest.fixture(autouse=True)
def _columns_are_those_that_the_report_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that Report.columns has not would be refused before a run that shows it (emit.check_columns)."""
    draw = emit._drawn

    def drawn(report: Any) -> tuple[Any, str]:
        shown, text = draw(report)
        said = {column.name for column in new_table(None, report.columns).columns}
        for table in getattr(shown, "renderables", [shown]):
            if report.columns and isinstance(table, Table):
                more = {column.name for column in table.columns if not column.name[:1].isdigit()} - said
                assert not more - {""}, f"{type(report).__name__}.columns has not {more}"
        return shown, text

    monkeypatch.setattr(emit, "_drawn", drawn)


Forks = Callable[..., AbstractContextManager[list[int]]]


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Forks:
    """forks(vmas, children, depth, write=False, huge=0): forks.c running, and the pids of its processes. Skips without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None and not REQUIRE_ALL:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("forks") / "forks"
    source = Path(__file__).with_name("forks.c")
    subprocess.run([str(compiler), "-O1", "-static", "-o", program, source], check=True)

    @contextmanager
    def run(vmas: int, children: int, depth: int, *, write: bool = False, huge: int = 0) -> Iterator[list[int]]:
        arguments = [str(program), *map(str, (vmas, children, depth, int(write), huge))]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as root:
            assert root.stdout is not None
            try:
                yield [int(pid) for pid in root.stdout.readline().split()]
            finally:
                root.kill()

    return run


@pytest.fixture(scope="session")
def strace() -> str:
    """The program. Skips where there is none."""
    return needed("strace")
