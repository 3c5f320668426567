"""What tests on several floors share: a family of real processes (forks.c)."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))

HOST = ("host/", "cli/test_live", "cli/test_who", "cli/test_check", "cli/test_main_job", "cli/test_record", "cli/test_rerun", "lab/differential/test_compare",
        "lab/census/test_census", "calls/test_table", "benchmarks/test_against")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks the real kernel is not disturbed by tests beside it."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(HOST):
            item.add_marker("host")


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
    found = shutil.which("strace")
    if found is None:
        if REQUIRE_ALL:
            raise RuntimeError("no strace is installed")
        pytest.skip("no strace")
    return found
